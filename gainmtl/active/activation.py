"""Activation scores of a class activation map, with a mask of the object and without.

The paper that proposes to choose labels by Grad-CAM's "activation score of heat map and mask" gives
no formula. The two readings here are ours. With masks, a low score means that the map lies outside
the mask. Without masks, it means that the map is spread out, or differs if the image is flipped or
shifted. The *risk* `1 - score` is the acquisition score. Maps are (N, h, w), and only their
positive part counts, as in Grad-CAM.

Source of the idea: Lee, Kang and Han, a study of high-performance labelling models with active
learning and Grad-CAM (in Korean), Kyungpook National University.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gainmtl.active.uncertainty import entropy

Array = NDArray[np.float64]
THRESHOLD = 0.5
"""Share of a map's maximum from which a cell counts as active in `overlap`."""


def _positive(maps: ArrayLike) -> Array:
    x = np.asarray(maps, dtype=np.float64)
    if x.ndim != 3:
        raise ValueError(f"expected maps (N, h, w), got shape {x.shape}")
    if bad := int((~np.isfinite(x)).any((1, 2)).sum()):
        raise ValueError(
            f"expected finite maps, found NaN or infinity in {bad} of {len(x)}; check the model "
            "and the images"
        )
    return np.maximum(x, 0)


def _flat(maps: Array) -> Array:
    return maps.reshape(len(maps), maps.shape[1] * maps.shape[2])  # -1 fails without maps


def _masks(masks: ArrayLike, maps: Array) -> NDArray[np.bool_]:
    m = np.asarray(masks)
    if m.shape != maps.shape or not np.isin(m, (0, 1)).all():
        raise ValueError(
            f"expected binary masks of the maps' shape {maps.shape}, got shape {m.shape}; resize "
            "the masks to the grid of the maps"
        )
    return m.astype(bool)


def mass_inside(maps: ArrayLike, masks: ArrayLike) -> Array:
    """`sum_{i in mask} A_i+ / sum_i A_i+`, (N, h, w) twice to (N,) in [0, 1].

    0 for a map without a positive cell, NaN for an empty mask.
    """
    x = _positive(maps)
    m = _masks(masks, x)
    total = x.sum((1, 2))
    share = (x * m).sum((1, 2)) / np.where(total > 0, total, 1)
    return np.where(m.any((1, 2)), share, math.nan)


def overlap(maps: ArrayLike, masks: ArrayLike, threshold: float = THRESHOLD) -> Array:
    """Intersection over union of the mask and `A+ >= threshold max A+`, (N,) in [0, 1].

    0 for a map without a positive cell, NaN for an empty mask.
    """
    x = _positive(maps)
    m = _masks(masks, x)
    top = x.max((1, 2), keepdims=True)
    active = (x >= threshold * top) & (top > 0)
    union = (active | m).sum((1, 2))
    return np.where(m.any((1, 2)), (active & m).sum((1, 2)) / np.maximum(union, 1), math.nan)


def concentration(maps: ArrayLike) -> Array:
    """`1 - H(A+ / sum A+) / ln n` over the n = h w cells, (N,) in [0, 1].

    1 if one cell has all of the map, 0 if all cells are equal or none is positive.
    """
    x = _flat(_positive(maps))
    total = x.sum(1, keepdims=True)
    shares = np.where(total > 0, x / np.where(total > 0, total, 1), 1 / x.shape[1])
    return np.asarray(1 - entropy(shares) / math.log(x.shape[1]))


def agreement(maps: ArrayLike, others: ArrayLike) -> Array:
    """Correlation over the cells of the positive parts of two maps, negative ones as 0: (N,).

    `others` are the maps of flipped or shifted images, moved back. In [0, 1]; 0 for a constant map.
    """
    first, second = _positive(maps), _positive(others)
    if first.shape != second.shape:
        raise ValueError(f"expected two maps of one shape, got {first.shape} and {second.shape}")
    a, b = (x - x.mean(1, keepdims=True) for x in map(_flat, (first, second)))
    scale = np.sqrt((a**2).sum(1) * (b**2).sum(1))
    found = (a * b).sum(1) / np.where(scale > 0, scale, 1)
    return np.clip(np.where(scale > 0, found, 0), 0, 1)


def score_with_masks(maps: ArrayLike, masks: ArrayLike) -> Array:
    """`(mass_inside + overlap) / 2`, (N,) in [0, 1]; the mean of the others for an empty mask.

    The masks are annotations of images that have no label yet, so this serves comparisons and is no
    usable acquisition score. An image with an empty mask gets the mean, so that the mask does not
    decide whether it is chosen; 0.5 if every mask is empty.
    """
    score = (mass_inside(maps, masks) + overlap(maps, masks)) / 2
    defined = score[~np.isnan(score)]
    return np.where(np.isnan(score), defined.mean() if len(defined) else 0.5, score)


def score_without_masks(maps: ArrayLike, *pairs: tuple[ArrayLike, ArrayLike]) -> Array:
    """`(concentration + mean agreement over views) / 2`, (N,) in [0, 1]; no mask is used.

    Args:
        maps: (N, h, w).
        pairs: per view the map and the view's map moved back, both on the cells that they share.

    Raises:
        ValueError: no view, or maps of other shapes.
    """
    if not pairs:
        raise ValueError("expected at least one view of the images, got none")
    agreed = np.mean([agreement(a, b) for a, b in pairs], axis=0)
    return np.asarray((concentration(maps) + agreed) / 2)
