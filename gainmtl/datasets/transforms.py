"""Images and masks brought to one size together, and maps brought back to the original size.

Two modes: "squash" stretches the image to the square, "pad" keeps its proportions and fills
the rest of the square with the image's mean colour. Neither a mirrored nor a smeared border
is used for that: a defect at the border would be continued where the mask says clean.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

RESIZE_MODES = ("squash", "pad")


class Placement(NamedTuple):
    """Where an image lies in its square."""

    top: int
    left: int
    height: int
    width: int


def placement(original: tuple[int, int], size: int, mode: str = "squash") -> Placement:
    """Where an image of `original` (H, W) comes to lie in a `size` x `size` square.

    Raises:
        ValueError: `mode` is unknown.
    """
    if mode not in RESIZE_MODES:
        raise ValueError(f"Expected resize to be one of {', '.join(RESIZE_MODES)}; found {mode!r}.")
    if mode == "squash":
        return Placement(0, 0, size, size)
    scale = size / max(original)
    height, width = (max(1, round(side * scale)) for side in original)
    return Placement((size - height) // 2, (size - width) // 2, height, width)


def resize_pair(
    image: Tensor, mask: Tensor | None, size: int, mode: str = "squash"
) -> tuple[Tensor, Tensor | None]:
    """Resize an image (3, H, W), uint8 or float, and its mask (1, H, W) bool to a square.

    The image is resized bilinearly with antialiasing. For the mask see `resize_mask`.

    Returns:
        Image (3, size, size) of the same dtype, and mask (1, size, size) bool or `None`.
    """
    place = placement((image.shape[-2], image.shape[-1]), size, mode)
    small = F.resize(image, [place.height, place.width], antialias=True)
    if mask is not None:
        mask = resize_mask(mask, place.height, place.width)
    if (place.height, place.width) == (size, size):
        return small, mask
    inside = (..., slice(place.top, place.top + place.height),
              slice(place.left, place.left + place.width))  # fmt: skip
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
    """Resize a mask (1, H, W) bool so that its area share stays and no defect vanishes.

    Each output pixel's coverage is the exact share of it that the mask covers; `most_covered`
    makes it binary again. An empty mask stays empty.
    """
    if not mask.any():
        return torch.zeros(1, height, width, dtype=torch.bool)
    rows, columns = _overlap(mask.shape[-2], height), _overlap(mask.shape[-1], width)
    return most_covered((rows @ mask[0].double() @ columns.T)[None])


def most_covered(coverage: Tensor) -> Tensor:
    """The mask (1, H, W) bool that keeps the area of a non-zero `coverage` c in [0, 1].

    It holds the N = max(1, round(Σ c)) most covered pixels, and all that tie with the last of
    them. For large defects this is c > 1/2; a scratch thinner than a pixel, which c > 1/2
    would erase, keeps its area.
    """
    count = max(1, round(coverage.sum().item()))
    values = coverage.numpy().ravel()
    least = np.partition(values, values.size - count)[values.size - count]
    # The tolerance makes ties of values that differ by rounding alone.
    return (coverage >= float(least) * (1 - 1e-6)) & (coverage > 0)


def restore_map(values: Tensor, original: tuple[int, int], mode: str = "squash") -> Tensor:
    """Take maps (…, S, S) of the resized square back to the original (H, W), bilinearly.

    With "pad" the border is cut off first.
    """
    if values.shape[-1] != values.shape[-2]:
        raise ValueError(f"Expected a square map; found {tuple(values.shape)}.")
    place = placement(original, values.shape[-1], mode)
    inside = F.crop(values, place.top, place.left, place.height, place.width)
    planes = inside.reshape(-1, 1, place.height, place.width)
    restored = F.resize(planes, list(original), antialias=True)
    return restored.reshape(*values.shape[:-2], *original)


def _overlap(source: int, target: int) -> Tensor:
    """(target, source): the share of each target cell that each source cell covers."""
    edges = torch.arange(target + 1, dtype=torch.float64) * (source / target)
    cells = torch.arange(source, dtype=torch.float64)
    low = torch.maximum(edges[:-1, None], cells)
    high = torch.minimum(edges[1:, None], cells + 1)
    return (high - low).clamp(min=0) * (target / source)
