"""Readers of the known layouts on disk: each turns a root folder into records.

A reader uses file names only and decodes nothing. Normal images have no mask path, because their
mask is empty. A `groups.csv` in the images' folder defines the groups. Without it every image is
its own group, except in `read_magnetic_tile`.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from gainmtl.datasets.folder_layout import FOLDER_TREE, read_folder
from gainmtl.datasets.records import (
    Record,
    apply_groups_file,
    is_image,
    no_category,
    unique_stems,
)
from gainmtl.datasets.voc_layout import VOC_TREE, read_voc
from gainmtl.types import NORMAL

MVTEC_TREE = """
  {category}/train/good/*.png
  {category}/test/{good,<defect>}/*.png
  {category}/ground_truth/<defect>/*_mask.png"""
VISA_TREE = """
  {category}/Data/Images/{Normal,Anomaly}/*.JPG
  {category}/Data/Masks/Anomaly/*.png
  split_csv/1cls.csv                              (or the MVTec layout, as in visa_pytorch)"""
TILE_TREE = """
  MT_{Blowhole,Break,Crack,Fray,Free,Uneven}/Imgs/exp*_num_*.jpg with a .png mask beside each
  groups.csv                                      (optional; columns image, group)"""

TILE_GAP = 100
"""Largest step of `num` within one magnetic tile."""


def read_mvtec(root: Path, category: str | None = None) -> list[Record]:
    """MVTec AD (Bergmann et al., CVPR 2019) and sets of the same layout (MPDD, BTAD, visa_pytorch).

    `root` is the folder of one category, or of several of which `category` names one. `good` and
    `ok` are normal; every other folder of `test/` is a defect type. All training images are normal.
    """
    base = _category_folder(root, category, "train", MVTEC_TREE)
    records = []
    for split in ("train", "test"):
        for folder in sorted(path for path in (base / split).glob("*") if path.is_dir()):
            normal = folder.name in ("good", "ok")
            truth = base / "ground_truth" / folder.name
            annotated = not normal and split == "test"
            masks = unique_stems(filter(is_image, truth.glob("*")), "_mask") if annotated else {}
            for path in filter(is_image, folder.iterdir()):
                name = path.relative_to(base).as_posix()
                defect_type = NORMAL if normal else folder.name
                mask = masks.get(path.stem)
                records.append(Record(path, mask, not normal, defect_type, split, name, name))
    return apply_groups_file(records, base, base) or records


def read_visa(root: Path, category: str | None = None) -> list[Record]:
    """VisA (Zou et al., ECCV 2022), as published or in the MVTec layout.

    The official split is `split_csv/1cls.csv`; without that file the images have no split.
    """
    if _has_category(root, category, "train"):
        return read_mvtec(root, category)
    base = _category_folder(root, category, "Data/Images", VISA_TREE)
    splits: dict[str, str] = {}
    table = base.parent / "split_csv" / "1cls.csv"
    if table.is_file():
        with table.open(newline="", encoding="utf-8-sig") as handle:
            splits = {row["image"]: row["split"] for row in csv.DictReader(handle)}
    masks = unique_stems(filter(is_image, (base / "Data/Masks/Anomaly").glob("*")))
    records = []
    for label in ("Normal", "Anomaly"):
        for path in filter(is_image, (base / "Data/Images" / label).glob("*")):
            bad = label == "Anomaly"
            name = path.relative_to(base).as_posix()
            split = splits.get(f"{base.name}/{name}")
            if splits and split not in ("train", "test"):
                raise ValueError(
                    f"Expected the split train or test for {path} in {table}; found {split}."
                )
            mask = masks.get(path.stem) if bad else None
            defect_type = "anomaly" if bad else NORMAL
            records.append(Record(path, mask, bad, defect_type, split, name, name))
    return apply_groups_file(records, base, base) or records


def read_magnetic_tile(root: Path, category: str | None = None) -> list[Record]:
    """Magnetic-tile defects (Huang, Qiu and Yuan, The Visual Computer 2020).

    Each tile was photographed about six times. Without a `groups.csv`, images are sorted by the
    `num` of their file name, and a step larger than 100 starts a new group. This approximation
    gives 224 groups for the full set, 168 of them with six images. It may merge or split tiles, so
    a `groups.csv` is better.
    """
    no_category(category, "magnetic-tile")
    numbered: list[tuple[int, Record]] = []
    for folder in sorted(root.glob("MT_*/Imgs")):
        kind = folder.parent.name.removeprefix("MT_").lower()
        is_defective = kind != "free"
        for path in filter(is_image, folder.glob("*.jpg")):
            number = re.fullmatch(r"exp\d+_num_(\d+)", path.stem)
            if number is None:
                raise ValueError(f"Expected a name like exp1_num_2345.jpg; found {path}.")
            mask = path.with_suffix(".png") if is_defective else None
            record = Record(
                image=path,
                mask=mask if mask is not None and mask.is_file() else None,
                is_defective=is_defective,
                defect_type=kind if is_defective else NORMAL,
                split=None,
                group="",
                name=path.relative_to(root).as_posix(),
            )
            numbered.append((int(number[1]), record))
    if not numbered:
        raise FileNotFoundError(f"No magnetic tiles in {root}. Expected:{TILE_TREE}")
    grouped = apply_groups_file([record for _, record in numbered], root, root)
    if grouped is not None:
        return grouped
    numbered.sort(key=lambda item: (item[0], item[1].name))
    records, previous, run = [], numbered[0][0], 0
    for num, record in numbered:
        run += num - previous > TILE_GAP
        previous = num
        records.append(record._replace(group=f"run{run:04d}"))
    return records


