"""Agreement of two maps, and baseline maps without information about the image."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def rank_correlation(a: Tensor, b: Tensor) -> Tensor:
    """Spearman's rank correlation of two maps (B, 1, h, w), (B,) float64 in [-1, 1].

    The correlation of the ranks of the cells, where ties have their mean rank, so it is invariant
    to scale, shift and every other increasing transform. NaN if one of the maps is constant.
    """
    from scipy.stats import rankdata  # on demand: it takes a second

    if a.shape != b.shape or a.ndim != 4:
        raise ValueError(
            f"expected two maps of one shape (B, 1, h, w), got {tuple(a.shape)}, {tuple(b.shape)}"
        )
    ranks = [rankdata(x.detach().cpu().flatten(1).numpy(), axis=1) for x in (a, b)]
    first, second = (r - r.mean(1, keepdims=True) for r in ranks)
    scale = np.sqrt((first**2).sum(1) * (second**2).sum(1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return torch.from_numpy(np.where(scale > 0, (first * second).sum(1) / scale, np.nan))


def soft_overlap(a: Tensor, b: Tensor) -> Tensor:
    """sum(min(a, b)) / sum(max(a, b)) of two maps (B, 1, h, w) in [0, 1], (B,) float64 in [0, 1].

    The Jaccard index of fuzzy sets (Ruzicka): the IoU for binary maps, without a threshold. Unlike
    a mean distance, it is not high only because both maps are dark in most cells. NaN if both are
    0 everywhere.
    """
    if a.shape != b.shape or a.ndim != 4:
        raise ValueError(
            f"expected two maps of one shape (B, 1, h, w), got {tuple(a.shape)}, {tuple(b.shape)}"
        )
    x, y = (m.detach().cpu().double().flatten(1) for m in (a, b))
    return torch.minimum(x, y).sum(1) / torch.maximum(x, y).sum(1)


def centre_map(count: int, grid: tuple[int, int], width: float = 0.25) -> Tensor:
    """A Gaussian at the centre, (count, 1, h, w) in (0, 1], where objects often are in photographs.

    `width` is its standard deviation as a share of the image side.
    """
    rows, columns = ((torch.arange(n) + 0.5) / n - 0.5 for n in grid)
    square = rows[:, None] ** 2 + columns[None] ** 2
    return torch.exp(-square / (2 * width**2)).expand(count, 1, *grid)


def uniform_map(count: int, grid: tuple[int, int]) -> Tensor:
    """1 everywhere, (count, 1, h, w)."""
    return torch.ones(count, 1, *grid)


def random_map(count: int, grid: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Independent uniform cells, (count, 1, h, w) in [0, 1)."""
    return torch.rand(count, 1, *grid, generator=generator)
