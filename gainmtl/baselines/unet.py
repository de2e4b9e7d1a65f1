"""Segmentation only: a U-Net on the backbone's levels, with an image score read out of its map.

The decoder is that of segmentation-models-pytorch; the encoder is our `Backbone`, so that all
compared models start from the same weights and freeze the same layers. With equal weights the map
is that of `smp.Unet("tu-<backbone>")`.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from gainmtl import losses
from gainmtl.backbone import Backbone
from gainmtl.baselines.readout import SEGMENTATION, LocalizationModel
from gainmtl.precision import batch_to_float32, to_float32
from gainmtl.strategies import Strategy
from gainmtl.types import Batch

DECODER = (256, 128, 64, 32, 16)
"""Channels of the decoder's blocks, the default of segmentation-models-pytorch."""
READOUT_SHARES = (0.01, 0.001, 0.0)
"""Readouts of the map: the mean logit of the highest 1 %, of the highest 0.1 %, and the highest
logit. The means come first, because the first of equally good readouts is chosen."""


def top_mean(logits: Tensor, share: float) -> Tensor:
    """(B,) mean of the highest `ceil(share H W)` cells, at least one, of logits (B, 1, H, W)."""
    flat = logits.flatten(1)
    count = max(1, math.ceil(share * flat.shape[1]))
    return flat.topk(count, dim=1).values.mean(1)


class UNet(LocalizationModel):
    """`map = head(decoder(levels))`, `score = top_mean(map, share)`; see `LocalizationModel`.

    Args:
        backbone, weights, create_kwargs: see `Backbone`.
        strategy: with the weight of `localization`; no other term.
        decoder: channels per block, from the coarsest level; at least as many as the backbone has
            levels, further ones are ignored.
        prior: share of defect pixels that the bias of the last layer starts from, as in the
            localization head of `GAINMTL`.

    Raises:
        ImportError: segmentation-models-pytorch is not installed.
        ValueError: another loss term, or too few decoder channels.

    Source: Ronneberger, Fischer and Brox, "U-Net", MICCAI 2015. Deviations: the decoder of
    segmentation-models-pytorch on a classifier's levels, and the bias.
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
        try:
            from segmentation_models_pytorch.base import SegmentationHead
            from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
        except ImportError as error:
            raise ImportError(
                "the U-Net needs segmentation-models-pytorch: pip install 'gainmtl[baselines]'"
            ) from error
        super().__init__()
        self.strategy = strategy
        if strategy.weights.active() != ("localization",):
            raise ValueError(
                "U-Net: expected a strategy with localization as the only term, got "
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
        """Logits (B, 1, H, W) of normalised images (B, 3, H, W)."""
        levels = self.backbone.pyramid(images)
        return to_float32(self.segmentation_head(self.decoder([images, *levels])))

    def localize(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The readouts of `READOUT_SHARES`, and the sigmoid of the map."""
        logits = self.map_logits(images)
        readouts = torch.stack([top_mean(logits, share) for share in READOUT_SHARES], dim=1)
        return readouts, torch.sigmoid(logits)

    def training_step(self, batch: Batch, progress: float = 1.0) -> dict[str, Tensor]:
        """`localization`: BCE of all samples with a mask, normal or not, and Dice of defects."""
        batch = batch_to_float32(batch)
        logits = self.map_logits(self.preprocess(batch.image))
        gates = (batch.mask, batch.is_defective, batch.has_mask)
        return {"localization": losses.map_guidance_loss(logits, *gates)}
