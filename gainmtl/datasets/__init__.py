"""Data sets by name: `load` reads, splits and describes one.

data = gainmtl.datasets.load("magnetic-tile", root=folder, image_size=192, fold=0)
data.train[0]          # a Sample
print(data.report())
"""

from __future__ import annotations

import difflib
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from gainmtl.datasets.annotation import limit_masks
from gainmtl.datasets.augment import Augment, AugmentedDataset
from gainmtl.datasets.data import Data, counts_of
from gainmtl.datasets.exposure import limit_exposures
from gainmtl.datasets.fingerprint import fingerprint
from gainmtl.datasets.image_dataset import ImageDataset, fits_in_memory
from gainmtl.datasets.layouts import LAYOUTS, read_records
from gainmtl.datasets.normal import normal_only
from gainmtl.datasets.records import Record, list_images
from gainmtl.datasets.splits import assign_folds, split_validation

__all__ = [
    "Augment",
    "AugmentedDataset",
    "Data",
    "ImageDataset",
    "Record",
    "limit_exposures",
    "limit_masks",
    "list_images",
    "load",
    "normal_only",
]

NAMES = ("synthetic", *LAYOUTS)
SPLITS = ("auto", "official", "folds", "leaking")


def load(
    name: str,
    root: str | Path | None = None,
    image_size: int = 224,
    fold: int = 0,
    folds: int = 5,
    seed: int = 0,
    resize: str = "squash",
    validation: float = 0.15,
    category: str | None = None,
    split: str = "auto",
    cache: bool | str = "auto",
    **dials: Any,
) -> Data:
    """Read the set `name` and return its training, validation and test parts.

    Args:
        name: "synthetic", or a layout: "folder", "mvtec", "visa", "magnetic-tile", "voc2012".
        root: the folder of the set; `None` for "synthetic".
        image_size: side of the square that images are resized to.
        fold: which of the `folds` parts is tested.
        seed: of the folds and of the validation part; of the images for "synthetic".
        resize: "squash" or "pad" (see `transforms`).
        validation: share of the training groups that validate; unused where the official
            split has a validation part.
        category: which category of "mvtec" and "visa"; which class of "voc2012", against the rest.
        split: "official" takes the split of the set (it has one fold), "folds" pools all
            images and makes folds by group, "auto" takes the official one where there is one.
            "leaking" makes folds by image, ignoring groups, to show what that does.
        cache: keep decoded images in memory; "auto": if they take at most a quarter of what
            is free.
        dials: further parameters of "synthetic".

    For "synthetic" there is no fixed set to fold: each fold is a fresh draw.

    Raises:
        FileNotFoundError: the root or what must lie in it is missing; names the layout.
        ValueError: an unknown name, dial or impossible value; one class only; an unreadable
            file; a mask of another size than its image.
    """
    if name not in NAMES:
        near = difflib.get_close_matches(str(name), NAMES, n=1, cutoff=0.4)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"Expected a dataset among {', '.join(NAMES)}; found {name!r}.{hint}")
    _check(image_size, fold, folds, seed, split, cache)
    if name == "synthetic":
        return _synthetic(root, image_size, fold, folds, seed, category, split, dials)
    if dials:
        raise ValueError(f"The dataset {name!r} has no dial {', '.join(sorted(dials))}.")
    if root is None:
        raise ValueError(f"The dataset {name!r} needs a root. Expected:{LAYOUTS[name].tree}")
    records = read_records(name, root, category)
    for kind in (False, True):
        if not any(record.is_defective == kind for record in records):
            raise ValueError(
                f"Expected normal and defective images in {root}; all {len(records)} are "
                f"{'normal' if kind else 'defective'}. Expected:{LAYOUTS[name].tree}"
            )
    official = records[0].split is not None
    if split == "official" and not official:
        raise ValueError(f"{root} has no official split; use split='folds'.")
    used = ("official" if official else "folds") if split == "auto" else split
    if used == "official":
        if fold:
            raise ValueError(
                f"The official split has one test set, fold 0; found fold={fold}. Use fold=0, or "
                "split='folds' to pool all images and make folds by group."
            )
        folds = 1
        parts = np.array([record.split for record in records])
        absent = {"train", "test"} - set(parts.tolist())
        if absent:
            raise ValueError(
                f"Expected images for train and test in {root}; found none for "
                f"{' and '.join(sorted(absent))}. Add them, or use split='folds'."
            )
        tested = {record.group for record in records if record.split == "test"}
        both = sorted(tested & {r.group for r in records if r.split != "test"})
        if both:
            raise ValueError(
                f"{len(both)} groups stand on both sides of the official split, the first is "
                f"{both[0]!r}. Use split='folds', or correct groups.csv."
            )
    else:
        number = assign_folds(records, folds, seed, random_split=used == "leaking")
        parts = np.where(number == fold, "test", "train")
    if not (parts == "val").any():
        rows = np.flatnonzero(parts == "train")
        chosen = split_validation(
            [records[row] for row in rows], validation, seed, random_split=used == "leaking"
        )
        parts[rows[chosen]] = "val"
    if cache == "auto":
        cache = fits_in_memory(len(records), image_size)
    above = LAYOUTS[name].mask_above
    pieces = {
        part: ImageDataset(
            [r for r, p in zip(records, parts, strict=True) if p == part],
            image_size, resize, above, bool(cache),
        )
        for part in ("train", "val", "test")
    }  # fmt: skip
    rule = {"layout": name, "category": category, "split": used, "folds": folds, "seed": seed,
            "validation": validation}  # fmt: skip
    counts = {part: counts_of(piece) for part, piece in pieces.items()}
    return Data(
        name=name, **pieces, fingerprint=fingerprint(records, rule), image_size=image_size,
        fold=fold, folds=folds, split=used, counts=counts,
    )  # fmt: skip


