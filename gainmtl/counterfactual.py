"""Counterfactual features: the defect removed, or everything but the defect removed.

`remove` replaces the features inside the mask by the running mean of normal features; `keep_only`
replaces those outside. The head that decides in prediction classifies the result. A head that only
computes this loss could lower it without any effect on the decision.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class NormalFeatures(nn.Module):
    """Running mean (C,) of the features of normal samples, kept as a buffer.

    `mu <- (1 - m) mu + m mean_{B,h,w} F`, over normal samples only. The first update sets it.
    """

    mean: Tensor
    updates: Tensor

    def __init__(self, channels: int, momentum: float = 0.05) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def update(self, features: Tensor, is_normal: Tensor) -> None:
        """Update the mean by the features (B, C, h, w) of samples with true `is_normal` (B,)."""
        chosen = features.detach()[is_normal]
        if not len(chosen):
            return
        new = chosen.mean((0, 2, 3))
        self.mean.lerp_(new, 1.0 if self.updates == 0 else self.momentum)
        self.updates.add_(1)


def cell_mask(masks: Tensor, size: tuple[int, int], margin: int = 1) -> Tensor:
    """Every cell that a mask touches, dilated by `margin`: (B, 1, H, W) to (B, 1, *size), 0 or 1.

    The margin covers features next to the defect whose receptive field contains a part of it.
    """
    touched = functional.adaptive_max_pool2d((masks > 0.5).float(), size)
    if margin:
        touched = functional.max_pool2d(touched, 2 * margin + 1, stride=1, padding=margin)
    return touched


def remove(features: Tensor, cells: Tensor, normal_mean: Tensor) -> Tensor:
    """`F (1 - m) + mu m`: features (B, C, h, w), cells (B, 1, h, w), normal_mean (C,)."""
    return torch.lerp(features, normal_mean[None, :, None, None].expand_as(features), cells)


def keep_only(features: Tensor, cells: Tensor, normal_mean: Tensor) -> Tensor:
    """`F m + mu (1 - m)`: shapes as in `remove`."""
    return remove(features, 1 - cells, normal_mean)
