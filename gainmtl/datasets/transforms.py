"""Resizing of images with their masks to a square, and of maps back to the original size.

Two modes: "squash" stretches the image to the square; "pad" keeps its proportions and fills the
rest of the square with the image's mean colour. A reflected or repeated border would continue a
defect at the border into pixels that the mask marks as clean.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gainmtl.runner import placement


def resize_pair(
    image: Tensor, mask: Tensor | None, size: int, mode: str = "squash"
) -> tuple[Tensor, Tensor | None]:
    """Resize an image (3, H, W), uint8 or float, and its mask (1, H, W) bool to a square.

    The image is resized bilinearly with antialiasing, the mask by `resize_mask`.

    Returns:
        Image (3, size, size) of the same dtype, and mask (1, size, size) bool or `None`.
    """
    from torchvision.transforms.v2 import functional as F  # on demand: it takes a second

    place = placement((image.shape[-2], image.shape[-1]), size, mode)
    small = F.resize(image, [place.height, place.width], antialias=True)
    if mask is not None:
        mask = resize_mask(mask, place.height, place.width)
    if (place.height, place.width) == (size, size):
        return small, mask
    inside = (..., *place.inside)
    fill = small.float().mean(dim=(-2, -1), keepdim=True)
    fill = fill if small.is_floating_point() else fill.round()
    square = fill.to(small.dtype).expand(-1, size, size).clone()
    square[inside] = small
    if mask is not None:
        padded = torch.zeros(1, size, size, dtype=torch.bool)
        padded[inside] = mask
        mask = padded
    return square, mask


def resize_mask(mask: Tensor, height: int, width: int) -> Tensor:
    """Resize a mask (1, H, W) bool and keep its share of the area, so that no defect vanishes.

    The coverage of an output pixel is the exact share of it that the mask covers; `most_covered`
    makes the coverage binary. An empty mask stays empty.
    """
    if not mask.any():
        return torch.zeros(1, height, width, dtype=torch.bool)
    rows, columns = _overlap(mask.shape[-2], height), _overlap(mask.shape[-1], width)
    return most_covered((rows @ mask[0].double() @ columns.T)[None])


def most_covered(coverage: Tensor) -> Tensor:
    """The mask (1, H, W) bool that keeps the area of a non-zero `coverage` c (1, H, W) in [0, 1].

    It marks the N = max(1, round(Σ c)) most covered pixels and all that tie with the last of them.
    For large defects this is about c > 1/2. A scratch thinner than a pixel, which c > 1/2 would
    erase, keeps its area.
    """
    count = max(1, round(coverage.sum().item()))
    values = coverage.numpy().ravel()
    least = np.partition(values, values.size - count)[values.size - count]
    # With the tolerance, values that differ only by rounding tie.
    return (coverage >= float(least) * (1 - 1e-6)) & (coverage > 0)


def restore_map(values: Tensor, original: tuple[int, int], mode: str = "squash") -> Tensor:
    """Resize maps (…, S, S) of the square to the original (H, W), bilinearly.

    With "pad" the padding is cut off first.

    Raises:
        ValueError: maps that are not square.
    """
    from torchvision.transforms.v2 import functional as F

    if values.shape[-1] != values.shape[-2]:
        raise ValueError(f"Expected a square map; found {tuple(values.shape)}.")
    place = placement(original, values.shape[-1], mode)
    inside = F.crop(values, place.top, place.left, place.height, place.width)
    planes = inside.reshape(-1, 1, place.height, place.width)
    restored = F.resize(planes, list(original), antialias=True)
    return restored.reshape(*values.shape[:-2], *original)


def _overlap(source: int, target: int) -> Tensor:
    """(target, source): the share of each target cell covered by each source cell."""
    edges = torch.arange(target + 1, dtype=torch.float64) * (source / target)
    cells = torch.arange(source, dtype=torch.float64)
    low = torch.maximum(edges[:-1, None], cells)
    high = torch.minimum(edges[1:, None], cells + 1)
    return (high - low).clamp(min=0) * (target / source)
