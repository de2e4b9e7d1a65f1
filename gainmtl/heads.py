"""Heads on feature maps: linear classifier, feature pyramid, localization."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from gainmtl.cam import check_pooling, class_activation_map, pool_evidence, resize_map
from gainmtl.layers import conv_block, light_block
from gainmtl.precision import exact, full


class Verdict(NamedTuple):
    """What a `LinearHead` says."""

    logits: Tensor
    """(B, K)."""
    class_cam: Tensor
    """(B, K, h, w)."""


class LinearHead(nn.Module):
    """A linear classifier whose logits are pooled maps.

    `logit_k = mean(A_0) + b_0 + P(A_k - A_0) + b_k - b_0`; with mean pooling this is
    `mean(A_k) + b_k`. Dropout acts on whole feature maps, before the map is formed, so the map
    explains the logit in training too.
    """

    def __init__(
        self, channels: int, num_classes: int = 2, pooling: str = "mean", dropout: float = 0.0
    ) -> None:
        super().__init__()
        check_pooling(pooling)
        self.pooling = pooling
        self.dropout = nn.Dropout2d(dropout)
        self.weight = nn.Parameter(torch.empty(num_classes, channels))
        self.bias = nn.Parameter(torch.zeros(num_classes))
        nn.init.normal_(self.weight, std=1 / math.sqrt(channels))

    @property
    def evidence_bias(self) -> Tensor:
        """`b_1 - b_0`, a scalar."""
        return self.bias[1] - self.bias[0]

    def forward(self, features: Tensor) -> Verdict:
        """(B, C, h, w) features to logits and maps."""
        with exact(features):
            class_cam = class_activation_map(full(self.dropout(features)), self.weight)
        normal = class_cam[:, :1]
        base = normal.mean((2, 3)) + self.bias[0]
        against = pool_evidence(class_cam[:, 1:] - normal, self.pooling)
        others = base + against + (self.bias[1:] - self.bias[0])
        return Verdict(torch.cat([base, others], dim=1), class_cam)


class FeaturePyramid(nn.Module):
    """Fuse levels top-down: each coarser map is upsampled and added to the next finer one.

    `P_n = conv1x1(L_n)`, `P_i = block(conv1x1(L_i) + up(P_{i+1}))`. Input: maps of decreasing
    size, finest first, of the given channels; output (B, width, h, w) on the finest map's grid.

    Source: Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017. Deviation: one
    fused output instead of one per level, and depthwise-separable smoothing below the finest
    level, which costs a fraction on a CPU.
    """

    def __init__(self, channels: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels)
        self.smooth = nn.ModuleList(
            conv_block(width, width) if i == 0 else light_block(width)
            for i in range(len(channels) - 1)
        )

    def forward(self, levels: list[Tensor]) -> Tensor:
        fused = self.laterals[-1](levels[-1])
        for i in range(len(levels) - 2, -1, -1):
            up = functional.interpolate(fused, size=levels[i].shape[2:], mode="nearest")
            fused = self.smooth[i](self.laterals[i](levels[i]) + up)
        return fused


class LocalizationHead(nn.Module):
    """Per-pixel defect logits: (B, C, h, w) features to (B, 1, *size)."""

    def __init__(self, channels: int, prior: float = 0.05) -> None:
        super().__init__()
        hidden = max(channels // 2, 8)
        self.features = conv_block(channels, hidden)
        self.logits = nn.Conv2d(hidden, 1, 1)
        assert self.logits.bias is not None
        nn.init.constant_(self.logits.bias, math.log(prior / (1 - prior)))

    def forward(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        found = self.features(features)
        with exact(found):
            logits = self.logits(full(found))
        return resize_map(logits, size)
