"""Result rows per system and paired differences, from the pooled scores of all folds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from gainbook.lab.protocol import Pooled, pool
from gainbook.lab.results_file import row
from gainmtl import metrics
from gainmtl.evaluation.scoring import Scores
from gainmtl.evaluation.stats import (
    bootstrap_interval,
    mean_over_types,
    paired_interval,
    percentile_interval,
    resample_weights,
)
from gainmtl.evaluation.tidy import CLASS_MEASURES, class_codes, tidy_rows


def pooled_rows(pooled: Pooled, dataset: str, seed: int, resamples: int = 2000) -> pd.DataFrame:
    """Tidy rows: one set per fold without intervals, one pooled (seed and fold null) with them."""
    about = dataset, "test", pooled.system, pooled.condition
    rows = [
        tidy_rows(part, *about, seed=seed, fold=fold, resamples=0)
        for fold, part in zip(_fold_numbers(pooled), pooled.folds, strict=True)
    ]
    rows.append(tidy_rows(pooled.scores, *about, resamples=resamples))
    return pd.concat(rows, ignore_index=True)


def _fold_numbers(pooled: Pooled) -> Sequence[int]:
    """Which folds were run; where several seeds were merged, their places."""
    ran = list(dict.fromkeys(int(fold) for fold in pooled.histories["fold"]))
    return ran if len(ran) == len(pooled.folds) else range(len(pooled.folds))


COMPARED: dict[str, tuple[str, Callable[..., float]]] = {
    "auroc": ("defect_probability", metrics.auroc),
    "average_precision": ("defect_probability", metrics.average_precision),
    "recall_at_fpr05": (
        "defect_probability",
        lambda scores, labels: metrics.recall_at_fpr(scores, labels, 0.05),
    ),
    "accuracy": ("is_flagged", lambda flagged, labels: metrics.accuracy(flagged, labels)),
    "recall": ("is_flagged", lambda flagged, labels: metrics.recall(flagged, labels)),
}


def compare(a: Pooled, b: Pooled, dataset: str, resamples: int = 2000) -> pd.DataFrame:
    """Paired differences a - b on the same images, intervals over the same resampled groups.

    Metrics carry the suffix `_difference`; `p_value` is two-sided. The condition of a row holds a's
    and, under `against`, b's name and condition.
    """
    left, right = (p.scores.images.sort_values("name", ignore_index=True) for p in (a, b))
    if list(left["name"]) != list(right["name"]):
        raise ValueError("compare: the two systems were not tested on the same images")
    labels = left["is_defective"].to_numpy(bool)
    groups = left["group"].to_numpy()
    kinds = left["defect_type"].to_numpy(str)
    against = {"against": b.system, **{f"against_{k}": v for k, v in b.condition.items()}}
    rows: list[dict[str, Any]] = []

    def add(metric: str, map_name: str | None, interval: Any, **extra: Any) -> None:
        condition = {**a.condition, **against, **extra}
        one = row(dataset, a.system, f"{metric}_difference", interval.value, condition=condition,
                  map=map_name, **interval.ends)  # fmt: skip
        rows.append(one | {"p_value": interval.p_value})

    for metric, (column, function) in COMPARED.items():
        x, y = (t[column].to_numpy(float) for t in (left, right))
        add(metric, None, paired_interval(function, groups, x, y, [labels], resamples=resamples))
    if all("predicted_type" in t.columns for t in (left, right)):
        x, y, true = class_codes(left["predicted_type"], right["predicted_type"], kinds)
        for metric, of_class in CLASS_MEASURES.items():
            found = paired_interval(of_class, groups, x, y, [true], resamples=resamples)
            add(metric, None, found)
    for name in ("cam", "defect_map"):
        for measure in ("iou", "point_game", "energy_inside", "positive_energy"):
            if not all(f"{name}.{measure}" in t.columns for t in (left, right)):
                continue  # a system without that map
            values = [t[f"{name}.{measure}"].to_numpy(float) for t in (left, right)]
            keep = ~np.isnan(values[0]) & ~np.isnan(values[1])
            if not keep.any():
                continue
            x, y = values[0][keep], values[1][keep]
            add(measure, name, paired_interval(np.mean, groups[keep], x, y, resamples=resamples))
            typed = paired_interval(
                mean_over_types, groups[keep], x, y, [kinds[keep]], resamples=resamples
            )
            add(measure, name, typed, defect_type="mean over types")
    return pd.DataFrame(rows)


def with_seed(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """A table of images with the seed in their names, so that those of several seeds differ."""
    return table.assign(name=table["name"] + f", seed {seed}")


def merge(pooled: Sequence[Pooled], seeds: Sequence[int]) -> Pooled:
    """The runs of several seeds as one: each image as often as there are seeds, its group kept.

    The width of intervals depends on the number of groups; more seeds only steady the figure.
    """
    if len(pooled) == 1:
        return pooled[0]
    parts = [
        run.scores._replace(images=with_seed(run.scores.images, seed))
        for run, seed in zip(pooled, seeds, strict=True)
    ]
    return pooled[0]._replace(
        folds=parts,
        scores=pool(parts),
        histories=pd.concat(
            [run.histories.assign(seed=seed) for run, seed in zip(pooled, seeds, strict=True)]
        ),
        commits=tuple(dict.fromkeys(commit for run in pooled for commit in run.commits)),
        seconds=sum(run.seconds for run in pooled),
        model_paths=tuple(path for run in pooled for path in run.model_paths),
    )


def result_rows(
    pooled: Sequence[Pooled], seeds: Sequence[int], dataset: str, resamples: int = 2000
) -> pd.DataFrame:
    """One set of rows per seed and fold, and one pooled over both with intervals over groups."""
    by_fold = [
        pooled_rows(run, dataset, seed, resamples=0)
        for run, seed in zip(pooled, seeds, strict=True)
    ]
    merged = merge(pooled, seeds)
    whole = pooled_rows(merged, dataset, seeds[0], resamples)
    parts = [rows[rows["fold"].notna()] for rows in by_fold] + [whole[whole["fold"].isna()]]
    shared = {"dataset": dataset, "split": "test", "system": merged.system}
    parts.append(wrong_reason(merged.scores, shared, merged.condition, resamples))
    return pd.concat(parts, ignore_index=True)


def wrong_reason(
    scores: Scores, shared: dict[str, Any], condition: dict[str, Any], resamples: int = 2000
) -> pd.DataFrame:
    """Rows `wrong_reason`: of the flagged defects, the share whose map peaks beside the mask.

    `1 - mean(PointGame)` over defective images with a mask that are flagged: right answer, wrong
    reason. The oracle's row is the share of the same images on which the grid leaves no choice.
    """
    images = scores.images
    found = images["is_flagged"].astype(bool) & images["is_defective"] & images["has_mask"]
    rows = []
    for source in ("cam", "defect_map", "oracle"):
        if f"{source}.point_game" not in images.columns:
            continue  # a system without that map
        missed = 1 - images.loc[found, f"{source}.point_game"].to_numpy(float)
        groups = images.loc[found, "group"].to_numpy()
        keep = ~np.isnan(missed)
        if not keep.any():
            continue
        interval = bootstrap_interval(np.mean, groups[keep], missed[keep], resamples=resamples)
        rows.append(
            shared
            | {
                "condition": {**condition, **({"oracle": True} if source == "oracle" else {})},
                "map": "cam" if source == "oracle" else source,
                "seed": None,
                "fold": None,
                "metric": "wrong_reason",
                "value": interval.value,
                **interval.ends,
            }
        )
    return pd.DataFrame(rows)


def pixel_ap_rows(
    a: Pooled, b: Pooled, dataset: str, maps: Sequence[str] = ("defect_map",), resamples: int = 2000
) -> list[dict[str, Any]]:
    """Rows `pixel_ap_difference` of maps, a - b, over the same resampled groups.

    Raises:
        ValueError: the two systems were tested on different images, or in another order.
    """
    images = a.scores.images
    if list(images["name"]) != list(b.scores.images["name"]):
        raise ValueError("pixel_ap_rows: expected two systems tested on the same images in order")
    groups = images["group"].to_numpy()
    weights = resample_weights(groups, resamples)
    against = {"against": b.system, **{f"against_{k}": v for k, v in b.condition.items()}}
    rows = []
    for name in maps:
        x, y = (pooled.scores.histograms[name] for pooled in (a, b))
        value = float(x.average_precision()) - float(y.average_precision())
        replicates = x.average_precision(weights) - y.average_precision(weights)
        interval = percentile_interval(value, replicates, groups)
        rows.append(
            row(dataset, a.system, "pixel_ap_difference", value, map=name,
                condition={**a.condition, **against}, **interval.ends)
        )  # fmt: skip
    return rows
