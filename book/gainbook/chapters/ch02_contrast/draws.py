"""Nested draws of training images: normal ones, and defective parts in a random order.

Both arms use the same normal images. A detector is fitted to them alone, a classifier to them and
the first n defective parts of the order, so a smaller number is a subset of a larger one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gainbook.lab.catalogue import DARK
from gainmtl.datasets import Data, load
from gainmtl.datasets.subsets import (
    JoinedDataset,
    SelectedDataset,
    exposure_of,
    limit_exposures,
)
from gainmtl.types import NORMAL

Rows = NDArray[np.int64]
BOARDS, TILES, SYNTHETIC = "deep-pcb", "magnetic-tile", "synthetic"
FOLDS = 5
COMMON: dict[str, Any] = {
    "image_size": 128,
    "backbone": "tf_efficientnet_lite0",
    "weights": "package",
    "normal": 200,
    "val": 200,
}
"""Settings of every study: its arms have the same images, resolution and backbone."""
MIXED = "mixed"
"""The defect type of a board tile with defects of several types; such tiles are left out."""


class LabelDraw(NamedTuple):
    """The images of one draw, and the rows of each use. No part is in two uses."""

    images: Any
    """A dataset of `gainmtl.datasets` with all images of the draw."""
    types: NDArray[Any]
    """(N,) defect type of each image."""
    looks: NDArray[Any]
    """(N,) board design, or exposure of a magnetic tile as text; else empty."""
    normal: Rows
    """Normal images of training."""
    val: Rows
    """Normal images that every arm's threshold is chosen on."""
    parts: tuple[Rows, ...]
    """The images of each defective training part, in the order in which parts are found."""
    test: Rows
    data: Data
    """The split that the images come from."""

    def defective(self, count: int | None = None, without: str | None = None) -> Rows:
        """The images of the first `count` defective parts that are not of a type; None: of all.

        Raises:
            ValueError: fewer parts than `count`.
        """
        kept = [rows for rows in self.parts if without not in self.types[rows]]
        if count is not None and count > len(kept):
            raise ValueError(f"expected at most {len(kept)} defective parts, got {count}")
        return np.concatenate([np.zeros(0, np.int64), *kept[:count]])

    @property
    def part_of(self) -> Rows:
        """(N,) number of the defective training part of each image; -1 for other images."""
        found = np.full(len(self.images), -1)
        for number, rows in enumerate(self.parts):
            found[rows] = number
        return found

    def kinds(self) -> list[str]:
        """The defect types of the test."""
        return sorted(set(self.types[self.test]) - {NORMAL})

    def training_data(self, defective: Rows, least: int = 0) -> Data:
        """The draw as a `Data` for `fit`: normal and these defective images, the validation images.

        The defective ones are repeated until there are at least `least`.
        """
        if 0 < len(defective) < least:
            defective = np.resize(defective, least)
        pieces = {"train": np.concatenate([self.normal, defective]), "val": self.val,
                  "test": self.test}  # fmt: skip
        parts: Any = {name: SelectedDataset(self.images, rows) for name, rows in pieces.items()}
        return dataclasses.replace(self.data, **parts)


def types_of(dataset: Any) -> NDArray[Any]:
    """(N,) defect types; `MIXED` for a board tile with boxes of several types."""
    types = np.array(dataset.defect_types, dtype=object)
    for row, boxes in enumerate(getattr(dataset, "boxes", ())):
        if len({box.defect_type for box in boxes}) > 1:
            types[row] = MIXED
    return types


def _permuted(rows: Rows, rng: np.random.Generator, most: int | None = None) -> Rows:
    return np.asarray(rng.permutation(rows)[:most], dtype=np.int64)


def defective_parts(
    rows: Rows, groups: Sequence[str], rng: np.random.Generator, most: int | None = None
) -> tuple[Rows, ...]:
    """The rows of each part, parts in random order; at most `most` parts."""
    names = np.array([groups[i] for i in rows.tolist()], dtype=object)
    order = rng.permutation(sorted(set(names)))[:most]
    return tuple(rows[names == name] for name in order)


def draw_labels(
    data: Data,
    seed: int,
    settings: Mapping[str, Any],
    by_image: bool = False,
    test_validation: bool = False,
) -> LabelDraw:
    """The draw of a split.

    Args:
        seed: of the order of defective parts and of the chosen normal and test images.
        settings: `normal`, `val`, `most`: the numbers of normal training and validation images and
            of defective parts, at most; `test_normal`, `test_type`: test images, at most.
        by_image: every image is a part of its own, though images have groups: tiles of a board.
        test_validation: images of the validation part that no threshold is chosen on are tested,
            too, as many again.
    """
    rng = np.random.default_rng([2, seed])
    joined: Any = JoinedDataset(data.train, data.val, data.test)
    types, start = types_of(joined), np.cumsum([0, len(data.train), len(data.val)])  # type: ignore[arg-type]
    is_normal = types == NORMAL
    where = np.arange(len(joined))
    piece = np.searchsorted(start, where, side="right") - 1

    def rows(number: int, chosen: NDArray[np.bool_]) -> Rows:
        return np.flatnonzero((piece == number) & chosen)

    normal = _permuted(rows(0, is_normal), rng, settings["normal"])
    val = _permuted(rows(1, is_normal), rng, settings["val"])
    known = ~is_normal & (types != MIXED)
    groups = joined.names if by_image else joined.groups
    parts = defective_parts(rows(0, known), groups, rng, settings["most"])
    test = []
    for number in (2, 1) if test_validation else (2,):
        free = np.setdiff1d(rows(number, is_normal), val)
        test.append(_permuted(free, rng, settings["test_normal"]))
        for kind in sorted(set(types[rows(number, known)])):
            test.append(_permuted(rows(number, types == kind), rng, settings["test_type"]))
    pieces = [normal, val, *parts, *test]
    used = np.concatenate(pieces)
    place = iter(np.split(np.arange(len(used)), np.cumsum([len(p) for p in pieces])[:-1]))
    images = SelectedDataset(joined, used)
    return LabelDraw(
        images, types[used], looks_of(images),
        next(place), next(place), tuple(next(place) for _ in parts), np.concatenate(list(place)),
        data,
    )  # fmt: skip


def looks_of(images: Any) -> NDArray[Any]:
    """(N,) the board design, or the exposure of a magnetic tile as text; else empty texts."""
    if hasattr(images, "designs"):
        return np.array(images.designs, dtype=object)
    try:
        return np.array([str(exposure_of(name)) for name in images.names], dtype=object)
    except ValueError:
        return np.full(len(images), "", dtype=object)


def load_draw(
    dataset: str,
    root: str | Path | None,
    seed: int,
    settings: Mapping[str, Any],
    image_size: int,
    other_looks: bool = False,
    **options: Any,
) -> LabelDraw:
    """Draw `seed` of a set: fold `seed` is its test part, so that draws have other test parts.

    Args:
        image_size: side in pixels that the images are read at.
        other_looks: the training parts have some looks only, and the test parts others as well: the
            folds of the boards are by design, and the training tiles have dark exposures.
        options: further arguments of `gainmtl.datasets.load`.
    """
    given: dict[str, Any] = {"fold": seed % FOLDS, "folds": FOLDS, **options}
    if dataset != SYNTHETIC:
        given["split"] = "designs" if other_looks and dataset == BOARDS else "folds"
    data = load(dataset, root, image_size, **given)
    if other_looks and dataset == TILES:
        data = limit_exposures(data, DARK)
    on_boards = dataset == BOARDS
    return draw_labels(data, seed, settings, on_boards, on_boards and other_looks)
