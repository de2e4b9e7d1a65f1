"""Linear filters: resizing and Gaussian smoothing by one matrix, and flat-field correction."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gainmtl.precision import no_autocast, to_float32

FLOOR = 0.05
"""Added to the local mean, so that black borders are not divided by zero, and to the standard
deviation, so that noise in an image without contrast is not amplified."""
MEAN, STD = 0.45, 0.18
"""Mean and approximate standard deviation of corrected images. Images of low contrast stay below
STD, because FLOOR is added to their standard deviation."""


def smoothing_matrix(cells: int, pixels: int, sigma: float) -> Tensor:
    """(pixels, cells): bilinear resizing of a line with its corners aligned, then a Gaussian.

    `sigma` is in pixels. The Gaussian is cut at 4 sigma and reflected at the border, edge pixel
    included, as in SciPy's `gaussian_filter`. A map M (h, w) becomes A M Bᵀ with one such matrix
    per axis. Both steps are linear, so they are computed once for the matrix instead of for every
    image.
    """
    resize = F.interpolate(torch.eye(cells)[None], pixels, mode="linear", align_corners=True)[0].T
    if sigma <= 0:
        return resize
    reach = int(4 * sigma + 0.5)
    offsets = torch.arange(-reach, reach + 1)
    weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
    weights = weights / weights.sum()
    source = (torch.arange(pixels)[:, None] + offsets) % (2 * pixels)
    source = torch.where(source >= pixels, 2 * pixels - 1 - source, source)
    blur = torch.zeros(pixels, pixels).scatter_add_(1, source, weights.expand(pixels, -1))
    return blur @ resize


def flat_field(images: Tensor, sigma: float) -> Tensor:
    """Images (B, 3, H, W) in [0, 1] with uneven illumination removed, in [0, 1].

    r = x / (G x̄ + FLOOR) with x̄ the mean over the channels and G a Gaussian of standard deviation
    `sigma` times the side. Then MEAN + STD (r - mean r) / (std r + FLOOR), per image, is clipped to
    [0, 1]. A change of exposure, x to a x, has no effect except through FLOOR. At each pixel the
    channels keep their order. Half precision is returned as single precision.

    It is the flat-field correction of microscopy with the image as its own reference, so every
    structure larger than the Gaussian is removed, including defects.
    """
    with no_autocast(images):
        images = to_float32(images)
        down, across = (smoothing_matrix(n, n, sigma * n).to(images) for n in images.shape[2:])
        light = down @ images.mean(1, keepdim=True) @ across.T
        ratio = images / (light + FLOOR)
        mean = ratio.mean((1, 2, 3), keepdim=True)
        std = ratio.std((1, 2, 3), correction=0, keepdim=True)
        return (MEAN + STD * (ratio - mean) / (std + FLOOR)).clamp(0, 1)
