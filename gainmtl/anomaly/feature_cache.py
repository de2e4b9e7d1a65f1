"""A cache of the frozen teacher's features of images that are unchanged in every epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from gainmtl.types import collate

GIB = 2**30


class FeatureCache:
    """The teacher's levels of N images, indexed by image name.

    Args:
        names: N different names.
        levels: (N, h_i, w_i, C_i) each; channels last, which is faster on a CPU.

    Raises:
        ValueError: names that are not different.
    """

    def __init__(self, names: Sequence[str], levels: Sequence[Tensor]) -> None:
        self._row = {name: row for row, name in enumerate(names)}
        if len(self._row) < len(names):
            raise ValueError(
                f"FeatureCache: expected one name per image; {len(names)} images have "
                f"{len(self._row)} names. Give each image its own name"
            )
        self._levels = list(levels)

    @property
    def gib(self) -> float:
        """Size of the levels in GiB."""
        return sum(level.nbytes for level in self._levels) / GIB

    def levels(self, names: Sequence[str]) -> list[Tensor]:
        """The levels (B, C_i, h_i, w_i) of these images.

        Raises:
            KeyError: an image that is not in the cache.
        """
        rows = torch.tensor([self._row[name] for name in names], device=self._levels[0].device)
        return [level.index_select(0, rows).permute(0, 3, 1, 2) for level in self._levels]


@torch.no_grad()
def cache_features(
    levels_of: Callable[[Tensor], Sequence[Tensor]], part: Any, batch_size: int, limit: float
) -> FeatureCache | None:
    """The features of all images of `part`, computed in its order in batches of `batch_size`.

    The order is fixed, so that a resumed run computes the same bits.

    Args:
        levels_of: (B, 3, H, W) in [0, 1] to levels (B, C_i, h_i, w_i); they stay on their device.
        limit: largest size of the levels in GiB.

    Returns:
        `None` if the levels are larger than `limit`, or if two images have the same name.
    """
    loader: Any = DataLoader(part, batch_size=batch_size, collate_fn=collate)
    names: list[str] = []
    stored: list[Tensor] = []
    for batch in loader:
        images = batch.image.contiguous(memory_format=torch.channels_last)
        levels = [level.permute(0, 2, 3, 1).contiguous() for level in levels_of(images)]
        if not stored:
            if sum(level[0].nbytes for level in levels) * len(part) > limit * GIB:
                return None
            stored = [level.new_empty((len(part), *level.shape[1:])) for level in levels]
        for rows, level in zip(stored, levels, strict=True):
            rows[len(names) : len(names) + len(level)] = level
        names += batch.name
    if len(set(names)) < len(names):
        return None
    return FeatureCache(names, stored)
