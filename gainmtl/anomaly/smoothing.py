"""A line resized and smoothed by one matrix."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def smoothing_matrix(cells: int, pixels: int, sigma: float) -> Tensor:
    """(pixels, cells): bilinear resizing of a line with its corners aligned, then a Gaussian.

    The Gaussian ends at 4 sigma and reflects at the border, edge pixel included, as SciPy's
    `gaussian_filter`. A map of a grid is then A M Bᵀ with one such matrix per axis: both steps are
    linear, so they are done once, for the matrix, and not for every image.
    """
    up = F.interpolate(torch.eye(cells)[None], pixels, mode="linear", align_corners=True)[0].T
    if sigma <= 0:
        return up
    reach = int(4 * sigma + 0.5)
    offsets = torch.arange(-reach, reach + 1)
    weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
    weights = weights / weights.sum()
    place = (torch.arange(pixels)[:, None] + offsets) % (2 * pixels)
    place = torch.where(place >= pixels, 2 * pixels - 1 - place, place)
    blur = torch.zeros(pixels, pixels).scatter_add_(1, place, weights.expand(pixels, -1))
    return blur @ up
