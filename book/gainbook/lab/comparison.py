"""What systems have to say for themselves and against each other: tidy rows of pooled scores."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from gainbook.lab.protocol import Pooled
from gainmtl import metrics
from gainmtl.evaluation.stats import mean_over_types, paired_interval
from gainmtl.evaluation.tidy import CLASS_MEASURES, class_codes, tidy


def pooled_rows(pooled: Pooled, dataset: str, seed: int, resamples: int = 2000) -> pd.DataFrame:
    """Tidy rows: one set per fold without intervals, one pooled (seed and fold null) with them."""
    shared: dict[str, Any] = {
        "dataset": dataset,
        "split": "test",
        "system": pooled.system,
        "condition": pooled.condition,
    }
    rows = [
        tidy(part, **shared, seed=seed, fold=fold, resamples=0)
        for fold, part in zip(_fold_numbers(pooled), pooled.folds, strict=True)
    ]
    rows.append(tidy(pooled.scores, **shared, resamples=resamples))
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
        rows.append(
            {
                "dataset": dataset,
                "split": "test",
                "system": a.system,
                "condition": {**a.condition, **against, **extra},
                "map": map_name,
                "seed": None,
                "fold": None,
                "metric": f"{metric}_difference",
                "value": interval.value,
                **interval.ends,
                "p_value": interval.p_value,
            }
        )

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


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows for `results.json`."""
    return json.loads(table.to_json(orient="records"))
