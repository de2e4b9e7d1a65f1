"""Attention: squeeze-and-excitation, CBAM, and guided attention with a learnable temperature."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from gainmtl.heads import conv_block
from gainmtl.precision import no_autocast, to_float32

MIN_TEMPERATURE = 0.05


class SqueezeExcitation(nn.Module):
    """Channel attention: `F * sigmoid(W2 relu(W1 mean_ij F))`, (B, C, h, w) to the same shape.

    timm's layer with the paper's reduction of 16 (at least 8 hidden channels).
    Source: Hu, Shen and Sun, "Squeeze-and-Excitation Networks", CVPR 2018.
    """

    def __init__(self, channels: int) -> None:
        from timm.layers import SEModule  # on demand: timm takes a second

        super().__init__()
        self.layer = SEModule(channels, rd_channels=max(channels // 16, 8))

    def gate(self, features: Tensor) -> Tensor:
        """The gate (B, C, 1, 1) in (0, 1): one factor per channel, the same in every cell."""
        layer = self.layer
        pooled = features.mean((2, 3), keepdim=True)
        return torch.sigmoid(layer.fc2(functional.relu(layer.fc1(pooled))))

    def forward(self, features: Tensor) -> Tensor:
        return self.layer(features)


def channel_summary(features: Tensor) -> Tensor:
    """Mean and maximum over the channels, (B, C, h, w) to (B, 2, h, w): input of a spatial gate."""
    return torch.cat([features.mean(1, keepdim=True), features.amax(1, keepdim=True)], dim=1)


class Gates(NamedTuple):
    """The factors of CBAM, both in (0, 1)."""

    channel: Tensor
    """(B, C, 1, 1)."""
    spatial: Tensor
    """(B, 1, h, w)."""


class CBAM(nn.Module):
    """Channel, then spatial attention: `F' = Mc(F) * F`, `F'' = Ms(F') * F'`.

    `Mc = sigmoid(MLP(avg F) + MLP(max F))` with one shared MLP (timm's layer; at least 8 hidden
    channels), `Ms = sigmoid(conv7x7([mean_c F', max_c F']))`. (B, C, h, w) to the same shape.

    Source: Woo, Park, Lee and Kweon, "CBAM", ECCV 2018. Deviation: a bias instead of batch norm
    after the 7x7 convolution, so that training and prediction see the same gate.
    """

    def __init__(self, channels: int) -> None:
        from timm.layers.cbam import ChannelAttn

        super().__init__()
        self.channel = ChannelAttn(channels, rd_channels=max(channels // 16, 8))
        self.spatial = nn.Conv2d(2, 1, 7, padding=3)

    def channel_gate(self, features: Tensor) -> Tensor:
        """`Mc(F)`, (B, C, 1, 1) in (0, 1)."""
        layer = self.channel
        pooled = features.mean((2, 3), keepdim=True), features.amax((2, 3), keepdim=True)
        average, highest = (layer.fc2(functional.relu(layer.fc1(x))) for x in pooled)
        return torch.sigmoid(average + highest)

    def spatial_gate(self, features: Tensor) -> Tensor:
        """`Ms(F')` for features F' after the channel gate, (B, 1, h, w) in (0, 1)."""
        return torch.sigmoid(self.spatial(channel_summary(features)))

    def gates(self, features: Tensor) -> Gates:
        """Both gates for features F (B, C, h, w)."""
        channel = self.channel_gate(features)
        return Gates(channel, self.spatial_gate(features * channel))

    def forward(self, features: Tensor) -> Tensor:
        features = self.channel(features)
        return features * self.spatial_gate(features)


REFINEMENTS: dict[str, type[SqueezeExcitation] | type[CBAM] | None] = {
    "none": None,
    "se": SqueezeExcitation,
    "cbam": CBAM,
}
"""Blocks that may refine the features before the heads; `GAINMTL(refinement=...)`."""


class GuidedAttention(nn.Module):
    """One attention logit per cell, sharpened by a learnable temperature.

    `M = conv(F) / T` with `T = softplus(t) + 0.05`. T stays positive, because a change of its sign
    would invert the map; it starts at 1. The convolution before it can compensate any T, so T
    changes how fast the map becomes sharper in training, not which maps are possible.

    (B, C, h, w) features to (B, 1, h, w) unbounded logits.
    """

    def __init__(self, channels: int, prior: float = 0.2) -> None:
        super().__init__()
        hidden = max(channels // 2, 8)
        self.features = conv_block(channels, hidden)
        self.logits = nn.Conv2d(hidden, 1, 1)
        # Most of a surface is intact: start with an attention of `prior` everywhere, not of 0.5.
        assert self.logits.bias is not None
        nn.init.constant_(self.logits.bias, math.log(prior / (1 - prior)))
        start = math.log(math.expm1(1.0 - MIN_TEMPERATURE))
        self.raw_temperature = nn.Parameter(torch.tensor(start))

    @property
    def temperature(self) -> Tensor:
        """The temperature T, a scalar > 0.05."""
        return functional.softplus(self.raw_temperature) + MIN_TEMPERATURE

    def forward(self, features: Tensor) -> Tensor:
        hidden = self.features(features)
        with no_autocast(hidden):
            return self.logits(to_float32(hidden)) / self.temperature
