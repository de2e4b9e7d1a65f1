"""From scores of a dataset to a table with one row per measure and its interval."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from torch.utils.data import Dataset

from gainmtl import metrics
from gainmtl.evaluation.scoring import Scores, score
from gainmtl.evaluation.stats import (
    Interval,
    bootstrap_interval,
    mean_over_types,
    percentile_interval,
    resample_weights,
)
from gainmtl.interface import DefectModel
from gainmtl.types import NORMAL, Sample

VERDICT_MEASURES = {
    "accuracy": metrics.accuracy,
    "precision": metrics.precision,
    "recall": metrics.recall,
    "f1": metrics.f1,
}
RANKING_MEASURES = {
    "auroc": metrics.auroc,
    "average_precision": metrics.average_precision,
    "recall_at_fpr01": lambda scores, labels: metrics.recall_at_fpr(scores, labels, 0.01),
    "recall_at_fpr05": lambda scores, labels: metrics.recall_at_fpr(scores, labels, 0.05),
    "ece": metrics.expected_calibration_error,
}
CLASS_MEASURES = {"type_accuracy": metrics.class_accuracy, "macro_f1": metrics.macro_f1}
"""For models with more than two classes: the most probable class against the defect type."""
TYPE_MEAN = "mean over types"


def evaluate(
    model: DefectModel,
    dataset: Dataset[Sample],
    batch_size: int = 32,
    resamples: int = 1000,
    name: str = "data",
    split: str = "test",
) -> pd.DataFrame:
    """One row per measure of `model` on `dataset`, with intervals over groups.

    Columns: `dataset, split, system, condition, map, seed, fold, metric, value, ci_low, ci_high`
    and `n`; see `tidy_rows`. The threshold is the stored `model.threshold`; this dataset does not
    choose it. Errors as `score`.
    """
    scores = score(model, dataset, batch_size)
    return tidy_rows(scores, name, split, model.strategy.name, resamples=resamples)


def class_codes(*names: ArrayLike) -> list[NDArray[np.float64]]:
    """Columns of class names (N,) as numbers; equal names get equal numbers."""
    columns = [np.asarray(column, dtype=str) for column in names]
    _, codes = np.unique(np.concatenate(columns), return_inverse=True)
    return np.split(codes.astype(np.float64), np.cumsum([len(c) for c in columns])[:-1])


def tidy_rows(
    scores: Scores,
    dataset: str,
    split: str,
    system: str,
    condition: dict[str, Any] | None = None,
    seed: int | None = None,
    fold: int | None = None,
    resamples: int = 1000,
) -> pd.DataFrame:
    """Measures of `scores`, one row each, with 95 % bootstrap intervals over groups.

    With `resamples=0` the intervals are NaN. The measures of the verdict use `is_flagged`, which
    was decided with the stored threshold. `type_accuracy` and `macro_f1` compare the most probable
    class with the defect type, for models with more than two classes. Map measures are means over
    defective images with a mask. A row with `defect_type` in its condition is of that type, and
    `"mean over types"` is the unweighted mean of the types. A row with `{"oracle": true}` is the
    measure of the mask itself on the grid of `cam`, which shows what is lost by the grid alone; see
    `metrics.oracle_map`.
    """
    images = scores.images
    base = {"dataset": dataset, "split": split, "system": system, "seed": seed, "fold": fold}
    groups = images["group"].to_numpy()
    labels = images["is_defective"].to_numpy(bool)
    kinds = images["defect_type"].to_numpy(str)
    probability = images["defect_probability"].to_numpy(float)
    flagged = images["is_flagged"].to_numpy(float)
    rows: list[dict[str, Any]] = []

    def add(
        metric: str, function: Any, *arrays: NDArray[Any], map_name: str | None = None, **extra: Any
    ) -> None:
        keep = ~np.isnan(arrays[0])
        kept = [array[keep] for array in arrays]
        if not keep.any():
            return
        if resamples:
            interval = bootstrap_interval(function, groups[keep], *kept, resamples=resamples)
        else:
            interval = Interval(float(function(*kept)), math.nan, math.nan, len(groups))
        append(metric, interval, int(keep.sum()), map_name, extra)

    def append(
        metric: str, interval: Interval, n: int, map_name: str | None, extra: dict[str, Any]
    ) -> None:
        rows.append(
            base
            | {
                "condition": {**(condition or {}), **extra},
                "map": map_name,
                "metric": metric,
                "value": interval.value,
                **interval.ends,
                "n": n,
            }
        )

    for metric, ranking in RANKING_MEASURES.items():
        add(metric, ranking, probability, labels)
    for metric, verdict in VERDICT_MEASURES.items():
        add(metric, verdict, flagged, labels)
    if "predicted_type" in images.columns:
        predicted, true = class_codes(images["predicted_type"], kinds)
        for metric, of_class in CLASS_MEASURES.items():
            add(metric, of_class, predicted, true)
    types = sorted(set(kinds[labels]) - {NORMAL})
    for kind in types if len(types) > 1 else []:
        rest = np.where((kinds == kind) | ~labels, probability, np.nan)
        add("auroc", metrics.auroc, rest, labels, defect_type=kind)
        add("recall", np.mean, np.where(kinds == kind, flagged, np.nan), defect_type=kind)
    for column in images.columns:
        source, _, metric = column.partition(".")
        if not metric:
            continue
        values = images[column].to_numpy(float)
        if source == "flip":
            add("flip_rate", np.mean, values, intervention=metric)
            continue
        about: dict[str, Any] = {"map_name": source}
        if source == "oracle":
            about = {"map_name": "cam", "oracle": True}
        add(metric, np.mean, values, **about)
        if metric == "false_activation" or len(types) < 2:
            continue
        for kind in types:
            of_type = np.where(kinds == kind, values, np.nan)
            add(metric, np.mean, of_type, defect_type=kind, **about)
        add(metric, mean_over_types, values, kinds, defect_type=TYPE_MEAN, **about)
    weights = resample_weights(groups, resamples) if resamples else None
    for name, histogram in scores.histograms.items():
        pixel_measures: dict[str, Any] = {
            "pixel_ap": histogram.average_precision,
            "pixel_auroc": histogram.auroc,
        }
        if histogram.regions is not None:
            pixel_measures["aupro"] = histogram.aupro
        for metric, pooled in pixel_measures.items():
            value = float(pooled())
            interval = Interval(value, math.nan, math.nan, len(images))
            if weights is not None:
                interval = percentile_interval(value, pooled(weights), groups)
            append(metric, interval, int(images["has_mask"].sum()), name, {})
    return pd.DataFrame(rows)
