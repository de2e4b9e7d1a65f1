"""Image-level prediction of a model that is trained only on locations: a readout of its map.

Such a model has no image score. One of several readouts of its map, and the probability of that
score by Platt scaling, are chosen on validation data.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from gainmtl import metrics
from gainmtl.baselines.platt import fit_platt
from gainmtl.interface import DefectModel
from gainmtl.losses import LossWeights
from gainmtl.strategies import Strategy
from gainmtl.types import Batch, Located

SEGMENTATION = Strategy("U-Net", LossWeights(localization=1.0))
"""BCE and Dice against the masks: the `localization` term of `GAINMTL`."""
DETECTION = Strategy("FCOS", LossWeights(classification=1.0, localization=1.0))
"""The three terms of FCOS with equal weights: classification; box and centre-ness."""


class LocalizationModel(DefectModel):
    """A `DefectModel` whose image score is one of R readouts of its map, scaled by `fit_platt`."""

    line: Tensor
    """(2,): the `PlattScaling`."""
    reading: Tensor
    """Index of the readout, chosen by `fit_on_validation`."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("line", torch.tensor([1.0, 0.0]))
        self.register_buffer("reading", torch.zeros((), dtype=torch.long))

    def localize(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Readouts (B, R), unbounded, and defect map (B, 1, H, W) of normalised images."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Located:
        """Normalised images (B, 3, H, W) to logits (B, 2), defect probability and defect map."""
        readouts, defect_map = self.localize(images)
        chosen = readouts.index_select(1, self.reading[None])[:, 0]
        score = self.line[0] * chosen + self.line[1]
        logits = torch.stack([torch.zeros_like(score), score], dim=1)
        return Located(logits, torch.sigmoid(score), defect_map)

    @torch.no_grad()
    def fit_on_validation(self, batches: Iterable[Batch]) -> None:
        """Choose the readout with the highest AUROC, and fit its Platt scaling.

        Of equally good readouts the first is chosen. If AUROC is undefined, the first readout is
        used without scaling.
        """
        per_batch, labels = [], []
        for batch in batches:
            images = batch.image.to(self.line.device).contiguous(memory_format=torch.channels_last)
            per_batch.append(self.localize(self.preprocess(images))[0].cpu().double().numpy())
            labels.append(batch.is_defective.numpy())
        readouts, is_defective = np.concatenate(per_batch), np.concatenate(labels)
        aurocs = [metrics.auroc(column, is_defective) for column in readouts.T]
        best = 0 if np.isnan(aurocs).any() else int(np.argmax(aurocs))
        self.reading.fill_(best)
        self.line.copy_(torch.tensor(fit_platt(readouts[:, best], is_defective)))
