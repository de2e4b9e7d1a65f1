"""Frozen features of a draw's images, one vector an image, computed once and kept in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gainbook.lab.stored_arrays import read_arrays, write_arrays
from gainmtl.backbone import Backbone

Array = NDArray[np.float32]
LEVELS = 3
"""The coarsest levels that are used: strides 8, 16 and 32 for most backbones."""


class FrozenFeatures(NamedTuple):
    """Features of N images, the same for all arms, and the size of their defects."""

    vectors: Array
    """(N, D): the mean and the maximum of every channel over its cells, level after level."""
    shares: NDArray[np.float64]
    """(N,) the share of the image that the defect's mask marks; 0 without a mask."""

    @property
    def sides(self) -> NDArray[np.float64]:
        """(N,) side of a square of the marked area, as a share of the image's side."""
        return np.asarray(np.sqrt(self.shares))


def pooled(levels: list[Tensor]) -> Tensor:
    """(B, 2 Σ C_i) from levels (B, C_i, h_i, w_i): the means, then the maxima, of each level."""
    return torch.cat([f(x) for x in levels for f in (lambda x: x.mean((2, 3)), _largest)], 1)


def _largest(level: Tensor) -> Tensor:
    return level.amax((2, 3))


@torch.inference_mode()
def compute(backbone: Backbone, images: Any, batch: int = 32) -> FrozenFeatures:
    """The features of a dataset's images (3, H, W) in [0, 1]."""
    backbone.eval()
    mean, std = (torch.tensor(x)[:, None, None] for x in (backbone.mean, backbone.std))
    vectors, shares = [], []
    for start in range(0, len(images), batch):
        samples = [images[i] for i in range(start, min(start + batch, len(images)))]
        stack = (torch.stack([s.image for s in samples]) - mean) / std
        levels = backbone.pyramid(stack.contiguous(memory_format=torch.channels_last))
        vectors.append(pooled(levels[-LEVELS:]).numpy())
        shares += [float(s.mask.mean()) for s in samples]
    return FrozenFeatures(np.concatenate(vectors).astype(np.float32), np.array(shares))


def features_of(backbone: Backbone, images: Any, path: Path | None) -> FrozenFeatures:
    """The features in a file, which is made where it is missing or of other images or weights."""
    made_with = made_by(backbone)
    stored = read_arrays(path, images.names, made_with)
    if stored is not None:
        return FrozenFeatures(**stored)
    found = compute(backbone, images)
    write_arrays(path, images.names, made_with, **found._asdict())
    return found


def made_by(backbone: Backbone) -> str:
    """A backbone and its weights in one word."""
    return f"{backbone.name} {backbone.initial_weights}"
