"""Frozen features of images in three views, computed once and kept in files.

A head that is linear on the mean of feature maps has an exact class activation map, which for this
head is also its Grad-CAM. With frozen maps a round of active learning trains only that head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from gainbook.lab.stored_arrays import read_arrays, write_arrays
from gainmtl.backbone import Backbone

Array = NDArray[np.float32]

VIEWS = ("plain", "flipped", "shifted")
"""As the image is; mirrored left to right; moved right by a cell of the finer level."""
LEVELS = 2
"""How many of the backbone's levels are kept: the coarsest, strides 16 and 32 for most."""


class Levels(NamedTuple):
    """Feature maps of N images, the finer level first."""

    fine: NDArray[np.float16]
    """(N, C1, 2h, 2w)."""
    coarse: NDArray[np.float16]
    """(N, C2, h, w)."""

    def take(self, rows: NDArray[np.int64]) -> Levels:
        """Those of some images."""
        return Levels(self.fine[rows], self.coarse[rows])


def pooled(levels: Levels) -> Array:
    """(N, C1 + C2): the mean of each channel over its cells."""
    return np.concatenate([x.mean((2, 3), dtype=np.float32) for x in levels], axis=1)


def weighted_sum(levels: Levels, weight: Array) -> Array:
    """`A = sum_c w_c F_c` on the finer grid: weights (N, C1 + C2) per image to (N, 2h, 2w).

    The coarser level is repeated, so the mean of A over its cells is `w . pooled(levels)`.
    """
    split = levels.fine.shape[1]
    total = _sum(levels.fine, weight[:, :split])
    return total + _sum(levels.coarse, weight[:, split:]).repeat(2, 1).repeat(2, 2)


def _sum(maps: NDArray[np.float16], weight: Array) -> Array:
    flat = maps.reshape(*maps.shape[:2], -1).astype(np.float32)
    return np.matmul(weight[:, None], flat).reshape(len(maps), *maps.shape[2:])


def turn(images: Tensor, view: str, stride: int) -> Tensor:
    """Images (B, 3, H, W) in one of the `VIEWS`; a shift repeats the left edge mirrored."""
    if view == "flipped":
        return images.flip(3)
    if view == "shifted":
        return functional.pad(images, (stride, 0, 0, 0), mode="reflect")[..., : images.shape[3]]
    return images


@torch.inference_mode()
def encode(backbone: Backbone, images: Iterable[Tensor], view: str, batch: int = 32) -> Levels:
    """The levels of images (3, H, W) in [0, 1], in one of the `VIEWS`.

    Raises:
        ValueError: a size that is no multiple of the backbone's coarsest stride, or no image.
    """
    backbone.eval()
    mean, std = (torch.tensor(x)[:, None, None] for x in (backbone.mean, backbone.std))
    found: list[list[NDArray[np.float16]]] = [[], []]
    waiting: list[Tensor] = []

    def flush() -> None:
        stack = torch.stack(waiting)
        if stack.shape[2] % backbone.strides[-1] or stack.shape[3] % backbone.strides[-1]:
            raise ValueError(
                f"image_size: expected a multiple of {backbone.strides[-1]}, the stride of "
                f"{backbone.name}, got {stack.shape[3]} x {stack.shape[2]}"
            )
        turned = (turn(stack, view, backbone.strides[-LEVELS]) - mean) / std
        maps = backbone.pyramid(turned.contiguous(memory_format=torch.channels_last))
        for place, level in zip(found, maps[-LEVELS:], strict=True):
            place.append(level.contiguous().numpy().astype(np.float16))
        waiting.clear()

    for image in images:
        waiting.append(image)
        if len(waiting) == batch:
            flush()
    if waiting:
        flush()
    if not found[0]:
        raise ValueError("expected at least one image to compute features of, got none")
    return Levels(*(np.concatenate(x) for x in found))


def cached(path: Path, make: Callable[[], Levels], names: Sequence[str]) -> Levels:
    """The levels in a file, which is made where it is missing or has other images."""
    stored = read_arrays(path, names)
    if stored is not None:
        return Levels(**stored)
    levels = make()
    write_arrays(path, names, fine=levels.fine, coarse=levels.coarse)
    return levels
