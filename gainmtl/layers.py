"""The blocks that attention and heads are made of."""

from __future__ import annotations

from torch import nn


def group_norm(channels: int) -> nn.GroupNorm:
    """Group norm with groups of at least 8 channels.

    Not batch norm: on a few small maps per batch, batch statistics and running statistics part
    company, and the heads answer one thing in training and another in prediction.
    """
    groups = max(g for g in (1, 2, 4, 8) if channels % g == 0 and channels // g >= min(8, channels))
    return nn.GroupNorm(groups, channels)


def conv_block(inputs: int, outputs: int, kernel: int = 3) -> nn.Sequential:
    """Convolution, group norm, ReLU, keeping the size."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
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
