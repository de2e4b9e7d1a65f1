"""What `fit`, `score`, `save` and the protocol ask of a system: the smallest common interface.

`GAINMTL` is one; a U-Net or a detector of `gainmtl.baselines` is another. A system may be anything
inside, as long as it begins with a `Backbone`, trains by named losses, and answers images alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from torch import Tensor, nn

from gainmtl.backbone import Backbone
from gainmtl.strategies import Strategy
from gainmtl.types import Batch, Located, Outputs


class Inspector(nn.Module):
    """A system that says whether a part is defective, and where.

    A subclass sets `strategy`, `backbone` and `config`, the arguments that build it again, and
    writes `forward` and `training_step`. Whatever else it learns must stand in its state dict.
    """

    kind: str = ""
    """Its name in saved descriptions; see `gainmtl.io`."""
    strategy: Strategy
    """Its name, and the weights of its loss terms over the run."""
    backbone: Backbone
    config: dict[str, Any]
    """Arguments of the constructor, as JSON takes them, but for weights and strategy."""

    def __init__(self) -> None:
        super().__init__()
        self.threshold = 0.5
        """Verdict "defective" from this defect probability on; `fit` sets it on validation data."""
        self.image_size: int | None = None
        self.resize = "squash"

    def preprocess(self, images: Tensor) -> Tensor:
        """Normalise images (B, 3, H, W) in [0, 1] as the backbone's weights expect."""
        mean = images.new_tensor(self.backbone.mean)[:, None, None]
        std = images.new_tensor(self.backbone.std)[:, None, None]
        return (images - mean) / std

    def forward(self, images: Tensor) -> Outputs | Located:
        """(B, 3, H, W) images, normalised by `preprocess`; no mask is ever an input."""
        raise NotImplementedError

    def training_step(self, batch: Batch, progress: float = 1.0) -> dict[str, Tensor]:
        """The named loss terms in force at `progress` (share of the run), unweighted scalars.

        `batch.image` in [0, 1]. Names are those of `LossWeights`.
        """
        raise NotImplementedError

    def facts(self, terms: Collection[str]) -> dict[str, float]:
        """What else a row of `fit`'s history says; `terms` were on in the epoch."""
        return {}

    def settle(self, batches: Iterable[Batch]) -> None:
        """Choose on validation data what training leaves open; called before the threshold is."""
