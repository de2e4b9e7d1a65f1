"""How known data sets lie on disk: one reader per layout, each from a root to records.

A reader looks at names only and decodes nothing. Normal images carry no mask path: they are
known to be clean. Where the images' folder holds a `groups.csv`, it decides the groups;
otherwise every image is its own group, except for the magnetic tiles (see there).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from gainmtl.datasets.records import (
    Record,
    apply_groups_file,
    is_image,
    unique_stems,
    walk_images,
)
from gainmtl.types import NORMAL

FOLDER_TREE = """
  images/{train,test}/{normal,defective}/*.png   (val/ beside train/ and test/ is read too; or
  images/{normal,defective}/*.png                 without a split: folds are made then)
  masks/...                                       the image's path or file name, any ending
  Sub-folders of defective/ name the defect type."""
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


def read_folder(root: Path, category: str | None = None) -> list[Record]:
    """`images/[split/]{normal,defective}/[type/]file` and masks of the same path or name.

    A mask belongs to a defective image when its path below `masks/`, without the ending and
    without a final `_mask`, is the image's path below `images/` with any folders left out:
    `masks/7.png` and `masks/test/7.png` both serve `images/test/defective/7.jpg`.
    """
    _no_category(category, "folder")
    images = root / "images"
    _require(images, root, FOLDER_TREE)
    masks: dict[tuple[str, ...], Path] = {}
    for path in walk_images(root / "masks") if (root / "masks").is_dir() else []:
        relative = path.relative_to(root / "masks")
        key = (*relative.parts[:-1], relative.stem.removesuffix("_mask"))
        if key in masks:
            unique_stems([masks[key], path], strip="_mask")
        masks[key] = path
    records: list[Record] = []
    owner: dict[Path, Path] = {}
    for path in walk_images(images):
        parts = path.relative_to(images).parts
        split = parts[0] if parts[0] in ("train", "val", "test") else None
        label, *kinds = parts[1:-1] if split else parts[:-1] or ("",)
        if label not in (NORMAL, "defective") or (label == NORMAL and kinds):
            raise ValueError(f"{path} stands outside the layout. Expected:{FOLDER_TREE}")
        is_defective = label == "defective"
        defect_type = ("/".join(kinds) or "defective") if is_defective else NORMAL
        mask = _matching_mask((*parts[:-1], path.stem), masks) if is_defective else None
        if mask is not None and owner.setdefault(mask, path) != path:
            raise ValueError(
                f"{mask} could belong to {owner[mask]} and to {path}. "
                "Put the masks into the same sub-folders as the images."
            )
        name = path.relative_to(root).as_posix()
        records.append(Record(path, mask, is_defective, defect_type, split, name, name))
    if masks and not owner and any(record.is_defective for record in records):
        example = next(record.name for record in records if record.is_defective)
        raise ValueError(
            f"None of the {len(masks)} files in {root / 'masks'} matches a defective image: "
            f"found for example {next(iter(masks.values())).name}, expected one for {example}."
        )
    if len({record.split is None for record in records}) == 2:
        raise ValueError(f"Some images of {images} have a split, some none. Expected:{FOLDER_TREE}")
    grouped = apply_groups_file(records, root, images)
    return grouped or apply_groups_file(records, root, root) or records


def read_mvtec(root: Path, category: str | None = None) -> list[Record]:
    """MVTec AD (Bergmann et al., CVPR 2019) and sets in its form (MPDD, BTAD, visa_pytorch).

    `root` is one category or holds several, of which `category` names one. `good` and `ok`
    are normal; any other folder of `test/` is a defect type. Training images are all normal.
    """
    base = _category_folder(root, category, "train", MVTEC_TREE)
    records = []
    for split in ("train", "test"):
        for folder in sorted(path for path in (base / split).glob("*") if path.is_dir()):
            normal = folder.name in ("good", "ok")
            truth = base / "ground_truth" / folder.name
            masks = {} if normal else unique_stems(filter(is_image, truth.glob("*")), "_mask")
            for path in filter(is_image, folder.iterdir()):
                name = path.relative_to(base).as_posix()
                defect_type = NORMAL if normal else folder.name
                mask = masks.get(path.stem)
                records.append(Record(path, mask, not normal, defect_type, split, name, name))
    return apply_groups_file(records, base, base) or records


def read_visa(root: Path, category: str | None = None) -> list[Record]:
    """VisA (Zou et al., ECCV 2022), raw or in MVTec's form.

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
                raise ValueError(f"Expected train or test for {path} in {table}; found {split}.")
            mask = masks.get(path.stem) if bad else None
            defect_type = "anomaly" if bad else NORMAL
            records.append(Record(path, mask, bad, defect_type, split, name, name))
    return apply_groups_file(records, base, base) or records


def read_magnetic_tile(root: Path, category: str | None = None) -> list[Record]:
    """Magnetic-tile defects (Huang, Qiu and Yuan, The Visual Computer 2020).

    Each tile was photographed about six times. Without a `groups.csv`, images are sorted by
    the `num` of their file name, and a step larger than 100 begins a new tile. This is an
    approximation read off the file names (224 runs in the full set, 168 of them of six
    images): neighbouring tiles may be merged and a tile may be cut, so prefer the file.
    """
    _no_category(category, "magnetic-tile")
    found: list[tuple[int, Record]] = []
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
            found.append((int(number[1]), record))
    if not found:
        raise FileNotFoundError(f"No magnetic tiles in {root}. Expected:{TILE_TREE}")
    grouped = apply_groups_file([record for _, record in found], root, root)
    if grouped is not None:
        return grouped
    found.sort(key=lambda item: (item[0], item[1].name))
    records, previous, run = [], found[0][0], 0
    for number_, record in found:
        run += number_ - previous > TILE_GAP
        previous = number_
        records.append(record._replace(group=f"run{run:04d}"))
    return records


class Layout(NamedTuple):
    """A reader and what goes with it."""

    read: Callable[[Path, str | None], list[Record]]
    mask_above: int | None
    """Mask values above this are defect; `None` asks the file (see `images.read_mask`)."""
    tree: str
    """The layout expected, for error messages."""


LAYOUTS: dict[str, Layout] = {
    "folder": Layout(read_folder, None, FOLDER_TREE),
    "mvtec": Layout(read_mvtec, 127, MVTEC_TREE),
    # VisA's masks hold small class ids; the tiles' were resampled and hold 256 grey levels.
    "visa": Layout(read_visa, 0, VISA_TREE),
    "magnetic-tile": Layout(read_magnetic_tile, 127, TILE_TREE),
}


def read_records(layout: str, root: str | Path, category: str | None = None) -> list[Record]:
    """The records of the set at `root`, sorted by name.

    Raises:
        FileNotFoundError: `root` or what must lie in it is not there, or there is no image.
        ValueError: a file stands where the layout has no place for it, or is ambiguous.
    """
    root = Path(root)
    tree = LAYOUTS[layout].tree
    if not root.is_dir():
        raise FileNotFoundError(f"The data root {root} is no folder. Expected:{tree}")
    records = LAYOUTS[layout].read(root, category)
    if not records:
        raise FileNotFoundError(f"No images in {root}. Expected:{tree}")
    wrong = [r.name for r in records if r.is_defective and r.defect_type == NORMAL]
    if wrong:
        raise ValueError(f"{wrong[0]} is defective, but its defect type is called 'normal'.")
    return sorted(records, key=lambda record: record.name)


def _matching_mask(image: tuple[str, ...], masks: dict[tuple[str, ...], Path]) -> Path | None:
    """The mask whose key is the longest that keeps the order and the last part of `image`."""
    candidates = []
    for dropped in range(1 << (len(image) - 1)):
        kept = [part for i, part in enumerate(image[:-1]) if not dropped >> i & 1]
        key = (*kept, image[-1])
        if key in masks:
            candidates.append((len(key), masks[key]))
    if not candidates:
        return None
    longest = max(length for length, _ in candidates)
    best = sorted({path for length, path in candidates if length == longest})
    if len(best) > 1:
        raise ValueError(
            f"Expected one mask for {'/'.join(image)}; found {best[0]} and {best[1]}. "
            "Put the masks into the same sub-folders as the images."
        )
    return best[0]


def _category_folder(root: Path, category: str | None, marker: str, tree: str) -> Path:
    """The folder of one category: `root` itself, `root/category`, or the only one there is."""
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
    """Whether `root`, or the category in it, has the folder `marker`."""
    inside = [root / category] if category is not None else [root, *root.iterdir()]
    return any((folder / marker).is_dir() for folder in inside) or (root / marker).is_dir()


def _no_category(category: str | None, layout: str) -> None:
    if category is not None:
        raise ValueError(f"The layout {layout!r} has no categories; found category={category!r}.")


def _require(folder: Path, root: Path, tree: str) -> None:
    if not folder.is_dir():
        raise FileNotFoundError(f"{root} holds no folder {folder.name}/. Expected:{tree}")
