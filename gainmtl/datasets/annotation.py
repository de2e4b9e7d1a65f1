"""Simulated annotation: fewer masks, coarser masks."""

from __future__ import annotations

import dataclasses
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from gainmtl.datasets.data import Data, Described, counts_of
from gainmtl.types import Sample

MASK_QUALITIES = ("exact", "dilated", "box")


def coarsen(mask: Tensor, quality: str) -> Tensor:
    """A coarser mask (1, H, W); `quality` is one of `MASK_QUALITIES`.

    "exact": unchanged. "box": the bounding box of all marked pixels. "dilated": grown by 3 % of
    the image side, at least one pixel, in every direction.
    """
    if quality == "dilated":
        reach = max(1, round(0.03 * mask.shape[-1]))
        return F.max_pool2d(mask, 2 * reach + 1, stride=1, padding=reach)
    if quality == "box":
        return _span(mask.amax(2, keepdim=True), 1) * _span(mask.amax(1, keepdim=True), 2)
    return mask


def _span(line: Tensor, axis: int) -> Tensor:
    """1 from the first to the last 1 along an axis, else 0."""
    started = line.cummax(axis).values
    not_over = line.flip(axis).cummax(axis).values.flip(axis)
    return started * not_over


class AnnotatedDataset(Dataset[Sample]):
    """`dataset` with masks for the defects of some groups only, coarsened.

    A removed mask becomes all zero with `has_mask=False`; `is_defective` is unchanged. Normal
    samples keep their empty mask.

    Args:
        marked: the groups whose defects keep their mask.
        quality: see `coarsen`.
    """

    def __init__(self, dataset: Dataset[Sample], marked: frozenset[str], quality: str) -> None:
        described = cast(Described, dataset)
        self.dataset, self.quality = dataset, quality
        self.labels, self.names = described.labels, tuple(described.names)
        self.groups, self.defect_types = tuple(described.groups), tuple(described.defect_types)
        chosen = np.array([group in marked for group in self.groups], dtype=bool)
        self.has_mask = described.has_mask & (chosen | ~self.labels)
        self.empty_masks = getattr(dataset, "empty_masks", np.zeros_like(self.labels))
        self.resize = getattr(dataset, "resize", "squash")
        for name in ("designs", "boxes"):
            if hasattr(dataset, name):
                setattr(self, name, getattr(dataset, name))

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        index = range(len(self))[index]
        sample = self.dataset[index]
        if not self.has_mask[index]:
            return sample._replace(mask=torch.zeros_like(sample.mask), has_mask=False)
        return sample._replace(mask=coarsen(sample.mask, self.quality))


def limit_masks(data: Data, share: float = 1.0, draw: int = 0, quality: str = "exact") -> Data:
    """`data` with masks for a share of the defective training groups; other parts are unchanged.

    `draw` seeds an order of the n groups whose defects have masks. The first `round(share * n)`,
    at least one for a share above 0, keep them. So with equal `draw` the groups of a smaller share
    are a subset of those of a larger share.

    Args:
        share: in [0, 1].
        quality: "exact", "dilated" or "box" for the masks that are kept; see `coarsen`.

    Raises:
        ValueError: a share outside [0, 1], a negative draw, an unknown quality.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share: expected a number in [0, 1], got {share!r}")
    if draw < 0:
        raise ValueError(f"draw: expected a whole number >= 0, got {draw!r}")
    if quality not in MASK_QUALITIES:
        raise ValueError(f"quality: expected one of {', '.join(MASK_QUALITIES)}, got {quality!r}")
    if share == 1 and quality == "exact":
        return data
    described = cast(Described, data.train)
    groups = sorted(
        {g for g, m in zip(described.groups, described.labels & described.has_mask, strict=True)
         if m}
    )  # fmt: skip
    order = np.random.default_rng(draw).permutation(len(groups))
    kept = max(round(share * len(groups)), int(share > 0))
    train = AnnotatedDataset(data.train, frozenset(groups[i] for i in order[:kept]), quality)
    # With a share of 1 the draw has no effect, so it must not change the fingerprint.
    rule = f"masks {share:g} {draw if share < 1 else 0} {quality}"
    return dataclasses.replace(
        data,
        train=train,
        fingerprint=f"{data.fingerprint}, {rule}",
        counts={**data.counts, "train": counts_of(train)},
    )
