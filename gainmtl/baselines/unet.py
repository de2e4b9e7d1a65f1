"""Segmentation alone: a U-Net on the backbone's levels, and a verdict read off its map.

The decoder is the one of segmentation-models-pytorch; the encoder is our `Backbone`, so that the
compared systems begin from the same weights and freeze the same layers. With equal weights the map
is that of `smp.Unet("tu-<backbone>")`.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from gainmtl import losses
from gainmtl.backbone import Backbone
from gainmtl.baselines.readout import SEGMENTATION, PlaceInspector
from gainmtl.precision import full, full_batch
from gainmtl.strategies import Strategy
from gainmtl.types import Batch

try:
    from segmentation_models_pytorch.base import SegmentationHead
    from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
except ImportError as error:
    raise ImportError(
        "the U-Net needs segmentation-models-pytorch: pip install 'gainmtl[baselines]'"
    ) from error

DECODER = (256, 128, 64, 32, 16)
"""Channels of the decoder's blocks, smp's own."""
READ_SHARES = (0.01, 0.001, 0.0)
"""Readings of the map: the mean logit of the highest 1 %, of the highest 0.1 %, the highest. Means
first: of equals the steadier is taken."""


def top_mean(logits: Tensor, share: float) -> Tensor:
    """Mean of the highest `ceil(share H W)` cells, at least one: (B, 1, H, W) to (B,)."""
    flat = logits.flatten(1)
    count = max(1, math.ceil(share * flat.shape[1]))
    return flat.topk(count, dim=1).values.mean(1)


class UNet(PlaceInspector):
    """`map = head(decoder(levels))`, `score = top_mean(map, share)`; see `PlaceInspector`.

    Args:
        backbone, weights, create_kwargs: see `Backbone`.
        strategy: what it is trained by; localization alone.
        decoder: channels per block, from the coarsest level up; as many as the backbone has levels.

    Source: Ronneberger, Fischer and Brox, "U-Net", MICCAI 2015. Deviations: as
    segmentation-models-pytorch builds it, on a classifier's levels; the last bias begins at a
    defect share of 5 %, as our localization head's does.
    """

    kind = "unet"

    def __init__(
        self,
        backbone: str,
        strategy: Strategy = SEGMENTATION,
        weights: str | None = None,
        create_kwargs: dict[str, Any] | None = None,
        decoder: tuple[int, ...] = DECODER,
        prior: float = 0.05,
    ) -> None:
        super().__init__()
        self.strategy = strategy
        if strategy.weights.active() != ("localization",):
            raise ValueError(
                "U-Net: expected a strategy of localization alone, got "
                f"{', '.join(strategy.weights.active())}"
            )
        self.backbone = Backbone(backbone, weights, create_kwargs)
        channels = self.backbone.channels
        if len(decoder) < len(channels):
            raise ValueError(
                f"U-Net: expected {len(channels)} decoder channels, one per level of {backbone}, "
                f"got {len(decoder)}"
            )
        decoder = tuple(decoder[: len(channels)])
        self.decoder: Any = UnetDecoder((3, *channels), decoder, n_blocks=len(channels))
        self.segmentation_head: Any = SegmentationHead(decoder[-1], 1, kernel_size=3)
        torch.nn.init.constant_(self.segmentation_head[0].bias, math.log(prior / (1 - prior)))
        self.config = {"backbone": backbone, "decoder": list(decoder), "prior": prior}

    def map_logits(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) to logits (B, 1, H, W)."""
        levels = self.backbone.pyramid(images)
        return full(self.segmentation_head(self.decoder([images, *levels])))

    def localize(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The readings of `READ_SHARES`, and the sigmoid of the map."""
        logits = self.map_logits(images)
        readings = torch.stack([top_mean(logits, share) for share in READ_SHARES], dim=1)
        return readings, torch.sigmoid(logits)

    def training_step(self, batch: Batch, progress: float = 1.0) -> dict[str, Tensor]:
        """`localization`: BCE over samples with a mask, normal ones too, and Dice on defects."""
        batch = full_batch(batch)
        logits = self.map_logits(self.preprocess(batch.image))
        gates = (batch.mask, batch.is_defective, batch.has_mask)
        return {"localization": losses.map_guidance_loss(logits, *gates)}
