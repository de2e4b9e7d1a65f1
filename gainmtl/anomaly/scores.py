"""An anomaly detector's answers as the same table that a classifier's are: `Scores`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from gainmtl import metrics
from gainmtl.anomaly.base import AnomalyOutputs, Detector
from gainmtl.evaluation.scoring import LOGIT_RANGE, MAP_MEASURES, Scores, facts
from gainmtl.types import Sample, collate


def ask_detector(detector: Detector, images: Tensor) -> AnomalyOutputs:
    """What a detector says about images (B, 3, H, W) in [0, 1], on the CPU in float32."""
    device = next(detector.parameters()).device
    images = images.to(device).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        out = detector(detector.preprocess(images))
    whole, score, levels, map_logits, logits = out
    return AnomalyOutputs(
        whole.float().cpu(),
        score.float().cpu(),
        tuple(level.float().cpu() for level in levels),
        map_logits.float().cpu(),
        logits.float().cpu(),
    )


def anomaly_scores(
    detector: Detector, dataset: Dataset[Sample], batch_size: int = 32
) -> NDArray[np.float64]:
    """The scores (N,) of a dataset's images, on the detector's own scale."""
    was_training = detector.training
    detector.eval()
    loader: Any = DataLoader(dataset, batch_size=batch_size, collate_fn=collate)
    found = [ask_detector(detector, batch.image).anomaly_score for batch in loader]
    detector.train(was_training)
    return np.asarray(torch.cat(found).double().numpy())


def score_detector(detector: Detector, dataset: Dataset[Sample], batch_size: int = 32) -> Scores:
    """Ask about every sample, then measure the answers against labels and masks.

    The columns are those of `scoring.score` as far as a detector has them, with one map,
    `defect_map`; `defect_probability` is the score on the scale of the threshold through a sigmoid,
    so that folds, each with a threshold of its own, can be pooled. `anomaly_score` is the score
    itself. The histogram counts pixels by region too, for AUPRO.
    """
    was_training = detector.training
    detector.eval()
    rows: list[dict[str, NDArray[Any]]] = []
    histogram: metrics.PixelHistogram | None = None
    loader: Any = DataLoader(dataset, batch_size=batch_size, collate_fn=collate)
    for batch in loader:
        out = ask_detector(detector, batch.image)
        bad, known = batch.is_defective.numpy(), batch.has_mask.numpy()
        maps = out.defect_map
        row: dict[str, NDArray[Any]] = {
            **facts(batch),
            "defect_probability": out.logits.double().sigmoid().numpy(),
            "is_flagged": out.anomaly_score.double().numpy() >= detector.threshold,
            "anomaly_score": out.anomaly_score.double().numpy(),
        }
        measures: dict[str, Any] = {**MAP_MEASURES, "aupro_per_image": metrics.aupro_per_image}
        for measure, function in measures.items():
            # The one that has 200 thresholds per image is not asked of normal ones.
            values = np.full(len(bad), np.nan)
            asked = bad & known
            if asked.any():
                chosen = torch.from_numpy(asked)
                values[asked] = function(maps[chosen], batch.mask[chosen]).double().numpy()
            row[f"defect_map.{measure}"] = values
        false = metrics.false_activation(maps).double().numpy()
        row["defect_map.false_activation"] = np.where(bad, np.nan, false)
        counted = metrics.PixelHistogram.of(
            out.map_logits, batch.mask, low=LOGIT_RANGE[0], high=LOGIT_RANGE[1], by_region=True
        )
        for counts in (counted.positives, counted.negatives, counted.regions):
            assert counts is not None
            counts[~known] = 0
        histogram = counted if histogram is None else histogram + counted
        rows.append(row)
    detector.train(was_training)
    assert histogram is not None, "an empty dataset"
    table = pd.DataFrame({key: np.concatenate([row[key] for row in rows]) for key in rows[0]})
    return Scores(table, {"defect_map": histogram})
