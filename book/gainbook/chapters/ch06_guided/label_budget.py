"""Rows about training with masks for a share of the defective groups: means over draws.

A draw decides which groups have masks. Measures are averaged over the draws of a share, with
intervals over groups of test images. So an interval is about the choice of test images, and the
spread of the single draws shows how much depends on which training parts have masks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gainbook.lab.catalogue import BOTH, MASK_SHARES, MINING_ALONE, with_share
from gainbook.lab.measures import Measure, measure_rows, paired_rows
from gainbook.lab.systems import System
from gainbook.lab.tables import Column, find, pooled_row, present
from gainmtl import metrics
from gainmtl.datasets.data import Data, Described
from gainmtl.evaluation.scoring import Scores
from gainmtl.evaluation.stats import (
    bootstrap_interval,
    paired_interval,
    percentile_interval,
    resample_weights,
)

MAPS = ("cam", "defect_map")
MAX_DRAWS = 3
_RANKING: dict[str, Callable[..., float]] = {
    "auroc": metrics.auroc,
    "recall_at_fpr05": lambda scores, labels: metrics.recall_at_fpr(scores, labels, 0.05),
}
_PER_IMAGE = tuple(
    Measure(metric, f"{name}.{metric}", name)
    for name in MAPS
    for metric in ("iou", "point_game", "positive_energy", "false_activation")
)


def over_draws(share: float, draws: int) -> System:
    """The name and condition of result rows about the mean over draws; it is not trained."""
    return BOTH._replace(
        tag=f"GAIN-masks{share:g}",
        label=f"masks for {share:.0%} of the groups",
        masks=(("share", share), ("draws", draws)),
    )


class Marked(NamedTuple):
    """How much of a training set has masks."""

    groups: int
    images: int


def marked(data: Data) -> Marked:
    """Defective training groups and images that have a mask."""
    train = cast(Described, data.train)
    chosen = train.labels & train.has_mask
    groups = {group for group, has in zip(train.groups, chosen, strict=True) if has}
    return Marked(len(groups), int(chosen.sum()))


def draw_rows(
    runs: Sequence[Scores], dataset: str, system: System, resamples: int = 2000
) -> list[dict[str, Any]]:
    """Rows of the measures of several draws: means over the draws, with intervals over groups.

    Measures per image are averaged over the draws first. A ranking or a pixel AP is computed for
    each draw and averaged, on every resample anew: a ranking by the averaged *probabilities* would
    be that of an ensemble.
    """
    table = _mean_table(runs)
    groups, labels = table["group"].to_numpy(), table["is_defective"].to_numpy(bool)
    rows = measure_rows(table, _PER_IMAGE, dataset, system, resamples)
    for metric, function in _RANKING.items():
        interval = bootstrap_interval(
            _mean_over_columns(function), groups, _probabilities(runs), labels, resamples=resamples
        )
        rows.append(pooled_row(dataset, system, metric, interval))
    weights = resample_weights(groups, resamples)
    for name in MAPS:
        histograms = [scores.histograms[name] for scores in runs]
        value = float(np.mean([h.average_precision() for h in histograms]))
        replicates = np.mean([h.average_precision(weights) for h in histograms], axis=0)
        interval = percentile_interval(value, replicates, groups)
        rows.append(pooled_row(dataset, system, "pixel_ap", interval, name))
    return rows


def draw_differences(
    runs: Sequence[Scores],
    other: Scores,
    dataset: str,
    system: System,
    second: System,
    resamples: int = 2000,
) -> list[dict[str, Any]]:
    """Rows `<measure>_difference`: the mean over draws minus another system, on the same images."""
    table = _mean_table(runs)
    rows = paired_rows(table, other.images, _PER_IMAGE, dataset, system, second, resamples)
    groups, labels = table["group"].to_numpy(), table["is_defective"].to_numpy(bool)
    for metric, function in _RANKING.items():
        pair = _probabilities(runs), _probabilities([other])
        interval = paired_interval(
            _mean_over_columns(function), groups, *pair, [labels], resamples=resamples
        )
        rows.append(
            pooled_row(dataset, system, f"{metric}_difference", interval, **second.as_other)
        )
    return rows


def _mean_table(runs: Sequence[Scores]) -> pd.DataFrame:
    """The images of the first run, with measures averaged over the runs."""
    tables = [scores.images for scores in runs]
    if any(list(table["name"]) != list(tables[0]["name"]) for table in tables):
        raise ValueError("label budget: expected runs tested on the same images, in one order")
    means = {
        measure.column: np.stack([t[measure.column].to_numpy(float) for t in tables], 1).mean(1)
        for measure in _PER_IMAGE
    }
    return tables[0].assign(**means)


def _probabilities(runs: Sequence[Scores]) -> NDArray[np.float64]:
    """(N, D): the defect probabilities of each draw."""
    return np.stack([run.images["defect_probability"].to_numpy(float) for run in runs], 1)


def _mean_over_columns(function: Callable[..., float]) -> Callable[..., float]:
    """The mean over the columns of scores (N, D) of a statistic of one column and the labels."""

    def mean(scores: NDArray[Any], labels: NDArray[Any]) -> float:
        return float(np.mean([function(column, labels) for column in scores.T]))

    return mean


class Place(NamedTuple):
    """A share of masks among result rows: a line of a table and a point of a figure."""

    setting: str
    """Below the point."""
    system: System
    draws: tuple[System, ...] = ()
    """The draws that the system is the mean of."""
    is_apart: bool = False
    """Whether it differs from the others in more than the share."""


ALONE = Place("mining\nalone", MINING_ALONE._replace(label="no masks, mining alone"), (), True)
"""No loss on the map at all; all shares also train on the empty masks of normal parts."""


def places(rows: pd.DataFrame | None) -> list[Place]:
    """The shares of masks that result rows hold, from none to all."""
    if rows is None:
        return []
    known = [ALONE] if present(rows, [MINING_ALONE]) else []
    for share in MASK_SHARES:
        draws = present(rows, [with_share(share, draw) for draw in range(MAX_DRAWS)])
        if draws:
            known.append(_place(rows, share, over_draws(share, len(draws)), tuple(draws)))
    if present(rows, [BOTH]):
        known.append(_place(rows, 1.0, BOTH))
    return known


def _place(rows: pd.DataFrame, share: float, system: System, draws: Any = ()) -> Place:
    groups = find(rows, BOTH, "marked_groups", mask_share=share).value
    label = f"masks for {share:.0%}, {groups:.0f} tiles"
    label += f", mean of {len(draws)} draws" if len(draws) > 1 else ""
    return Place(f"{share:.0%}\n{groups:.0f}", system._replace(label=label), draws)


def budget_table(
    rows: pd.DataFrame, places: Iterable[Place], measures: Mapping[str, Column]
) -> pd.DataFrame:
    """The data of `plots.by_setting`: a panel per measure, a point per share of masks."""
    lines = []
    for title, (metric, map, condition) in measures.items():
        for place in places:
            value = find(rows, place.system, metric, map, **condition)
            draws = tuple(find(rows, s, metric, map, **condition).value for s in place.draws)
            lines.append((title, place.setting, *value[:3], draws, place.is_apart))
    columns = ["panel", "setting", "value", "ci_low", "ci_high", "draws", "is_apart"]
    return pd.DataFrame(lines, columns=columns)
