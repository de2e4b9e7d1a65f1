"""The three sets of the comparison: a pool to label, validation and test parts, and their classes.

Parts are split before anything is duplicated: no board, tile or part of the pool is in the test.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from gainbook.chapters.ch14_active.features import VIEWS, Levels, cached, encode
from gainbook.lab.stored_arrays import read_arrays, write_arrays
from gainmtl.backbone import Backbone
from gainmtl.datasets import load
from gainmtl.datasets.deep_pcb.pairs import TYPES
from gainmtl.types import NORMAL

Rows = NDArray[np.int64]

PCB_TEST = ("44000", "50600", "92000")
"""Board designs of the test: 211 of 1,000 pairs."""
PCB_POOL = dict(zip((NORMAL, *TYPES), (4500, 500, 380, 280, 200, 140, 100), strict=True))
"""Tiles of the pool by class, imbalanced on purpose, 6,100 in all."""
PCB_VAL, PCB_TESTED = 60, 110
"""Most tiles of a class in the validation and test parts; normal ones three times as many."""
TEXTURES = ("brushed_metal", "cast", "ceramic")
TIERS = (7, 2, 1)
"""Relative class sizes of the synthetic pool; each holds for five of the fifteen classes."""


@dataclass(frozen=True)
class Setting:
    """A comparison's numbers of images."""

    first: int
    """Labelled images per class at the start, or all there are."""
    batch: int
    """Images labelled in a round."""
    rounds: int
    image_size: int = 128


SETTINGS = {
    "deep-pcb": Setting(first=10, batch=100, rounds=10),
    "magnetic-tile": Setting(first=5, batch=20, rounds=10),
    "synthetic": Setting(first=5, batch=100, rounds=8),
}


class Part(NamedTuple):
    """Images of a pool, validation or test part."""

    dataset: Any
    """A dataset of `gainmtl.datasets`."""
    rows: Rows
    """(N,) its rows."""
    labels: Rows
    """(N,) class numbers."""

    def names(self) -> list[str]:
        """Names of the images."""
        return [self.dataset.names[i] for i in self.rows.tolist()]


class Split(NamedTuple):
    """A set, divided."""

    name: str
    classes: tuple[str, ...]
    pool: Part
    val: Part
    test: Part
    fingerprint: str


def draw(labels: NDArray[Any], quota: Mapping[str, int], rng: np.random.Generator) -> Rows:
    """Sorted rows with at most `quota` of each class; classes without a quota are left out."""
    rows = [rng.permutation(np.flatnonzero(labels == kind))[:most] for kind, most in quota.items()]
    return np.sort(np.concatenate(rows)).astype(np.int64)


def _part(dataset: Any, labels: NDArray[Any], rows: Rows, classes: tuple[str, ...]) -> Part:
    number = {kind: place for place, kind in enumerate(classes)}
    codes = np.array([number[str(kind)] for kind in labels[rows]], dtype=np.int64)
    return Part(dataset, rows, codes)


def pcb(root: str | Path, image_size: int = 128) -> Split:
    """DeepPCB's tiles with defects of one type only, tested on three board designs of seven."""
    data: Any = load("deep-pcb", root, image_size, test_designs=PCB_TEST)
    classes = tuple(PCB_POOL)
    rng = np.random.default_rng(14)
    parts = []
    for name in ("train", "val", "test"):
        dataset = getattr(data, name)
        mixed = [len({box.defect_type for box in boxes}) > 1 for boxes in dataset.boxes]
        labels = np.where(mixed, "mixed", np.array(dataset.defect_types))
        most = {"val": PCB_VAL, "test": PCB_TESTED}.get(name, 0)
        quota = {kind: most * (3 if kind == NORMAL else 1) for kind in classes}
        rows = draw(labels, PCB_POOL if name == "train" else quota, rng)
        parts.append(_part(dataset, labels, rows, classes))
    return Split("deep-pcb", classes, parts[0], parts[1], parts[2], data.fingerprint)


def tiles(root: str | Path, image_size: int = 128) -> Split:
    """Magnetic tiles by defect type; a third of the tiles are for the test."""
    data: Any = load("magnetic-tile", root, image_size, fold=0, folds=3)
    classes = data.types()
    parts = [
        _part(d, np.array(d.defect_types), np.arange(len(d), dtype=np.int64), classes)
        for d in (data.train, data.val, data.test)
    ]
    return Split("magnetic-tile", classes, parts[0], parts[1], parts[2], data.fingerprint)


