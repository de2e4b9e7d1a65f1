"""A frozen teacher's features of images that come again, unchanged, in every epoch of a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from gainmtl.types import collate

GIB = 2**30


class KeptFeatures:
    """The levels of a data set's images, asked for by the images' names.

    Args:
        names: of N images, no two alike.
        levels: (N, h_i, w_i, C_i) each; channels last, as a network on a CPU wants them.
    """

    def __init__(self, names: Sequence[str], levels: Sequence[Tensor]) -> None:
        self._row = {name: row for row, name in enumerate(names)}
        if len(self._row) < len(names):
            raise ValueError(f"KeptFeatures: {len(names)} images have {len(self._row)} names")
        self._levels = list(levels)

    @property
    def gib(self) -> float:
        """GiB that the levels take."""
        return sum(level.numel() * level.element_size() for level in self._levels) / GIB

    def of(self, names: Sequence[str]) -> list[Tensor]:
        """The levels (B, C_i, h_i, w_i) of these images.

        Raises:
            KeyError: an image that was not there.
        """
        rows = torch.tensor([self._row[name] for name in names], device=self._levels[0].device)
        return [level.index_select(0, rows).permute(0, 3, 1, 2) for level in self._levels]


@torch.no_grad()
def ask_once(
    levels_of: Callable[[Tensor], Sequence[Tensor]], part: Any, batch_size: int, limit: float
) -> KeptFeatures | None:
    """Ask for every image of `part` once, in its order and in batches of `batch_size`.

    In its order, so that a run that was interrupted finds the same bits.

    Args:
        levels_of: (B, 3, H, W) in [0, 1] to levels (B, C_i, h_i, w_i); they stay on their device.
        limit: GiB that the levels may take.

    Returns:
        `None` where they would take more, or two images have one name.
    """
    loader: Any = DataLoader(part, batch_size=batch_size, collate_fn=collate)
    names: list[str] = []
    found: list[Tensor] = []
    for batch in loader:
        images = batch.image.contiguous(memory_format=torch.channels_last)
        levels = [level.permute(0, 2, 3, 1).contiguous() for level in levels_of(images)]
        if not found:
            per_image = sum(level[0].numel() * level.element_size() for level in levels)
            if per_image * len(part) > limit * GIB:
                return None
            found = [level.new_empty((len(part), *level.shape[1:])) for level in levels]
        for kept, level in zip(found, levels, strict=True):
            kept[len(names) : len(names) + len(level)] = level
        names += batch.name
    if len(set(names)) < len(names):
        return None
    return KeptFeatures(names, found)