class Layout(NamedTuple):
    """A reader, and how its set stores masks."""

    read: Callable[[Path, str | None], list[Record]]
    mask_above: int | None
    """Mask values above this are defect; `None`: depends on the file (see `images.read_mask`)."""
    tree: str
    """The expected folders and files, for error messages."""


LAYOUTS: dict[str, Layout] = {
    "folder": Layout(read_folder, None, FOLDER_TREE),
    "mvtec": Layout(read_mvtec, 127, MVTEC_TREE),
    # VisA's masks contain small class ids; the tiles' are resampled, with 256 grey levels.
    "visa": Layout(read_visa, 0, VISA_TREE),
    "magnetic-tile": Layout(read_magnetic_tile, 127, TILE_TREE),
    "voc2012": Layout(read_voc, 127, VOC_TREE),
}


def read_records(layout: str, root: str | Path, category: str | None = None) -> list[Record]:
    """The records of the set at `root`, sorted by name.

    Raises:
        FileNotFoundError: `root` or a required folder is missing, or there is no image.
        ValueError: a file outside the layout, or an ambiguous one.
    """
    root = Path(root)
    tree = LAYOUTS[layout].tree
    if not root.is_dir():
        raise FileNotFoundError(f"The data root {root} is not a folder. Expected:{tree}")
    records = LAYOUTS[layout].read(root, category)
    if not records:
        raise FileNotFoundError(f"No images in {root}. Expected:{tree}")
    wrong = [r.name for r in records if r.is_defective and r.defect_type == NORMAL]
    if wrong:
        raise ValueError(
            f"Expected a defect type other than 'normal' for the defective {wrong[0]}. "
            "Rename its folder."
        )
    return sorted(records, key=lambda record: record.name)


def _category_folder(root: Path, category: str | None, marker: str, tree: str) -> Path:
    """The folder of one category: `root` itself, `root/category`, or the only one in `root`."""
    if category is not None:
        if (root / category / marker).is_dir():
            return root / category
        if root.name == category and (root / marker).is_dir():
            return root
    elif (root / marker).is_dir():
        return root
    choices = sorted(p.name for p in root.iterdir() if (p / marker).is_dir())
    if category is None and len(choices) == 1:
        return root / choices[0]
    if not choices:
        raise FileNotFoundError(f"No {category or 'category'} in {root}. Expected:{tree}")
    raise ValueError(f"Expected category to be one of {', '.join(choices)}; found {category!r}.")


def _has_category(root: Path, category: str | None, marker: str) -> bool:
    """Whether `root`, or the category in it, has the sub-folder `marker`."""
    inside = [root / category] if category is not None else [root, *root.iterdir()]
    return any((folder / marker).is_dir() for folder in inside) or (root / marker).is_dir()
