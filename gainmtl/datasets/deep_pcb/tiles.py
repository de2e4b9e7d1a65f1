"""Tiles of a pair: their places, labels and boxes; and the pixels that a defect changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gainmtl.datasets.deep_pcb.pairs import BoxedDefect, Pair
from gainmtl.types import NORMAL


class Tile(NamedTuple):
    """A square of a pair's pictures. Boxes are in pixels of the tile and clipped to it."""

    pair: Pair
    row: int
    column: int
    side: int
    inside: tuple[BoxedDefect, ...]
    """Defects with more than half of their box in the tile, the largest area in it first."""
    partly: tuple[BoxedDefect, ...]
    """Defects with half of their box in the tile or less."""

    @property
    def name(self) -> str:
        """`<design>/<pair>/r<row>c<column>`."""
        return f"{self.pair.name}/r{self.row}c{self.column}"

    @property
    def is_defective(self) -> bool:
        return bool(self.inside)

    @property
    def defect_type(self) -> str:
        """The type of the defect with the largest area in the tile, among those `inside`."""
        return self.inside[0].defect_type if self.inside else NORMAL


def cut(pair: Pair, side: int) -> list[Tile]:
    """The labelled tiles of a pair on a regular grid of `side` x `side` pixels.

    A tile is defective if more than half of a box lies in it, and normal if no box touches it. All
    other tiles are left out.

    Raises:
        ValueError: `side` does not divide the pictures' height and width; names those that do.
    """
    height, width = pair.size
    if height % side or width % side:
        known = [s for s in range(16, min(pair.size) + 1) if height % s == width % s == 0]
        raise ValueError(
            f"tile: expected a side that divides the {width} x {height} pixels of {pair.tested}, "
            f"one of {', '.join(map(str, known)) or 'none'}; got {side}."
        )
    tiles = []
    for row in range(height // side):
        for column in range(width // side):
            inside, partly = [], []
            for defect in pair.defects:
                clipped, share = _clip(defect, row * side, column * side, side)
                if share > 0.5:
                    inside.append(clipped)
                elif share > 0:
                    partly.append(clipped)
            if inside or not partly:
                inside.sort(key=lambda defect: -_area(defect))
                tiles.append(Tile(pair, row, column, side, tuple(inside), tuple(partly)))
    return tiles


def _clip(defect: BoxedDefect, y: int, x: int, side: int) -> tuple[BoxedDefect, float]:
    """The defect in the pixels of the tile at (y, x), and the share of its box in the tile."""
    top, left, bottom, right = defect.box
    inside = defect._replace(
        box=(max(top - y, 0), max(left - x, 0), min(bottom - y, side), min(right - x, side))
    )
    return inside, _area(inside) / _area(defect)


def _area(defect: BoxedDefect) -> int:
    top, left, bottom, right = defect.box
    return max(bottom - top, 0) * max(right - left, 0)


def changed_pixels(
    tested: NDArray[np.bool_], template: NDArray[np.bool_], defects: Sequence[BoxedDefect]
) -> NDArray[np.bool_]:
    """(H, W) the pixels that defects change in a picture, from both pictures of a pair (H, W).

    In each box: tested XOR template, opened with a 3 x 3 square, or the plain difference where
    nothing is left. The opening removes the lines, one pixel wide, that an alignment error leaves
    along the traces.
    """
    marked = np.zeros_like(tested)
    for top, left, bottom, right in (defect.box for defect in defects):
        box = np.s_[top:bottom, left:right]
        difference = tested[box] ^ template[box]
        opened = ndimage.binary_opening(difference, np.ones((3, 3), bool))
        marked[box] |= opened if opened.any() else difference
    return marked
