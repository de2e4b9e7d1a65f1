"""Remove the evidence, ask the same head again.

Inside the mask the features are replaced by the running mean of normal features, outside they
stay; keeping only the defect does the reverse. The deployed head answers, so nothing private can
learn to please the loss.
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
        """Take in features (B, C, h, w) of the samples where `is_normal` (B,) is true."""
        chosen = features.detach()[is_normal]
        if not len(chosen):
            return
        new = chosen.mean((0, 2, 3))
        self.mean.lerp_(new, 1.0 if self.updates == 0 else self.momentum)
        self.updates.add_(1)


def cell_mask(masks: Tensor, size: tuple[int, int], margin: int = 1) -> Tensor:
    """Every cell a mask touches, grown by `margin` cells: (B, 1, H, W) to (B, 1, *size), 0 or 1.

    The margin covers features next to the defect whose receptive field still sees it.
    """
    touched = functional.adaptive_max_pool2d((masks > 0.5).float(), size)
    if margin:
        touched = functional.max_pool2d(touched, 2 * margin + 1, stride=1, padding=margin)
    return touched


def remove(features: Tensor, cells: Tensor, normal_mean: Tensor) -> Tensor:
    """`F (1 - m) + mu m`: features (B, C, h, w), cells (B, 1, h, w), normal_mean (C,)."""
    return torch.lerp(features, normal_mean[None, :, None, None].expand_as(features), cells)


def keep_only(features: Tensor, cells: Tensor, normal_mean: Tensor) -> Tensor:
    """`F m + mu (1 - m)`: everything but the defect replaced by normal features."""
    return remove(features, 1 - cells, normal_mean)


def moved_cells(cells: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """The same cells somewhere else: each mask rolled by a random shift, minus the true cells.

    The control for `remove`: as much area (less what still overlaps), but not the defect.
    (B, 1, h, w) to the same shape; of 16 random shifts the one that overlaps least is taken.
    """
    height, width = cells.shape[2:]
    moved = []
    for mask in cells:
        best = torch.zeros_like(mask)
        for _ in range(16):
            dy = int(torch.randint(height, (), generator=generator))
            dx = int(torch.randint(width, (), generator=generator))
            candidate = mask.roll((dy, dx), dims=(1, 2)) * (1 - mask)
            if candidate.sum() > best.sum():
                best = candidate
        moved.append(best)
    return torch.stack(moved)
