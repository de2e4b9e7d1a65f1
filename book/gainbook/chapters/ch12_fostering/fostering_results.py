"""What fostering changed: two systems on the same images, and all that the chapter reports."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gainbook.chapters.ch04_maps.map_scores import FAITHFULNESS
from gainbook.chapters.ch12_fostering.fostering_claims import choose_beta
from gainbook.chapters.ch12_fostering.sharpness_scores import (
    SHARPNESS,
    middle,
    score_sharpness,
    sharpness_rows,
)
from gainbook.lab.chapter_results import Results, merge, results
from gainbook.lab.comparison import compare
from gainbook.lab.parameters import Parameters
from gainbook.lab.protocol import Pooled
from gainbook.lab.reference import System, is_finished, load_fold
from gainbook.lab.results_file import row
from gainbook.lab.tables import pooled_row
from gainmtl.evaluation.stats import (
    bootstrap_interval,
    paired_interval,
    percentile_interval,
    resample_weights,
)
from gainmtl.fostering import ZEROS
from gainmtl.io import load

Array = NDArray[Any]
RATIOS = tuple(SHARPNESS)[:4]
"""What is compared as a ratio of means or medians, from both zeros; all else as a difference."""
COMPARED = ("pixel_precision", *FAITHFULNESS)


def sharpness_differences(
    a: pd.DataFrame,
    b: pd.DataFrame,
    dataset: str,
    first: System,
    second: System,
    resamples: int = 2000,
    pointing: bool = True,
) -> list[dict[str, Any]]:
    """Rows `<metric>_ratio` and `<metric>_difference`, a over or minus b, on the same images.

    Of images where both are defined. What depends on the map's zero has `zero` in the condition.
    `weak_gain_difference`: the gain in positive energy, from the verdict's zero, on defects whose
    `strength` is below the median, minus that on the others. `pointing` as in `sharpness_rows`.
    """
    left, right = (t.sort_values("name", ignore_index=True) for t in (a, b))
    if list(left["name"]) != list(right["name"]):
        raise ValueError("sharpness_differences: the two systems were not asked about one set")
    rows: list[dict[str, Any]] = []

    def add(metric: str, found: Any, **about: Any) -> None:
        about = {**second.as_other, **about}
        rows.append(pooled_row(dataset, first, metric, found, "cam", **about))

    def pair(column: str) -> tuple[Array, Array, Array]:
        """Groups and both columns where both are defined."""
        x, y = (t[column].to_numpy(float) for t in (left, right))
        keep = ~np.isnan(x) & ~np.isnan(y)
        return left["group"].to_numpy()[keep], x[keep], y[keep]

    for zero in ZEROS:
        for metric in RATIOS:
            groups, x, y = pair(f"{zero}.{metric}")
            if len(groups):
                ratio = functools.partial(_ratio, middle(metric))
                found = bootstrap_interval(ratio, groups, x, y, resamples=resamples)
                add(f"{metric}_ratio", found, zero=zero)
        for metric in ("cam_contrast", "positive_energy"):
            groups, x, y = pair(f"{zero}.{metric}")
            if len(groups):
                gap = paired_interval(np.mean, groups, x, y, resamples=resamples)
                add(f"{metric}_difference", gap, zero=zero)
    for metric in (("point_game",) if pointing else ()) + COMPARED:
        groups, x, y = pair(metric)
        if len(groups):
            gap = paired_interval(np.mean, groups, x, y, resamples=resamples)
            add(f"{metric}_difference", gap)
    energy = "verdict.positive_energy"
    gain = (left[energy] - right[energy]).to_numpy(float)
    strength = left["strength"].to_numpy(float)
    keep = ~np.isnan(gain) & ~np.isnan(strength)
    weak = strength[keep] < np.median(strength[keep])
    groups = left["group"].to_numpy()[keep]
    add(
        "weak_gain_difference",
        bootstrap_interval(_weak_gain, groups, gain[keep], weak, resamples=resamples),
    )
    return rows


def _ratio(centre: Callable[[Array], Any], over: Array, under: Array) -> float:
    above, below = float(centre(over)), float(centre(under))
    return above / below if below and math.isfinite(above + below) else math.nan


def _weak_gain(gain: Array, weak: Array) -> float:
    if weak.all() or not weak.any():
        return math.nan
    return float(gain[weak].mean() - gain[~weak].mean())


def pixel_ap_difference(
    a: Pooled,
    b: Pooled,
    dataset: str,
    first: System,
    second: System,
    resamples: int = 2000,
) -> dict[str, Any]:
    """The row `pixel_ap_difference` of the pooled pixels of both systems' evidence maps."""
    if list(a.scores.images["name"]) != list(b.scores.images["name"]):
        raise ValueError("pixel_ap_difference: the two systems were not tested on the same images")
    groups = a.scores.images["group"].to_numpy()
    weights = resample_weights(groups, resamples)
    x, y = (p.scores.histograms["cam"] for p in (a, b))
    value = float(x.average_precision()) - float(y.average_precision())
    draws = x.average_precision(weights) - y.average_precision(weights)
    found = percentile_interval(value, draws, groups)
    against = second.as_other
    return pooled_row(dataset, first, "pixel_ap_difference", found, "cam", **against)


