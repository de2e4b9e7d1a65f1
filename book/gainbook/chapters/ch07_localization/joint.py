"""Classifying and locating, apart and together: by defect size, in pairs, and what that decides."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gainbook.chapters.ch07_localization.verdict_from_map import (
    CONDITION,
    ask_folds,
    by_map,
    with_area,
)
from gainbook.lab.chapter_results import Results, merge, own_note, result_rows, stored_results
from gainbook.lab.comparison import compare
from gainbook.lab.components import LOCALIZATION_ALONE, PLAIN, TOGETHER
from gainbook.lab.judge import Judgement
from gainbook.lab.parameters import Parameters
from gainbook.lab.protocol import Pooled
from gainbook.lab.reference import System, load_fold, run
from gainbook.lab.results_file import row
from gainbook.lab.tables import Value
from gainmtl import metrics
from gainmtl.evaluation.stats import (
    Interval,
    bootstrap_interval,
    paired_interval,
    percentile_interval,
    resample_weights,
)

SYSTEMS = (PLAIN, LOCALIZATION_ALONE, TOGETHER)
SIZES = ("small", "medium", "large")
"""Thirds of the defective images by the share of the image under the mask."""
SIZED_MAPS = ("iou", "point_game", "positive_energy")


def size_classes(area: NDArray[np.float64]) -> NDArray[np.str_]:
    """One of `SIZES` for each share (N,), `""` where it is NaN: thirds of the defined shares.

    Equal shares stay in one class, the lower one. A property of the images, the same for every
    system; nothing is chosen by it.
    """
    classes = np.full(len(area), "", dtype="<U6")
    known = ~np.isnan(area)
    if known.any():
        edges = np.quantile(area[known], [1 / 3, 2 / 3])
        classes[known] = np.array(SIZES)[np.searchsorted(edges, area[known], side="left")]
    return classes


def against(system: System, verdict_by_map: bool = False) -> dict[str, Any]:
    """What rows of a difference carry where `system` is subtracted."""
    own = CONDITION if verdict_by_map else {}
    return {**system.as_other, **{f"against_{key}": value for key, value in own.items()}}


def brief_rows(pooled: Pooled, dataset: str, resamples: int = 2000) -> list[dict[str, Any]]:
    """`auroc`, `recall`, and of the defect map `pixel_ap`, `false_activation` and `SIZED_MAPS`.

    Intervals over groups, for a live part that has no time for all that `evaluate.tidy` measures.
    """
    images, rows = pooled.scores.images, []
    groups = images["group"].to_numpy()
    everything = images["is_defective"].to_numpy(bool)
    figures: list[tuple[str, str | None, Interval]] = []
    for metric, name, (function, arrays), keep in _sized(images, everything):
        kept = [array[keep] for array in arrays]
        found = bootstrap_interval(function, groups[keep], *kept, resamples=resamples)
        figures.append((metric, name, found))
    dark = images["defect_map.false_activation"].to_numpy(float)
    keep = ~np.isnan(dark)
    found = bootstrap_interval(np.mean, groups[keep], dark[keep], resamples=resamples)
    figures.append(("false_activation", "defect_map", found))
    counts = pooled.scores.histograms["defect_map"]
    replicates = counts.average_precision(resample_weights(groups, resamples))
    value = float(counts.average_precision())
    figures.append(("pixel_ap", "defect_map", percentile_interval(value, replicates, groups)))
    for metric, name, found in figures:
        rows.append(
            row(dataset, pooled.system, metric, found.value, condition=pooled.condition, map=name,
                **found.ends)
        )  # fmt: skip
    return rows


def size_rows(pooled: Pooled, dataset: str, resamples: int = 2000) -> list[dict[str, Any]]:
    """Rows by defect size: `auroc` (against all normal images), `recall`, and of the defect map
    `SIZED_MAPS`; `area`, the largest share of the class. The condition says the `size`."""
    images = pooled.scores.images
    classes = size_classes(images["area"].to_numpy(float))
    rows = []
    for size in SIZES:
        condition = {**pooled.condition, "size": size}
        largest = float(images.loc[classes == size, "area"].max())
        rows.append(row(dataset, pooled.system, "area", largest, condition=condition))
        for metric, name, columns, keep in _sized(images, classes == size):
            function, arrays = columns
            found = bootstrap_interval(
                function, images["group"][keep], *(a[keep] for a in arrays), resamples=resamples
            )
            rows.append(
                row(dataset, pooled.system, metric, found.value, condition=condition, map=name,
                    **found.ends)
            )  # fmt: skip
    return rows


def size_differences(
    a: Pooled, b: Pooled, dataset: str, resamples: int = 2000
) -> list[dict[str, Any]]:
    """`size_rows` of a minus those of b on the same images, metrics suffixed `_difference`."""
    left, right = (p.scores.images.sort_values("name", ignore_index=True) for p in (a, b))
    _check_same(left, right)
    classes = size_classes(left["area"].to_numpy(float))
    other = {"against": b.system, **{f"against_{k}": v for k, v in b.condition.items()}}
    rows = []
    for size in SIZES:
        pairs = zip(_sized(left, classes == size), _sized(right, classes == size), strict=True)
        for (metric, name, (function, x), keep), (_, _, (_, y), there) in pairs:
            both = keep & there
            found = paired_interval(
                function, left["group"][both], x[0][both], y[0][both],
                [shared[both] for shared in x[1:]], resamples=resamples,
            )  # fmt: skip
            rows.append(
                row(dataset, a.system, f"{metric}_difference", found.value, map=name,
                    condition={**a.condition, **other, "size": size},
                    **found.ends)
            )  # fmt: skip
    return rows


def pixel_ap_difference(
    a: Pooled, b: Pooled, dataset: str, resamples: int = 2000, map: str = "defect_map"
) -> list[dict[str, Any]]:
    """The row `pixel_ap_difference` of the maps, a - b, over the same resampled groups."""
    _check_same(a.scores.images, b.scores.images)
    groups = a.scores.images["group"].to_numpy()
    first, second = (p.scores.histograms[map] for p in (a, b))
    weights = resample_weights(groups, resamples)
    value = float(first.average_precision()) - float(second.average_precision())
    replicates = first.average_precision(weights) - second.average_precision(weights)
    found = percentile_interval(value, replicates, groups)
    other = {"against": b.system, **{f"against_{k}": v for k, v in b.condition.items()}}
    return [
        row(dataset, a.system, "pixel_ap_difference", value, condition={**a.condition, **other},
            map=map, **found.ends)
    ]  # fmt: skip


def joint_results(parameters: Parameters) -> Results:
    """The three `SYSTEMS` on the parameters' data set, or what the book comes with.

    Localization alone answers *whether* by its map, see `map_verdicts`; the joint system by its
    classifier, and by its map beside it. Its folds are read, or trained where they are not there.
    """
    p = parameters
    if p.dataset == "synthetic":
        return stored_results(p.notebook)
    pooled = {system.tag: run(p, system) for system in SYSTEMS}
    systems: dict[str, list[Pooled]] = {}
    for place, seed in enumerate(p.seeds):
        data_of = load_fold(p, seed)
        answers = {
            system.tag: ask_folds(pooled[system.tag][place], data_of)
            for system in (LOCALIZATION_ALONE, TOGETHER)
        }
        sized = {tag: with_area(runs[place], answers[TOGETHER.tag]) for tag, runs in pooled.items()}
        made = {
            "plain": sized[PLAIN.tag],
            "alone": by_map(sized[LOCALIZATION_ALONE.tag], answers[LOCALIZATION_ALONE.tag]),
            "joint": sized[TOGETHER.tag],
            "joint by map": by_map(sized[TOGETHER.tag], answers[TOGETHER.tag]),
        }
        for name, one in made.items():
            systems.setdefault(name, []).append(one)
    parts = [result_rows(runs, p.seeds, p.dataset) for runs in systems.values()]
    whole = {name: merge(runs, p.seeds) for name, runs in systems.items()}
    extra: list[dict[str, Any]] = []
    for one in whole.values():
        extra += size_rows(one, p.dataset)
    for a, b in (("joint", "plain"), ("joint", "alone"), ("joint by map", "alone")):
        parts.append(compare(whole[a], whole[b], p.dataset).drop(columns="p_value"))
        extra += size_differences(whole[a], whole[b], p.dataset)
        extra += pixel_ap_difference(whole[a], whole[b], p.dataset)
    rows = pd.concat([*parts, pd.DataFrame(extra)], ignore_index=True)
    return Results(rows, own_note(p), pooled)


def judge_together(auroc: Value, pixel_ap: Value) -> Judgement:
    """Does classifying and locating together beat either alone? Fixed before it was measured.

    `auroc` is the joint classifier's minus the plain one's, `pixel_ap` the joint defect map's minus
    that of localization alone; on the same images, with 95 % intervals over groups. *Confirmed* if
    both intervals lie above 0; *refined* if one does and the other does not lie below 0; *refuted*
    if one lies below 0 and none above, or if they contradict each other; *out of reach here* if
    both hold 0: so many groups can't tell.
    """
    figures = {"AUROC against the plain classifier": auroc,
               "pixel AP against localization alone": pixel_ap}  # fmt: skip
    above = [value.low > 0 for value in figures.values()]
    below = [value.high < 0 for value in figures.values()]
    verdict = "out of reach here"
    if any(below):
        verdict = "refuted"
    elif any(above):
        verdict = "confirmed" if all(above) else "refined"
    return Judgement(verdict, figures)


def _sized(images: pd.DataFrame, chosen: NDArray[np.bool_]) -> list[tuple[Any, ...]]:
    """Metric, map, (function, arrays) and the images that count, for the defects `chosen`."""
    labels = images["is_defective"].to_numpy(bool)
    score = images["defect_probability"].to_numpy(float)
    flagged = images["is_flagged"].to_numpy(float)
    found: list[tuple[Any, ...]] = [
        ("auroc", None, (metrics.auroc, [score, labels]), chosen | ~labels),
        ("recall", None, (np.mean, [flagged]), chosen),
    ]
    for measure in SIZED_MAPS:
        values = images[f"defect_map.{measure}"].to_numpy(float)
        keep = chosen & ~np.isnan(values)
        found.append((measure, "defect_map", (np.mean, [values]), keep))
    return [one for one in found if one[3].any()]


def _check_same(left: pd.DataFrame, right: pd.DataFrame) -> None:
    if list(left["name"]) != list(right["name"]):
        raise ValueError("joint: the two systems were not tested on the same images")
