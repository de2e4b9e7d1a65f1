"""What erasing leaves: a trained network's score before and after its soft mask is erased.

Attention mining trains on the class score that is left after erasing. It is meant to make the map
complete, since a map that misses half of a defect leaves half of it in the image. The mask of the
defect is only compared with; it is no part of a prediction.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from gainbook.lab.measures import Measure
from gainmtl import metrics
from gainmtl.cam import erase, resize_map, soft_mask
from gainmtl.model import GAINMTL
from gainmtl.types import Sample, collate

WORDS = {
    "soft_mask_coverage": "defect covered by the soft mask",
    "soft_mask_inside": "soft mask that lies on the defect",
    "soft_mask_area": "image covered by the soft mask",
    "score_before": "class score, nothing erased",
    "score_left": "left after erasing the soft mask",
    "score_left_elsewhere": "left after erasing as much elsewhere",
    "score_left_truth": "left after erasing the true mask",
}
"""The measures of `score_erased` in words; all in [0, 1]."""
MEASURES = tuple(Measure(name, name, "cam") for name in WORDS)


class SoftMaskScores(NamedTuple):
    """How a soft mask lies on a defect; (B,) each, in [0, 1]."""

    coverage: Tensor
    """`sum_M T / |M|`: the share of the defect that T covers, a recall. 1 for T = 1."""
    inside: Tensor
    """`sum_M T / sum T`: the share of T that lies on the defect, a precision."""
    area: Tensor
    """The mean of T over the image."""


def soft_mask_scores(soft: Tensor, masks: Tensor) -> SoftMaskScores:
    """Measure T (B, 1, h, w) in [0, 1] against M (B, 1, H, W) in {0, 1}.

    T is resized bilinearly. Coverage and inside are NaN where a mask is empty.
    """
    pixels = resize_map(soft.double(), (masks.shape[2], masks.shape[3]))
    marked = masks.double().sum((1, 2, 3))
    both = (pixels * masks).sum((1, 2, 3))
    nan = torch.full_like(marked, math.nan)
    coverage = torch.where(marked > 0, both / marked.clamp_min(1), nan)
    inside = torch.where(marked > 0, both / pixels.sum((1, 2, 3)).clamp_min(1e-12), nan)
    return SoftMaskScores(coverage, inside, pixels.mean((1, 2, 3)))


def elsewhere(soft: Tensor) -> Tensor:
    """The soft mask moved by half the image, down and across, with wrap-around: the same area.

    A mask that covers the whole image stays as it is.
    """
    return soft.roll((soft.shape[2] // 2, soft.shape[3] // 2), (2, 3))


@torch.no_grad()
def score_erased(
    model: GAINMTL,
    dataset: Dataset[Sample],
    batch_size: int = 32,
    threshold: float = 0.5,
    sharpness: float = 10.0,
) -> pd.DataFrame:
    """One row per defective image with a mask: its soft mask, and the scores after erasing.

    Columns: `name, group, defect_type, is_flagged` and those of `WORDS`. The mean of `score_left`
    is GAIN's S_am on this dataset. Erasing the same area elsewhere shows the effect of any hole of
    that size; erasing the true mask shows what a perfect map would leave.

    Args:
        dataset: with `labels` and `has_mask`, as a test set has them.
        threshold: sigma of the soft mask.
        sharpness: omega of the soft mask.

    Raises:
        ValueError: no defective image with a mask.
    """
    described: Any = dataset
    bad = np.flatnonzero(described.labels & described.has_mask)
    if not len(bad):
        raise ValueError("score_erased: expected defective images with a mask, found none")
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    tables = []
    for start in range(0, len(bad), batch_size):
        batch = collate([dataset[int(i)] for i in bad[start : start + batch_size]])
        images, masks = model.preprocess(batch.image.to(device)), batch.mask.to(device)
        out = model(images)
        soft = soft_mask(out.cam, threshold, sharpness)
        coverage, inside, area = soft_mask_scores(soft, masks)
        columns = {
            "soft_mask_coverage": coverage,
            "soft_mask_inside": inside,
            "soft_mask_area": area,
            "score_before": out.defect_probability,
        }
        for name, region in (
            ("score_left", soft),
            ("score_left_elsewhere", elsewhere(soft)),
            ("score_left_truth", masks),
        ):
            columns[name] = model(erase(images, region)).defect_probability
        about = {"name": batch.name, "group": batch.group, "defect_type": batch.defect_type}
        probability = out.defect_probability.cpu().double().numpy()
        flagged = metrics.is_flagged(probability, model.threshold)
        figures = {name: values.cpu().double().numpy() for name, values in columns.items()}
        tables.append(pd.DataFrame({**about, "is_flagged": flagged, **figures}))
    model.train(was_training)
    return pd.concat(tables, ignore_index=True)
