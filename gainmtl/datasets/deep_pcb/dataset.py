"""A torch `Dataset` of tiles, cut from packed pictures when they are read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from gainmtl.datasets.deep_pcb.pairs import BoxedDefect, Pair
from gainmtl.datasets.deep_pcb.tiles import Tile, changed_pixels
from gainmtl.datasets.images import boxes_mask, read_image
from gainmtl.datasets.transforms import placement, resize_pair
from gainmtl.types import Sample

BITS = 3
"""Stored bits per pixel of a pair: tested picture, template, changed pixels."""


class TileDataset(Dataset[Sample]):
    """The samples of `tiles`; every sample has a mask and a twin.

    `labels` and `has_mask` (N,) bool, `groups` (the pairs), `names`, `defect_types`, `designs` and
    `boxes` need no decoded picture. `boxes[i]` are the defects of tile i in pixels of the tile
    before resizing: those with more than half of their box in it, then the others, all clipped.

    The mask has the pixels of every box in the tile, also of boxes that lie mostly outside. A
    defect with more than half of its box in the tile, but without a changed pixel in it, has its
    box as mask (`marked_by_box`). The twin of a tested tile is the template's tile; alignment
    errors of a pixel remain between the two. A normal tile of a template is its own twin.

    Args:
        image_size: side in pixels that tiles and masks are resized to (see `transforms`).
        masks: "pixels" (see `tiles.changed_pixels`) or "box".
        normals: "tested" or "template": the pictures that normal tiles are cut from.
        cache: keep decoded pictures in memory, 3 bits a pixel. Worker processes of a `DataLoader`
            copy the cache when they start, so call `preload` before.
    """

    def __init__(
        self,
        tiles: Sequence[Tile],
        image_size: int,
        resize: str = "squash",
        masks: str = "pixels",
        normals: str = "tested",
        cache: bool = True,
    ) -> None:
        placement((1, 1), image_size, resize)
        self.tiles = list(tiles)
        self.image_size, self.resize = image_size, resize
        self.masks, self.normals, self.cache = masks, normals, cache
        self.labels: NDArray[np.bool_] = np.array([t.is_defective for t in tiles], dtype=bool)
        self.has_mask: NDArray[np.bool_] = np.ones_like(self.labels)
        self.groups = tuple(tile.pair.name for tile in tiles)
        self.names = tuple(tile.name for tile in tiles)
        self.defect_types = tuple(tile.defect_type for tile in tiles)
        self.designs = tuple(tile.pair.design for tile in tiles)
        self.boxes: tuple[tuple[BoxedDefect, ...], ...] = tuple(t.inside + t.partly for t in tiles)
        self._packed: dict[str, NDArray[np.uint8]] = {}

    def __len__(self) -> int:
        return len(self.tiles)

    def __getitem__(self, index: int) -> Sample:
        tile = self.tiles[range(len(self))[index]]
        tested, template, changed = self._planes(tile)
        own = template if self.normals == "template" and not tile.is_defective else tested
        photos = torch.from_numpy(np.stack([own, template])).float()
        mask = self._mask(tile, changed)[0] if tile.is_defective else None
        if tile.side != self.image_size:
            photos, mask = resize_pair(photos, mask, self.image_size, self.resize)
        shape = (1, self.image_size, self.image_size)
        return Sample(
            image=photos[:1].repeat(3, 1, 1),
            is_defective=tile.is_defective,
            mask=torch.zeros(shape) if mask is None else mask.float(),
            has_mask=True,
            defect_type=tile.defect_type,
            group=tile.pair.name,
            name=tile.name,
            twin=photos[1:].repeat(3, 1, 1),
        )

    def preload(self) -> None:
        """Decode all pictures now, if `cache` is on."""
        for tile in self.tiles if self.cache else ():
            self._pictures(tile.pair)

    def marked_by_box(self) -> NDArray[np.bool_]:
        """(N,) where a box replaces the pixels of a defect, because none of them changed.

        All false with `masks="box"`. Reads all pictures of defective tiles.
        """
        return np.array(
            [t.is_defective and self._mask(t, self._planes(t)[2])[1] for t in self.tiles], bool
        )

    def _mask(self, tile: Tile, changed: NDArray[np.uint8]) -> tuple[Tensor, bool]:
        """The mask (1, side, side) bool of a defective tile; whether a box replaces pixels."""
        shape = (tile.side, tile.side)
        if self.masks == "box":
            return boxes_mask([d.box for d in tile.inside + tile.partly], shape), False
        mask = torch.from_numpy(changed.astype(bool))[None]
        unmarked = [
            (top, left, bottom, right)
            for top, left, bottom, right in (defect.box for defect in tile.inside)
            if not mask[:, top:bottom, left:right].any()
        ]
        return mask | boxes_mask(unmarked, shape), bool(unmarked)

    def _planes(self, tile: Tile) -> NDArray[np.uint8]:
        """(3, side, side) of 0 and 1: the tile in the tested picture, template and changed."""
        side, left = tile.side, tile.column * tile.side
        start = left // 8
        rows = self._pictures(tile.pair)[:, tile.row * side : (tile.row + 1) * side]
        bits = np.unpackbits(rows[:, :, start : -(-(left + side) // 8)], axis=2)
        return bits[:, :, left - 8 * start :][:, :, :side]

    def _pictures(self, pair: Pair) -> NDArray[np.uint8]:
        """(3, H, ⌈W/8⌉): tested picture, template and changed pixels, eight pixels a byte."""
        if pair.name in self._packed:
            return self._packed[pair.name]
        # The pictures are binary, and stored with compression noise.
        tested, template = (
            (read_image(path).amax(0) > 127).numpy() for path in (pair.tested, pair.template)
        )
        changed = changed_pixels(tested, template, pair.defects)
        packed = np.packbits(np.stack([tested, template, changed]), axis=2)
        if self.cache:
            self._packed[pair.name] = packed
        return packed
