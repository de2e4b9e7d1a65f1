"""`load`: read a data set by name, and split it into training, validation and test parts."""

from __future__ import annotations

import difflib
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gainmtl.datasets.data import Data, counts_of
from gainmtl.datasets.image_dataset import ImageDataset, fits_in_memory
from gainmtl.datasets.layouts import LAYOUTS, read_records
from gainmtl.datasets.records import Record, fingerprint
from gainmtl.datasets.splits import assign_folds, split_validation

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
    **settings: Any,
) -> Data:
    """Read the set `name` and return its training, validation and test parts.

    Args:
        name: "synthetic", or a layout: "folder", "mvtec", "visa", "magnetic-tile", "voc2012".
        root: the folder of the set; `None` for "synthetic".
        image_size: side of the square that images are resized to, in pixels.
        fold: the fold that is tested, 0 … `folds` - 1.
        seed: of the folds and of the validation part; of the images for "synthetic".
        resize: "squash" or "pad" (see `transforms`).
        validation: share of the training groups in the validation part; unused if the official
            split has a validation part.
        category: a category of "mvtec" or "visa"; the class of "voc2012", against the rest.
        split: "official" takes the split of the set, which has one fold. "folds" pools all images
            and makes folds by group. "auto" takes the official split if there is one, else folds.
            "leaking" makes folds by image and ignores groups, to demonstrate leakage.
        cache: keep decoded images in memory; "auto": if they take at most a quarter of the free
            memory.
        settings: of "synthetic"; see `SyntheticSettings`.

    "synthetic" is not divided into folds: each fold is drawn from its own seed.

    Raises:
        FileNotFoundError: the root or a required folder in it is missing; shows the layout.
        ValueError: an unknown name, setting or impossible value; only one class; an unreadable
            file; a mask that differs in size from its image.
    """
    if name not in NAMES:
        near = difflib.get_close_matches(str(name), NAMES, n=1, cutoff=0.4)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"Expected a dataset among {', '.join(NAMES)}; found {name!r}.{hint}")
    _check(image_size, fold, folds, seed, split, cache)
    if name == "synthetic":
        return _synthetic(root, image_size, fold, folds, seed, category, split, settings)
    if settings:
        raise ValueError(
            f"The dataset {name!r} has no setting {', '.join(sorted(settings))}; only "
            "'synthetic' has further settings."
        )
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
        folds = 1
        parts = _official_parts(records, root, fold)
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


def _official_parts(records: list[Record], root: str | Path, fold: int) -> NDArray[np.str_]:
    """(N,) "train", "val" or "test" of each record, by the official split."""
    if fold:
        raise ValueError(
            f"The official split has one test set, fold 0; found fold={fold}. Use fold=0, or "
            "split='folds' to pool all images and make folds by group."
        )
    parts = np.array([record.split for record in records])
    absent = {"train", "test"} - set(parts.tolist())
    if absent:
        raise ValueError(
            f"Expected images for train and test in {root}; found none for "
            f"{' and '.join(sorted(absent))}. Add them, or use split='folds'."
        )
    tested = {record.group for record in records if record.split == "test"}
    both = sorted(tested & {record.group for record in records if record.split != "test"})
    if both:
        raise ValueError(
            f"{len(both)} groups are on both sides of the official split, the first is "
            f"{both[0]!r}. Use split='folds', or correct groups.csv."
        )
    return parts


def _synthetic(
    root: object,
    image_size: int,
    fold: int,
    folds: int,
    seed: int,
    category: str | None,
    split: str,
    settings: dict[str, Any],
) -> Data:
    # Imported here: image folders do not need the renderer.
    from gainmtl.datasets import synthetic

    for key, value, expected in (("root", root, None), ("category", category, None),
                                 ("split", split, "auto")):  # fmt: skip
        if value != expected:
            raise ValueError(
                f"The synthetic data is built in and takes no {key}; found {value!r}. Leave it out."
            )
    drawn = synthetic.make(image_size=image_size, seed=seed, **settings)
    text = json.dumps([part.fingerprint() for part in drawn])
    if fold:
        drawn = synthetic.make(image_size=image_size, seed=seed + (fold << 32), **settings)
    train, val, test = drawn
    if fold:
        # Every fold has other parts, so their names must differ when folds are pooled.
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