def training_rows(pooled: Sequence[Pooled], dataset: str, system: System) -> list[dict[str, Any]]:
    """What the training said at its end, means over folds and seeds.

    `validation_auroc` (split "val"), by which a beta is chosen, and
    `fostering_vanished` (split "train"), the guard's rate over the last epoch.
    """
    last = pd.concat([one.histories.groupby("fold").last() for one in pooled])
    wanted = {"auroc": ("validation_auroc", "val"), "fostering_vanished": (None, "train")}
    return [
        row(
            dataset,
            system.name,
            metric or column,
            float(last[column].mean()),
            split=split,
            condition=system.condition,
            n=len(last),
        )
        for column, (metric, split) in wanted.items()
        if column in last
    ]


def _kept(rows: pd.DataFrame, folds: bool = True) -> pd.DataFrame:
    """What the file keeps: nothing of single defect types, of single folds no oracle, and of those
    systems that are only compared, without `folds`, nothing of single folds."""
    about = rows["condition"]
    whole = rows["fold"].isna()
    single = whole | (folds & about.map(lambda condition: "oracle" not in condition))
    return rows[about.map(lambda condition: "defect_type" not in condition) & single]


def fostering_results(
    parameters: Parameters,
    sweep: Mapping[float, System],
    extras: Callable[[float], Sequence[tuple[System, System]]],
    more: bool = False,
    faithful: int = 8,
) -> Results:
    """`findings.results` of a sweep over beta, with sharpness, worth and paired changes of maps.

    Every system is compared with that of beta 0, and `extras(chosen beta)` in pairs, first minus
    second: those whose folds are all there, or with `more` all of them, trained where they are not.
    With `dataset="synthetic"` the chapter's reference results are read. `faithful` images per fold
    are asked for faithfulness.
    """
    p = parameters
    found = results(p, list(sweep.values()))
    if not found.pooled or found.rows is None:
        return found
    parts, pooled = [_kept(found.rows)], dict(found.pooled)
    rows = [one for s in sweep.values() for one in training_rows(found.pooled[s.tag], p.dataset, s)]
    chosen = choose_beta(pd.DataFrame(rows), sweep)
    pairs = [(system, sweep[0.0]) for beta, system in sweep.items() if beta]
    for pair in extras(chosen or max(sweep)):
        if more or all(system.tag in pooled or is_finished(p, system) for system in pair):
            pairs.append(pair)
    systems = {system.tag: system for pair in pairs for system in reversed(pair)}
    others = [system for tag, system in systems.items() if tag not in pooled]
    if others:
        extra = results(p, others)
        assert extra.rows is not None
        parts.append(_kept(extra.rows, folds=False))
        pooled |= extra.pooled
        for system in others:
            rows += training_rows(pooled[system.tag], p.dataset, system)
    tables: dict[str, pd.DataFrame] = {}
    for system in systems.values():
        by_fold = []
        for seed, one in zip(p.seeds, pooled[system.tag], strict=True):
            data_of = load_fold(p, seed)
            for fold, path in enumerate(one.model_paths):
                table = score_sharpness(load(path), data_of(fold).test, faithful)
                if len(p.seeds) > 1:
                    table["name"] += f", seed {seed}"
                by_fold.append(table)
        tables[system.tag] = pd.concat(by_fold, ignore_index=True)
        rows += sharpness_rows(tables[system.tag], p.dataset, system, pointing=False)
    merged = {tag: merge(runs, p.seeds) for tag, runs in pooled.items()}
    for a, b in pairs:
        first, second = merged[a.tag], merged[b.tag]
        parts.append(_kept(compare(first, second, p.dataset).drop(columns="p_value")))
        both = tables[a.tag], tables[b.tag]
        rows += sharpness_differences(*both, p.dataset, a, b, pointing=False)
        rows.append(pixel_ap_difference(first, second, p.dataset, a, b))
    table = pd.concat([*parts, pd.DataFrame(rows)], ignore_index=True)
    return Results(table, found.note, pooled)
