"""`load`: read a data set by name, and split it into training, validation and test parts."""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from gainmtl.datasets import deep_pcb
from gainmtl.datasets.checks import did_you_mean
from gainmtl.datasets.data import Data, counts_of
from gainmtl.datasets.findings import findings
from gainmtl.datasets.image_dataset import ImageDataset, fits_in_memory
from gainmtl.datasets.layouts import LAYOUTS, read_layout
from gainmtl.datasets.masks import describe_rule, rule_for
from gainmtl.datasets.records import check_both_kinds, fingerprint
from gainmtl.datasets.splits import add_validation, assign_folds, official_parts
from gainmtl.files import user_path

NAMES = ("synthetic", *LAYOUTS, "deep-pcb")
SPLITS = ("auto", "official", "folds", "designs", "leaking")


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
        name: "synthetic", "deep-pcb", or a layout: "folder", "mvtec", "visa", "magnetic-tile",
            "voc2012".
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
            "designs" is of "deep-pcb": folds by board design. "leaking" makes folds by image and
            ignores groups, to demonstrate leakage.
        cache: keep decoded images in memory; "auto": if they take at most a quarter of the free
            memory.
        settings: of "synthetic", see `SyntheticSettings`; of "deep-pcb", see `PcbSettings`, as in
            `load("deep-pcb", root, 128, tile=128, normals="template", defective=30)`.

    A warning names files that may be a mistake, such as masks that match no image; the sentences
    stand in `Data.findings`.

    "synthetic" is not divided into folds: each fold is drawn from its own seed.

    Raises:
        FileNotFoundError: the root or a required folder in it is missing; shows the layout.
        ValueError: an unknown name, setting or impossible value; only one class; an unreadable
            file; a mask that differs in size from its image.
    """
    if name not in NAMES:
        raise ValueError(
            f"Expected a dataset among {', '.join(NAMES)}; found {name!r}."
            f"{did_you_mean(name, NAMES, 0.4)}"
        )
    _check(image_size, fold, folds, seed, split, cache)
    root = None if root is None else user_path(root)
    if name == "synthetic":
        return _synthetic(root, image_size, fold, folds, seed, category, split, settings)
    if name == "deep-pcb":
        return deep_pcb.load(
            root, settings, image_size=image_size, fold=fold, folds=folds, seed=seed,
            resize=resize, validation=validation, category=category, split=split, cache=cache,
        )  # fmt: skip
    if settings:
        raise ValueError(
            f"The dataset {name!r} has no setting {', '.join(sorted(settings))}; only "
            "'synthetic' and 'deep-pcb' have further settings."
        )
    if split == "designs":
        raise ValueError(
            f"The dataset {name!r} has no designs; only 'deep-pcb' has. Use split='folds'."
        )
    if root is None:
        raise ValueError(f"The dataset {name!r} needs a root. Expected:{LAYOUTS[name].tree}")
    reading = read_layout(name, root, category)
    records = reading.records
    check_both_kinds(records, root, LAYOUTS[name].tree)
    used = split
    if split == "auto":
        used = "official" if records[0].split is not None else "folds"
    if used == "official":
        folds = 1
        parts = official_parts(records, root, fold)
    else:
        number = assign_folds(records, folds, seed, random_split=used == "leaking")
        parts = np.where(number == fold, "test", "train")
    add_validation(parts, records, validation, seed, random_split=used == "leaking")
    if cache == "auto":
        cache = fits_in_memory(len(records), image_size)
    masks = rule_for(records)
    found = findings(reading, masks, root, parts)
    if found:
        warnings.warn(f"{name} in {root}: {' '.join(found)}", stacklevel=2)
    pieces = {
        part: ImageDataset(
            [r for r, p in zip(records, parts, strict=True) if p == part],
            image_size, resize, masks, bool(cache),
        )
        for part in ("train", "val", "test")
    }  # fmt: skip
    rule = {"layout": name, "category": category, "split": used, "folds": folds, "seed": seed,
            "validation": validation}  # fmt: skip
    counts = {part: counts_of(piece) for part, piece in pieces.items()}
    return Data(
        name=name, **pieces, fingerprint=fingerprint(records, rule), image_size=image_size,
        fold=fold, folds=folds, split=used, counts=counts, mask_rule=describe_rule(masks),
        findings=found,
    )  # fmt: skip


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
