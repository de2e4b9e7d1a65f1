"""What masks buy: systems that were given fewer or coarser ones, as result rows.

A share of the defective training groups has masks, and which ones is drawn; several draws of one
share are averaged image by image, and intervals are over groups of test images. So an interval says
how surely the average is known, and the draws beside each other say how much hangs on which parts
were marked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gainbook.lab import components
from gainbook.lab.reference import System
from gainbook.lab.tables import Value, pooled_row
from gainmtl import metrics
from gainmtl.datasets.data import Data, Described
from gainmtl.evaluation.scoring import Scores
from gainmtl.evaluation.stats import (
    bootstrap_interval,
    paired_interval,
    percentile_interval,
    resample_weights,
)

_RANKING: dict[str, Callable[..., float]] = {
    "auroc": metrics.auroc,
    "recall_at_fpr05": lambda scores, labels: metrics.recall_at_fpr(scores, labels, 0.05),
}
_PER_IMAGE = ("iou", "point_game", "positive_energy", "false_activation")
MAPS = ("cam", "defect_map")


def over_draws(share: float, draws: int) -> System:
    """What stands in result rows for the mean over so many draws of a share; it has no folder."""
    return components.BOTH._replace(
        tag=f"GAIN-masks{share:g}",
        label=f"masks for {share:.0%} of the groups",
        masks=(("share", share), ("draws", draws)),
    )


class Point(NamedTuple):
    """One place on a dial, as a figure draws it."""

    tick: str
    """What stands below it."""
    value: Value
    draws: tuple[float, ...] = ()
    """The runs that the value is the mean of."""
    is_apart: bool = False
    """Whether it differs from the others in more than the dial; not joined to them by a line."""


class Marked(NamedTuple):
    """How much of a training set somebody has marked."""

    groups: int
    images: int


def marked(data: Data) -> Marked:
    """Defective training groups and images that have a mask."""
    train = cast(Described, data.train)
    chosen = train.labels & train.has_mask
    named = {g for g, has in zip(train.groups, chosen, strict=True) if has}
    return Marked(len(named), int(chosen.sum()))


def mean_over_draws(
    runs: Sequence[Scores], dataset: str, system: System, resamples: int = 2000
) -> list[dict[str, Any]]:
    """Rows of the measures of several draws, each the mean over draws, with intervals over groups.

    Measures per image are averaged over draws first. A ranking or a pixel AP is computed for each
    draw and averaged, on every resample anew; averaging the *probabilities* would make an ensemble.
    """
    tables = [one.images for one in runs]
    first = _same_images(tables)
    groups, labels = first["group"].to_numpy(), first["is_defective"].to_numpy(bool)
    rows: list[dict[str, Any]] = []

    def add(metric: str, found: Any, map_name: str | None = None) -> None:
        rows.append(pooled_row(dataset, system, metric, found, map_name))

    said = _columns(tables, "defect_probability")
    for metric, function in _RANKING.items():
        statistic = _mean_of(function)
        add(metric, bootstrap_interval(statistic, groups, said, labels, resamples=resamples))
    weights = resample_weights(groups, resamples)
    for name in MAPS:
        for measure in _PER_IMAGE:
            values = _columns(tables, f"{name}.{measure}").mean(1)
            keep = ~np.isnan(values)
            if keep.any():
                found = bootstrap_interval(np.mean, groups[keep], values[keep], resamples=resamples)
                add(measure, found, name)
        histograms = [one.histograms[name] for one in runs]
        value = float(np.mean([h.average_precision() for h in histograms]))
        replicates = np.mean([h.average_precision(weights) for h in histograms], axis=0)
        add("pixel_ap", percentile_interval(value, replicates, groups), name)
    return rows


def draws_minus(
    runs: Sequence[Scores],
    other: Scores,
    dataset: str,
    system: System,
    second: System,
    resamples: int = 2000,
) -> list[dict[str, Any]]:
    """Rows `<measure>_difference`: the mean over draws minus another system, on the same images."""
    tables = [one.images for one in runs]
    first = _same_images([*tables, other.images])
    groups, labels = first["group"].to_numpy(), first["is_defective"].to_numpy(bool)
    against = second.as_other
    rows: list[dict[str, Any]] = []
    for metric, function in _RANKING.items():
        a = _columns(tables, "defect_probability")
        b = _columns([other.images], "defect_probability")
        found = paired_interval(_mean_of(function), groups, a, b, [labels], resamples=resamples)
        rows.append(pooled_row(dataset, system, f"{metric}_difference", found, **against))
    for name in MAPS:
        for measure in _PER_IMAGE:
            a = _columns(tables, f"{name}.{measure}").mean(1)
            b = other.images[f"{name}.{measure}"].to_numpy(float)
            keep = ~np.isnan(a) & ~np.isnan(b)
            if keep.any():
                pair = a[keep], b[keep]
                found = paired_interval(np.mean, groups[keep], *pair, resamples=resamples)
                metric = f"{measure}_difference"
                rows.append(pooled_row(dataset, system, metric, found, name, **against))
    return rows


def _columns(tables: Sequence[pd.DataFrame], name: str) -> NDArray[np.float64]:
    """(N, D): one column of each table."""
    return np.stack([table[name].to_numpy(float) for table in tables], 1)


def _mean_of(function: Callable[..., float]) -> Callable[..., float]:
    """The mean over the columns of scores (N, D) of a statistic of one column and the labels."""

    def mean(scores: NDArray[Any], labels: NDArray[Any]) -> float:
        return float(np.mean([function(column, labels) for column in scores.T]))

    return mean


def _same_images(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The first of several tables, which must be about the same images in the same order."""
    names = [list(table["name"]) for table in tables]
    if any(one != names[0] for one in names):
        raise ValueError("label budget: the runs were not tested on the same images")
    return tables[0]
