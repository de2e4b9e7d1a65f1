"""Model x data to numbers: one row per image, then tidy rows of measures with intervals.

Masks enter here as a yardstick only. The model is asked first, with images alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from gainmtl import metrics
from gainmtl.cam import resize_map
from gainmtl.counterfactual import moved_cells
from gainmtl.model import GAINMTL
from gainmtl.stats import (
    Interval,
    bootstrap_interval,
    mean_over_types,
    percentile_interval,
    resample_weights,
)
from gainmtl.types import NORMAL, Batch, Outputs, Sample, collate

MAP_MEASURES = {
    "iou": metrics.map_iou,
    "point_game": metrics.point_game,
    "energy_inside": metrics.energy_inside,
    "positive_energy": metrics.positive_energy,
}
"""Per-image measures of a map against the mask, NaN where there is no mask."""
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
TYPE_MEAN = "mean over types"


class Scores(NamedTuple):
    """What a model said about a dataset, image by image."""

    images: pd.DataFrame
    """`name, group, defect_type, is_defective, has_mask, defect_probability, is_flagged`, one
    column `<map>.<measure>` per map and measure, `oracle.<measure>` for the area-pooled mask on the
    grid of `cam`, `<map>.false_activation` on normal images, and `flip.<intervention>`."""
    histograms: dict[str, metrics.PixelHistogram]
    """Pixel scores per map, images in the same order; images without a mask hold no pixels."""


def _batches(dataset: Dataset[Sample], batch_size: int) -> Iterator[Batch]:
    loader: DataLoader[Any] = DataLoader(dataset, batch_size=batch_size, collate_fn=collate)
    return iter(loader)


def _images(model: GAINMTL, images: Tensor) -> Tensor:
    """Move images to where the model is, channels last, normalised."""
    device = next(model.parameters()).device
    return model.preprocess(images.to(device).contiguous(memory_format=torch.channels_last))


@torch.no_grad()
def defect_scores(
    model: GAINMTL, dataset: Dataset[Sample], batch_size: int = 32
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Defect probabilities and labels, each (N,)."""
    was_training = model.training
    model.eval()
    scores, labels = [], []
    for batch in _batches(dataset, batch_size):
        logits = model(_images(model, batch.image)).logits
        scores.append((1 - logits.double().softmax(1)[:, 0]).cpu().numpy())
        labels.append(batch.is_defective.numpy())
    model.train(was_training)
    return np.concatenate(scores), np.concatenate(labels)


LOGIT_RANGE = (-16.0, 16.0)
"""Pixels are counted on the logit scale, where a confident map still spreads over many bins."""


def _map_logits(model: GAINMTL, out: Outputs) -> dict[str, Tensor]:
    """The logits of the maps that a strategy has, on the CPU; of `cam` the calibrated evidence."""
    maps = {"cam": model.calibrate(out.cam), "defect_map": out.defect_map.logit(eps=1e-7)}
    if out.attention_logits is not None:
        maps["attention"] = out.attention_logits
    if out.localization_logits is not None:
        maps["localization"] = out.localization_logits
    return {name: value.float().cpu() for name, value in maps.items()}


@torch.no_grad()
def score(
    model: GAINMTL, dataset: Dataset[Sample], batch_size: int = 32, interventions: bool = True
) -> Scores:
    """Ask `model` about every sample and measure the answers against labels and masks.

    `interventions` adds the counterfactual questions for defective images with a mask, two more
    network passes: `flip.removed`, is the verdict normal once the features under the mask
    are normal ones; `flip.kept`, does it become normal when only the defect is left; `flip.moved`,
    as `removed`, with as much area elsewhere. Each is 0 or 1, and NaN where the verdict was not
    "defective" to begin with.
    """
    was_training = model.training
    model.eval()
    rows: list[dict[str, NDArray[Any]]] = []
    histograms: dict[str, metrics.PixelHistogram] = {}
    generator = torch.Generator().manual_seed(0)
    for batch in _batches(dataset, batch_size):
        images = _images(model, batch.image)
        out = model(images)
        probability = (1 - out.logits.double().softmax(1)[:, 0]).cpu().numpy()
        bad, known = batch.is_defective.numpy(), batch.has_mask.numpy()
        row: dict[str, NDArray[Any]] = {
            "name": np.array(batch.name),
            "group": np.array(batch.group),
            "defect_type": np.array(batch.defect_type),
            "is_defective": bad,
            "has_mask": known,
            "defect_probability": probability,
            "is_flagged": probability >= model.threshold,
        }
        marked = bad & known
        for name, map_logits in _map_logits(model, out).items():
            maps = torch.sigmoid(map_logits)
            # The raw evidence for the per-image measures: min-max and energy are about it, not
            # about a sigmoid of it.
            judged = out.cam.float().cpu() if name == "cam" else maps
            for measure, function in MAP_MEASURES.items():
                row[f"{name}.{measure}"] = _where(function(judged, batch.mask), marked)
            row[f"{name}.false_activation"] = _where(
                metrics.false_activation(resize_map(maps, _size(batch))), ~bad
            )
            counted = metrics.PixelHistogram.of(
                map_logits, batch.mask, low=LOGIT_RANGE[0], high=LOGIT_RANGE[1]
            )
            counted.positives[~known] = 0
            counted.negatives[~known] = 0
            histograms[name] = histograms[name] + counted if name in histograms else counted
        oracle = metrics.oracle_map(batch.mask, (out.cam.shape[2], out.cam.shape[3]))
        for measure, function in MAP_MEASURES.items():
            row[f"oracle.{measure}"] = _where(function(oracle, batch.mask), marked)
        if interventions:
            row |= _flips(model, images, batch, marked & row["is_flagged"], generator)
        rows.append(row)
    model.train(was_training)
    table = pd.DataFrame({key: np.concatenate([row[key] for row in rows]) for key in rows[0]})
    return Scores(table, histograms)


