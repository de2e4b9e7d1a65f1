"""The image verdict of a system that was only taught places: a score of its map, and a `Line`.

Such a system says nothing about the image as a whole. Which score stands for it and which
probability a score means are chosen on validation data, by a rule written here; test data has no
say in either.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from gainmtl import metrics
from gainmtl.baselines.calibration import platt
from gainmtl.interface import Inspector
from gainmtl.losses import LossWeights
from gainmtl.strategies import Strategy
from gainmtl.types import Batch, Located

SEGMENTATION = Strategy("U-Net", LossWeights(localization=1.0))
"""BCE and Dice against the masks, the term that trains localization everywhere in this book."""
DETECTION = Strategy("FCOS", LossWeights(classification=1.0, localization=1.0))
"""The three terms of FCOS in equal parts: focal classification of points; box and centre-ness."""


class PlaceInspector(Inspector):
    """An `Inspector` whose image score is one of R readings of what it says about places."""

    line: Tensor
    reading: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("line", torch.tensor([1.0, 0.0]))
        self.register_buffer("reading", torch.zeros((), dtype=torch.long))

    def localize(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised images to the readings (B, R), unbounded, and the defect map (B, 1, H, W)."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Located:
        readings, defect_map = self.localize(images)
        score = self.line[0] * readings[:, int(self.reading)] + self.line[1]
        logits = torch.stack([torch.zeros_like(score), score], dim=1)
        return Located(logits, torch.sigmoid(score), defect_map)

    @torch.no_grad()
    def settle(self, batches: Iterable[Batch]) -> None:
        """Take the reading with the highest AUROC, the first of equals, and Platt's line for it.

        Where AUROC is undefined the first reading stays, as it is.
        """
        found, labels = [], []
        for batch in batches:
            images = batch.image.to(self.line.device).contiguous(memory_format=torch.channels_last)
            found.append(self.localize(self.preprocess(images))[0].cpu().double().numpy())
            labels.append(batch.is_defective.numpy())
        readings, known = np.concatenate(found), np.concatenate(labels)
        worth = [metrics.auroc(column, known) for column in readings.T]
        best = 0 if np.isnan(worth).any() else int(np.argmax(worth))
        self.reading.fill_(best)
        self.line.copy_(torch.tensor(platt(readings[:, best], known)))