def synthetic(image_size: int = 128, unit: int = 49, seed: int = 0) -> Split:
    """15 classes of defective parts, five defect types on three textures.

    Class sizes of the pool are 7, 2 and 1 times `unit`, those of validation a seventh of them; the
    test has as many parts of each class, twice `unit`.
    """
    largest = TIERS[0] * unit
    count = 40 * largest  # every class occurs in a fifteenth of them
    data: Any = load(
        "synthetic", image_size=image_size, seed=seed, textures=TEXTURES, defect_rate=1.0,
        train=count, val=count // 4, test=count // 4,
    )  # fmt: skip
    kinds = sorted(set(data.train.defect_types))
    # The tiers go round the types, so that no type is rare on all textures.
    classes = tuple(f"{kind} on {texture}" for texture in TEXTURES for kind in kinds)
    size = {name: TIERS[place % 3] * unit for place, name in enumerate(classes)}
    rng = np.random.default_rng([14, seed])
    parts = []
    for dataset in (data.train, data.val, data.test):
        pairs = zip(dataset.defect_types, dataset.textures, strict=True)
        labels = np.array([f"{kind} on {texture}" for kind, texture in pairs])
        quota = size
        if dataset is data.val:
            quota = {name: max(1, n // 7) for name, n in size.items()}
        if dataset is data.test:
            quota = dict.fromkeys(size, 2 * unit)
        parts.append(_part(dataset, labels, draw(labels, quota, rng), classes))
    return Split("synthetic", classes, parts[0], parts[1], parts[2], data.fingerprint)


def split_of(name: str, root: str | Path | None, image_size: int = 128) -> Split:
    """The division of a set; the same for every seed.

    Raises:
        ValueError: another set, or a set that needs a root and has none.
    """
    if name == "synthetic":
        return synthetic(image_size)
    if name not in SETTINGS:
        raise ValueError(f"dataset: expected one of {', '.join(SETTINGS)}, got {name!r}")
    if root is None:
        raise ValueError(f"data_root: the dataset {name!r} needs the folder of its images")
    return pcb(root, image_size) if name == "deep-pcb" else tiles(root, image_size)


class Encoded(NamedTuple):
    """A part's labels and features."""

    labels: Rows
    levels: dict[str, Levels]
    """By view; validation and test parts have the plain one only."""
    masks: NDArray[np.bool_] | None
    """(N, 2h, 2w): cells that the defect's mask touches; all false on a normal image. `None`
    outside the pool."""


def encode_part(
    part: Part, backbone: Backbone, folder: Path, views: tuple[str, ...] = VIEWS[:1]
) -> Encoded:
    """Features of a part, read from `folder` where they are there."""
    names = part.names()
    images = [int(i) for i in part.rows]
    levels = {
        view: cached(
            folder / f"{view}.npz",
            lambda view=view: encode(  # type: ignore[misc]
                backbone, (part.dataset[i].image for i in images), view
            ),
            names,
        )
        for view in views
    }
    if len(views) == 1:
        return Encoded(part.labels, levels, None)
    grid = levels[VIEWS[0]].fine.shape[2:]
    path = folder / "masks.npz"
    stored = read_arrays(path, names, str(grid))
    if stored is None:
        cells = [
            torch.nn.functional.adaptive_max_pool2d(part.dataset[i].mask, grid)[0] for i in images
        ]
        stored = {"masks": torch.stack(cells).bool().numpy()}
        write_arrays(path, names, str(grid), **stored)
    return Encoded(part.labels, levels, stored["masks"])


def encode_split(split: Split, backbone: Backbone, folder: Path) -> dict[str, Encoded]:
    """Features of pool (all views), validation and test part by name."""
    return {
        "pool": encode_part(split.pool, backbone, folder / "pool", VIEWS),
        "val": encode_part(split.val, backbone, folder / "val"),
        "test": encode_part(split.test, backbone, folder / "test"),
    }


def feature_folder(folder: str | Path, dataset: str, backbone: Backbone, image_size: int) -> Path:
    """Where the features of a set by this backbone, its weights and this image size are kept."""
    weights = (backbone.initial_weights or "random").replace(":", "-")[:15]
    return Path(folder) / "features" / f"{dataset}-{backbone.name}-{weights}-{image_size}"
