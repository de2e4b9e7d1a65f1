"""Readers of the known layouts on disk: each turns a root folder into records.

A reader uses file names only and decodes nothing. Normal images have no mask path, because their
mask is empty. A `groups.csv` in the folder of the set, or in `images/` of the layout "folder",
defines the groups. Without it every image is its own group, except in `read_magnetic_tile`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from gainmtl.datasets.folder_layout import FOLDER_TREE, read_folder
from gainmtl.datasets.mask_names import match_masks
from gainmtl.datasets.records import (
    GROUPS_FILE,
    Reading,
    Record,
    apply_groups_file,
    check_types,
    no_category,
    plain_path,
    read_table,
    walk,
    walk_if_there,
)
from gainmtl.datasets.voc_layout import VOC_TREE, read_voc
from gainmtl.runner import is_hidden
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
_GROUPS_LIKE = re.compile(r"groups?\.(csv|tsv|txt|xlsx?|ods)(\.txt)?", re.IGNORECASE)


def read_mvtec(root: Path, category: str | None = None) -> Reading:
    """MVTec AD (Bergmann et al., CVPR 2019) and sets of the same layout (MPDD, BTAD, visa_pytorch).

    `root` is the folder of one category, or of several of which `category` names one. `good` and
    `ok` are normal; every other folder is a defect type. Only images of `test/` have masks, which
    `match_masks` finds below `ground_truth/`, also in one folder for each image.
    """
    base = _category_folder(root, category, "train", MVTEC_TREE)
    records = []
    left_out = []
    for folder in ("train", "val", "validation", "test"):
        files, other = walk_if_there(base / folder)
        left_out += other
        for path in files:
            kinds = path.relative_to(base / folder).parts[:-1]
            if not kinds:
                raise ValueError(f"{path} is outside the layout. Expected:{MVTEC_TREE}")
            check_types(path, kinds, MVTEC_TREE)
            normal = kinds[0].lower() in ("good", "ok")
            name = path.relative_to(base).as_posix()
            defect_type = NORMAL if normal else "/".join(kinds)
            split = "val" if folder == "validation" else folder
            records.append(Record(path, None, not normal, defect_type, split, name, name))
    masks, other = walk_if_there(base / "ground_truth")
    tested = [record for record in records if record.split == "test"]
    matched = match_masks(tested, base / "test", masks, base / "ground_truth", [*left_out, *other])
    others = [record for record in records if record.split != "test"]
    return matched._replace(records=[*matched.records, *others])


def read_visa(root: Path, category: str | None = None) -> Reading:
    """VisA (Zou et al., ECCV 2022), as published or in the MVTec layout.

    The official split is `split_csv/1cls.csv`; without that file the images have no split.
    """
    if _has_category(root, category, "train"):
        return read_mvtec(root, category)
    base = _category_folder(root, category, "Data/Images", VISA_TREE)
    splits: dict[str, str] = {}
    table = base.parent / "split_csv" / "1cls.csv"
    if table.is_file():
        splits = {plain_path(image): split for image, split in read_table(table, "image", "split")}
        if not splits:
            raise ValueError(
                f"Expected a row for every image in {table}; found none. Restore the file, or "
                "remove it: then folds are made."
            )
    files, left_out = walk(base / "Data/Images")
    records = []
    for path in files:
        label, *kinds = path.relative_to(base / "Data/Images").parts[:-1] or ("",)
        if label not in ("Normal", "Anomaly"):
            raise ValueError(f"{path} is outside the layout. Expected:{VISA_TREE}")
        check_types(path, kinds, VISA_TREE)
        bad = label == "Anomaly"
        name = path.relative_to(base).as_posix()
        split = splits.get(plain_path(f"{base.name}/{name}"))
        if splits and split not in ("train", "test"):
            raise ValueError(
                f"Expected the split train or test for {path} in {table}; found {split}."
            )
        defect_type = "anomaly" if bad else NORMAL
        records.append(Record(path, None, bad, defect_type, split, name, name))
    folder = base / "Data/Masks"
    masks, other = walk_if_there(folder)
    return match_masks(records, base / "Data/Images", masks, folder, [*left_out, *other])


def read_magnetic_tile(root: Path, category: str | None = None) -> Reading:
    """Magnetic-tile defects (Huang, Qiu and Yuan, The Visual Computer 2020).

    Each tile was photographed about six times. Without a `groups.csv`, images are sorted by the
    `num` of their file name, and a step larger than 100 starts a new group. This approximation
    gives 224 groups for the full set, 168 of them with six images. It may merge or split tiles, so
    a `groups.csv` is better.
    """
    no_category(category, "magnetic-tile")
    numbered: list[tuple[int, Record]] = []
    masks = []
    files, left_out = walk(root)
    for path in files:
        kind, *inner = path.relative_to(root).parts
        is_tile = kind.startswith("MT_") and inner[:-1] == ["Imgs"]
        if is_tile and path.suffix.lower() == ".png":
            masks.append(path)
            continue
        if not is_tile or path.suffix.lower() not in (".jpg", ".jpeg"):
            left_out.append(path)
            continue
        kind = kind.removeprefix("MT_").lower()
        number = re.fullmatch(r"exp\d+_num_(\d+)", path.stem)
        if number is None:
            raise ValueError(f"Expected a name like exp1_num_2345.jpg; found {path}.")
        defect_type = NORMAL if kind == "free" else kind
        name = path.relative_to(root).as_posix()
        record = Record(path, None, kind != "free", defect_type, None, "", name)
        numbered.append((int(number[1]), record))
    if not numbered:
        raise FileNotFoundError(f"No magnetic tiles in {root}. Expected:{TILE_TREE}")
    numbered.sort(key=lambda item: (item[0], item[1].name))
    records, previous, run = [], numbered[0][0], 0
    for num, record in numbered:
        run += num - previous > TILE_GAP
        previous = num
        records.append(record._replace(group=f"run{run:04d}"))
    return match_masks(records, root, masks, root, left_out)


class Layout(NamedTuple):
    """How a set is read."""

    read: Callable[[Path, str | None], Reading]
    tree: str
    """The expected folders and files, for error messages."""


LAYOUTS: dict[str, Layout] = {
    "folder": Layout(read_folder, FOLDER_TREE),
    "mvtec": Layout(read_mvtec, MVTEC_TREE),
    "visa": Layout(read_visa, VISA_TREE),
    "magnetic-tile": Layout(read_magnetic_tile, TILE_TREE),
    "voc2012": Layout(read_voc, VOC_TREE),
}


def read_records(layout: str, root: str | Path, category: str | None = None) -> list[Record]:
    """The records of `read_layout`."""
    return read_layout(layout, root, category).records


def read_layout(layout: str, root: str | Path, category: str | None = None) -> Reading:
    """The records of the set at `root`, sorted by name, and the files that are not used.

    Raises:
        FileNotFoundError: `root` or a required folder is missing, or there is no image.
        OSError: a folder that can't be read; names it.
        ValueError: a file outside the layout, an ambiguous one, or two groups files that
            contradict.
    """
    root = Path(root)
    tree = LAYOUTS[layout].tree
    if not root.is_dir():
        raise FileNotFoundError(f"The data root {root} is not a folder. Expected:{tree}")
    reading = LAYOUTS[layout].read(root, category)
    records = reading.records
    if not records:
        raise FileNotFoundError(f"No images in {root}. Expected:{tree}")
    wrong = [r.name for r in records if r.is_defective and r.defect_type == NORMAL]
    if wrong:
        raise ValueError(
            f"Expected a defect type other than 'normal' for the defective {wrong[0]}. "
            "Rename its folder."
        )
    records, unused = _grouped(records, root, reading.left_out, layout)
    return reading._replace(
        records=sorted(records, key=lambda record: record.name),
        left_out=[path for path in reading.left_out if not _GROUPS_LIKE.fullmatch(path.name)],
        groups_files=unused,
    )


def _grouped(
    records: list[Record], root: Path, left_out: Sequence[Path], layout: str
) -> tuple[list[Record], list[Path]]:
    """The records with the groups of a groups file, and the groups files that are not used."""
    assert records[0].image is not None
    base = records[0].image.parents[records[0].name.count("/")]
    used: list[Path] = []
    for place in (base, base / "images") if layout == "folder" else (base,):
        grouped = apply_groups_file(records, base, place)
        if grouped is None:
            continue
        if used and grouped != records:
            name = next(a.name for a, b in zip(records, grouped, strict=True) if a != b)
            raise ValueError(
                f"Expected one group per image; {used[0]} and {place / GROUPS_FILE} have different "
                f"groups, first for {name}. Remove one of the files."
            )
        records = grouped
        used.append(place / GROUPS_FILE)
    folders = {record.image.parent for record in records if record.image is not None}
    folders |= {above for folder in folders for above in folder.parents}
    folders = {root, *(folder for folder in folders if folder.is_relative_to(base))}
    found = {folder / name for folder in folders for name in os.listdir(folder)
             if _GROUPS_LIKE.fullmatch(name)}  # fmt: skip
    found |= {path for path in left_out if _GROUPS_LIKE.fullmatch(path.name)}
    # `samefile`: where upper and lower case are equal, Groups.csv is used.
    return records, sorted(p for p in found if not any(p.samefile(file) for file in used))


def _category_folder(root: Path, category: str | None, marker: str, tree: str) -> Path:
    """The folder of one category: `root` itself, `root/category`, or the only one in `root`."""
    if category is not None:
        if (root / category / marker).is_dir():
            return root / category
        if root.name == category and (root / marker).is_dir():
            return root
    elif (root / marker).is_dir():
        return root
    choices = sorted(p.name for p in _visible(root) if (p / marker).is_dir())
    if category is None and len(choices) == 1:
        return root / choices[0]
    if not choices:
        raise FileNotFoundError(f"No {category or 'category'} in {root}. Expected:{tree}")
    raise ValueError(f"Expected category to be one of {', '.join(choices)}; found {category!r}.")


def _has_category(root: Path, category: str | None, marker: str) -> bool:
    """Whether `root`, or the category in it, has the sub-folder `marker`."""
    inside = [root / category] if category is not None else _visible(root)
    return any((folder / marker).is_dir() for folder in [root, *inside])


def _visible(root: Path) -> list[Path]:
    return [path for path in root.iterdir() if not is_hidden(path.name)]
