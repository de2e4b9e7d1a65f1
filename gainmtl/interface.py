"""The interface of a trainable model: what `fit`, `score`, `evaluate` and `save` need.

`GAINMTL` is a `DefectModel`; the U-Net and the box detector of `gainmtl.baselines` are others. A
model may have any architecture as long as it begins with a `Backbone`, trains by named losses, and
computes its outputs from images alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from torch import Tensor, nn

from gainmtl.backbone import Backbone
from gainmtl.strategies import Strategy
from gainmtl.types import Batch, Located, Outputs


class DefectModel(nn.Module):
    """A model that classifies a part as normal or defective and localizes the defect.

    A subclass sets `strategy`, `backbone` and `config` and implements `forward` and
    `training_step`. Everything it learns must be in its state dict.
    """

    kind: str = ""
    """Identifies the class in saved descriptions; see `gainmtl.io.class_of`."""
    strategy: Strategy
    """The loss terms, their weights and windows."""
    backbone: Backbone
    config: dict[str, Any]
    """The constructor's arguments as JSON values, except weights and strategy."""

    def __init__(self) -> None:
        super().__init__()
        self.threshold = 0.5
        """A part is defective from this defect probability on; `fit` sets it on validation data."""
        self.image_size: int | None = None
        """Side of the training images in pixels; `None` before training."""
        self.resize = "squash"
        """How images are brought to that size; see `gainmtl.datasets.transforms`."""

    def preprocess(self, images: Tensor) -> Tensor:
        """Normalise images (B, 3, H, W) in [0, 1] as the backbone's weights expect."""
        mean = images.new_tensor(self.backbone.mean)[:, None, None]
        std = images.new_tensor(self.backbone.std)[:, None, None]
        return (images - mean) / std

    def forward(self, images: Tensor) -> Outputs | Located:
        """(B, 3, H, W) images, normalised by `preprocess`, to outputs; a mask is never an input."""
        raise NotImplementedError

    def training_step(self, batch: Batch, progress: float = 1.0) -> dict[str, Tensor]:
        """The named loss terms that are active at `progress` (share of the run), unweighted.

        `batch.image` in [0, 1]; each term is a scalar. The names are those of `LossWeights`.
        """
        raise NotImplementedError

    def epoch_metrics(self, terms: Collection[str]) -> dict[str, float]:
        """Further columns of `fit`'s history after an epoch in which `terms` were active."""
        return {}

    def fit_on_validation(self, batches: Iterable[Batch]) -> None:
        """Choose on validation data what training leaves open; runs before the threshold is set."""