def _synthetic(
    root: object,
    image_size: int,
    fold: int,
    folds: int,
    seed: int,
    category: str | None,
    split: str,
    dials: dict[str, Any],
) -> Data:
    # Imported here: a user of image folders never needs the renderer.
    from gainmtl.datasets import synthetic

    for key, value, expected in (("root", root, None), ("category", category, None),
                                 ("split", split, "auto")):  # fmt: skip
        if value != expected:
            raise ValueError(f"The synthetic data is built in: {key} has no use; found {value!r}.")
    drawn = synthetic.make(image_size=image_size, seed=seed, **dials)
    text = json.dumps([part.fingerprint() for part in drawn])
    if fold:
        drawn = synthetic.make(image_size=image_size, seed=seed + (fold << 32), **dials)
    train, val, test = drawn
    if fold:
        # Each fold draws parts of its own; pooled, they must not answer to the same names.
        for part in drawn:
            part.names = [f"fold{fold}/{name}" for name in part.names]
            part.groups = [f"fold{fold}/{group}" for group in part.groups]
    return Data(
        name="synthetic", train=train, val=val, test=test,
        fingerprint=hashlib.sha256(text.encode()).hexdigest(), image_size=image_size, fold=fold,
        folds=folds, split="drawn",
        counts={"train": counts_of(train), "val": counts_of(val), "test": counts_of(test)},
    )  # fmt: skip


def _check(image_size: int, fold: int, folds: int, seed: int, split: str, cache: object) -> None:
    for key, value, least in (("image_size", image_size, 16), ("folds", folds, 1),
                              ("fold", fold, 0), ("seed", seed, 0)):  # fmt: skip
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise ValueError(f"Expected {key} to be a whole number >= {least}; found {value!r}.")
    if fold >= folds:
        raise ValueError(f"Expected fold to be in 0 … {folds - 1}; found {fold}.")
    if split not in SPLITS:
        raise ValueError(f"Expected split to be one of {', '.join(SPLITS)}; found {split!r}.")
    if cache not in (True, False, "auto"):
        raise ValueError(f"Expected cache to be True, False or 'auto'; found {cache!r}.")
