"""From maps to verdicts and from scores to probabilities: readouts, and Platt's line for all."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
from torch.utils.data import Dataset

from gainbook.lab.measures import Measure
from gainmtl import metrics
from gainmtl.baselines.platt import fit_platt, to_logits
from gainmtl.baselines.unet import READOUT_SHARES, UNet
from gainmtl.evaluation.scoring import Scores, batches
from gainmtl.types import Sample

READOUT_WORDS = tuple(
    f"mean of the highest {share:.1%}" if share else "the highest logit" for share in READOUT_SHARES
)
"""The readouts of a U-Net's map, in words."""
ECE_PLATT = Measure(
    "ece_platt",
    "recalibrated",
    statistic=metrics.expected_calibration_error,
    beside=("is_defective",),
)
"""The calibration error after Platt's line, which a system of places has already."""


@torch.no_grad()
def readout_aurocs(unet: UNet, dataset: Dataset[Sample], batch_size: int = 32) -> list[float]:
    """The AUROC of each of `READOUT_WORDS` on a part of the data."""
    readouts, labels = [], []
    for batch in batches(dataset, batch_size):
        readouts.append(unet.localize(unet.preprocess(batch.image))[0])
        labels.append(batch.is_defective)
    scores, defective = torch.cat(readouts).double().numpy(), torch.cat(labels).numpy()
    return [metrics.auroc(column, defective) for column in scores.T]


def recalibrated(folds: Sequence[Scores], validation: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The test images of all folds with a column `recalibrated`: the probability by Platt's line.

    Args:
        validation: per fold, `folds.validation_scores` of its model.
    """
    parts = []
    for scores, table in zip(folds, validation, strict=True):
        line = fit_platt(to_logits(table["defect_probability"]), table["is_defective"])
        logits = to_logits(scores.images["defect_probability"])
        parts.append(scores.images.assign(recalibrated=line(logits)))
    return pd.concat(parts, ignore_index=True)
