"""Scores of an anomaly detector, in the same table as a classifier's: `Scores`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from gainmtl import metrics
from gainmtl.anomaly.base import AnomalyOutputs, Detector
from gainmtl.evaluation.scoring import LOGIT_RANGE, MAP_MEASURES, Scores, batches, sample_columns
from gainmtl.interface import check_model, check_reading, evaluating
from gainmtl.types import Sample


def detector_outputs(detector: Detector, images: Tensor, dataset: Any = None) -> AnomalyOutputs:
    """The outputs of a detector for images (B, 3, H, W) in [0, 1], on the CPU in float32.

    Raises:
        TypeError: a model that is no detector.
        ValueError: images of another size, or a `dataset` with another `resize`, than in its fit.
    """
    advice = "a classifier is scored by gainmtl.score and applied by gainmtl.predict"
    check_model("detector_outputs", detector, (Detector,), advice)
    check_reading(detector, images, dataset)
    device = next(detector.parameters()).device
    images = images.to(device).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        out = detector(detector.preprocess(images))
    return AnomalyOutputs(
        out.anomaly_map.float().cpu(),
        out.anomaly_score.float().cpu(),
        tuple(level.float().cpu() for level in out.level_maps),
        out.map_logits.float().cpu(),
        out.logits.float().cpu(),
    )


def anomaly_scores(
    detector: Detector, dataset: Dataset[Sample], batch_size: int = 32
) -> NDArray[np.float64]:
    """The anomaly scores (N,) of a dataset's images."""
    loader = batches(dataset, batch_size)
    with evaluating(detector):
        scores = [detector_outputs(detector, b.image, dataset).anomaly_score for b in loader]
    return np.asarray(torch.cat(scores).double().numpy())


def score_detector(detector: Detector, dataset: Dataset[Sample], batch_size: int = 32) -> Scores:
    """Predictions for all samples, and their measures against labels and masks.

    The columns are those of `scoring.score` that a detector has, for one map, `defect_map`.
    `defect_probability` is the sigmoid of the score on the scale of the threshold, so that folds
    with different thresholds can be pooled; `anomaly_score` is the score itself. The histogram
    also counts pixels by region, for AUPRO.
    """
    rows: list[dict[str, NDArray[Any]]] = []
    histogram: metrics.PixelHistogram | None = None
    with evaluating(detector):
        for batch in batches(dataset, batch_size):
            out = detector_outputs(detector, batch.image, dataset)
            score = out.anomaly_score.double().numpy()
            bad, has_mask = batch.is_defective.numpy(), batch.has_mask.numpy()
            maps = out.defect_map
            row: dict[str, NDArray[Any]] = {
                **sample_columns(batch),
                "defect_probability": out.logits.double().sigmoid().numpy(),
                "is_flagged": metrics.is_flagged(score, detector.threshold),
                "anomaly_score": score,
            }
            measures: dict[str, Any] = {**MAP_MEASURES, "aupro_per_image": metrics.aupro_per_image}
            marked = batch.is_defective & batch.has_mask
            for measure, function in measures.items():
                # Only for defective images: `aupro_per_image` is slow, with 200 thresholds each.
                values = np.full(len(bad), np.nan)
                if marked.any():
                    found = function(maps[marked], batch.mask[marked])
                    values[marked.numpy()] = found.double().numpy()
                row[f"defect_map.{measure}"] = values
            false = metrics.false_activation(maps).double().numpy()
            row["defect_map.false_activation"] = np.where(bad, np.nan, false)
            of_batch = metrics.PixelHistogram.of(
                out.map_logits, batch.mask, low=LOGIT_RANGE[0], high=LOGIT_RANGE[1], by_region=True
            )
            for counts in (of_batch.positives, of_batch.negatives, of_batch.regions):
                assert counts is not None
                counts[~has_mask] = 0
            histogram = of_batch if histogram is None else histogram + of_batch
            rows.append(row)
    assert histogram is not None
    table = pd.DataFrame({key: np.concatenate([row[key] for row in rows]) for key in rows[0]})
    return Scores(table, {"defect_map": histogram})