def _size(batch: Batch) -> tuple[int, int]:
    return batch.mask.shape[2], batch.mask.shape[3]


def _where(values: Tensor, gate: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.where(gate, values.double().cpu().numpy(), np.nan)


def _flips(
    model: GAINMTL,
    images: Tensor,
    batch: Batch,
    asked: NDArray[np.bool_],
    generator: torch.Generator,
) -> dict[str, NDArray[np.float64]]:
    answers = {
        name: np.full(len(asked), np.nan) for name in ("flip.removed", "flip.kept", "flip.moved")
    }
    if asked.any():
        chosen = torch.from_numpy(asked)
        masks = batch.mask[chosen].to(images.device)
        elsewhere = moved_cells(batch.mask[chosen], generator).to(images.device)
        true = model.counterfactual(images[chosen.to(images.device)], masks)
        moved = model.counterfactual(images[chosen.to(images.device)], elsewhere)
        for name, value in (
            ("flip.removed", true.removed),
            ("flip.kept", true.kept),
            ("flip.moved", moved.removed),
        ):
            answers[name][asked] = (value.double() < model.threshold).cpu().numpy()
    return answers


def evaluate(
    model: GAINMTL,
    dataset: Dataset[Sample],
    batch_size: int = 32,
    resamples: int = 1000,
    name: str = "data",
    split: str = "test",
) -> pd.DataFrame:
    """Tidy rows of every measure of `model` on `dataset`, with intervals over groups.

    Columns: `dataset, split, system, condition, map, seed, fold, metric, value, ci_low, ci_high`
    and `n`; see `tidy`. The threshold is the stored `model.threshold`, never one from this dataset.
    """
    return tidy(
        score(model, dataset, batch_size),
        resamples=resamples,
        dataset=name,
        split=split,
        system=model.strategy.name,
    )


def tidy(
    scores: Scores,
    dataset: str,
    split: str,
    system: str,
    condition: dict[str, Any] | None = None,
    seed: int | None = None,
    fold: int | None = None,
    resamples: int = 1000,
) -> pd.DataFrame:
    """Measures of `scores` as tidy rows with 95 % bootstrap intervals over groups.

    No intervals for 0 resamples.

    Verdict measures use the stored decisions. Map measures are means over defective images with a
    mask; rows whose condition has a `defect_type` are of that type, `"mean over types"` is their
    unweighted mean, and `{"oracle": true}` is what the mask itself scores on the grid of `cam`.
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
                "ci_low": interval.low,
                "ci_high": interval.high,
                "n": n,
            }
        )

    for metric, ranking in RANKING_MEASURES.items():
        add(metric, ranking, probability, labels)
    for metric, verdict in VERDICT_MEASURES.items():
        add(metric, verdict, flagged, labels)
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
        extra = {"oracle": True} if source == "oracle" else {}
        map_name = "cam" if source == "oracle" else source
        add(metric, np.mean, values, map_name=map_name, **extra)
        if metric == "false_activation" or len(types) < 2:
            continue
        for kind in types:
            one = np.where(kinds == kind, values, np.nan)
            add(metric, np.mean, one, map_name=map_name, defect_type=kind, **extra)
        add(
            metric,
            mean_over_types,
            values,
            kinds,
            map_name=map_name,
            defect_type=TYPE_MEAN,
            **extra,
        )
    weights = resample_weights(groups, resamples) if resamples else None
    for name, histogram in scores.histograms.items():
        for metric, pooled in (
            ("pixel_ap", histogram.average_precision),
            ("pixel_auroc", histogram.auroc),
        ):
            value = float(pooled())
            interval = Interval(value, math.nan, math.nan, len(images))
            if weights is not None:
                interval = percentile_interval(value, pooled(weights), groups)
            append(metric, interval, int(images["has_mask"].sum()), name, {})
    return pd.DataFrame(rows)
