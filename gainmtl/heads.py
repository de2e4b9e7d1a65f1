"""Parts on feature maps: linear classifier, feature pyramid, localization; their blocks."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from gainmtl.cam import check_pooling, class_activation_map, pool_evidence, resize_map
from gainmtl.precision import no_autocast, to_float32


def group_norm(channels: int) -> nn.GroupNorm:
    """Group norm with groups of at least 8 channels.

    Not batch norm: with few small maps per batch, batch statistics differ from running statistics,
    and the heads would compute different outputs in training and in prediction.
    """
    groups = max(g for g in (1, 2, 4, 8) if channels % g == 0 and channels // g >= min(8, channels))
    return nn.GroupNorm(groups, channels)


def conv_block(inputs: int, outputs: int) -> nn.Sequential:
    """A 3x3 convolution, group norm and ReLU; the size stays."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        group_norm(outputs),
        nn.ReLU(inplace=True),
    )


def light_block(channels: int) -> nn.Sequential:
    """A depthwise 3x3 and a pointwise convolution, then group norm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
        nn.Conv2d(channels, channels, 1, bias=False),
        group_norm(channels),
        nn.ReLU(inplace=True),
    )


class HeadOutput(NamedTuple):
    """Logits and class activation maps of a `LinearHead`."""

    logits: Tensor
    """(B, K)."""
    class_cam: Tensor
    """(B, K, h, w)."""


class LinearHead(nn.Module):
    """A linear classifier whose logits are pooled class activation maps.

    `logit_0 = mean(A_0) + b_0` and `logit_k = mean(A_0) + b_0 + P(A_k - A_0) + b_k - b_0` for
    k > 0, so `logit_k - logit_0 = P(A_k - A_0) + b_k - b_0` for every pooling P; see
    `gainmtl.cam`. With mean pooling `logit_k = mean(A_k) + b_k`, the usual linear classifier.
    Dropout drops whole feature maps before the class activation map is computed, so the map
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

    def forward(self, features: Tensor) -> HeadOutput:
        """(B, C, h, w) features to logits and maps."""
        with no_autocast(features):
            class_cam = class_activation_map(to_float32(self.dropout(features)), self.weight)
        normal_cam = class_cam[:, :1]
        normal_logit = normal_cam.mean((2, 3)) + self.bias[0]  # (B, 1)
        evidence = pool_evidence(class_cam[:, 1:] - normal_cam, self.pooling)  # (B, K - 1)
        defect_logits = normal_logit + evidence + (self.bias[1:] - self.bias[0])
        return HeadOutput(torch.cat([normal_logit, defect_logits], dim=1), class_cam)


class FeaturePyramid(nn.Module):
    """Fuse levels top-down: each coarser map is upsampled and added to the next finer one.

    `P_n = conv1x1(L_n)`, `P_i = block(conv1x1(L_i) + up(P_{i+1}))`. Input: maps of decreasing
    size, finest first, of the given channels; output (B, width, h, w) on the finest map's grid.

    Source: Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017. Deviations: one
    fused output instead of one per level, and depthwise-separable convolutions on all levels but
    the finest, which take a fraction of the time on a CPU.
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
    """Per-pixel defect logits: (B, C, h, w) features to (B, 1, *size).

    `resize(conv1x1(ReLU(norm(conv3x3(F)))))`; the bias starts at a defect probability of `prior`.
    """

    def __init__(self, channels: int, prior: float = 0.05) -> None:
        super().__init__()
        hidden = max(channels // 2, 8)
        self.features = conv_block(channels, hidden)
        self.logits = nn.Conv2d(hidden, 1, 1)
        assert self.logits.bias is not None
        nn.init.constant_(self.logits.bias, math.log(prior / (1 - prior)))

    def forward(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        hidden = self.features(features)
        with no_autocast(hidden):
            logits = self.logits(to_float32(hidden))
        return resize_map(logits, size)
