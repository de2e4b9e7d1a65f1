"""What a layout reader returns, and the file-system helpers that all readers share."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
"""File endings taken for images, in any case."""

GROUPS_FILE = "groups.csv"


Box = tuple[int, int, int, int]
"""Top, left, bottom, right in pixels of the file, the last row and column outside."""


class Record(NamedTuple):
    """One image of a data set, known without decoding it."""

    image: Path | None
    """`None` for an image that is not a file."""
    mask: Path | None
    """`None` where no mask file exists, which is not the same as an empty mask."""
    is_defective: bool
    defect_type: str
    """`"normal"` or the name of the defect."""
    split: str | None
    """`"train"`, `"val"` or `"test"` where the set has an official split, else `None`."""
    group: str
    """Images of one physical part share a group; folds never split it."""
    name: str
    """Path relative to the root, with forward slashes; unique within the set."""
    boxes: tuple[Box, ...] | None = None
    """Where annotators drew boxes and no mask: the mask is their union."""


def is_image(path: Path) -> bool:
    """Whether `path` is a visible file with an image's ending."""
    return (
        path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def walk_images(folder: Path) -> list[Path]:
    """All images below `folder`, sorted; hidden files and folders are left out."""
    found = [
        path
        for path in folder.rglob("*")
        if is_image(path)
        and not any(part.startswith((".", "__")) for part in path.relative_to(folder).parts)
    ]
    return sorted(found)


def list_images(folder: str | Path) -> list[Path]:
    """The images of an unlabelled folder and of its sub-folders, sorted by path.

    Files that are not images are skipped.

    Raises:
        FileNotFoundError: the folder does not exist or holds no image.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"Expected a folder of images; {folder} is no folder.")
    images = walk_images(folder)
    if not images:
        endings = " ".join(sorted(IMAGE_SUFFIXES))
        raise FileNotFoundError(
            f"Expected images in {folder}; found none. Endings taken for images: {endings}"
        )
    return images


def unique_stems(paths: Iterable[Path], strip: str = "") -> dict[str, Path]:
    """Map each path's stem, without the ending `strip`, to the path.

    Raises:
        ValueError: two files share a stem, so it is open which of them is meant.
    """
    stems: dict[str, Path] = {}
    for path in paths:
        stem = path.stem.removesuffix(strip)
        if stem in stems:
            raise ValueError(
                f"Expected one mask per image; found {stems[stem]} and {path}. Remove one of them."
            )
        stems[stem] = path
    return stems


def apply_groups_file(records: list[Record], root: Path, folder: Path) -> list[Record] | None:
    """The records with the groups of `folder/groups.csv`, or `None` where no such file is.

    The file has the columns `image` (path relative to `folder`) and `group`; others are
    ignored, and so are rows of images that are not there.

    Raises:
        ValueError: a column is missing, an image has no row, or two rows disagree.
    """
    path = folder / GROUPS_FILE
    if not path.is_file():
        return None
    prefix = folder.relative_to(root).as_posix()
    groups: dict[str, str] = {}
    with path.open(newline="", encoding="utf-8-sig") as handle:
        reader = csv.DictReader(handle)
        columns = reader.fieldnames or []
        if "image" not in columns or "group" not in columns:
            raise ValueError(
                f"Expected the columns image and group in {path}; found {', '.join(columns)}."
            )
        for row in reader:
            image, group = (row["image"] or "").strip(), (row["group"] or "").strip()
            name = image if prefix == "." else f"{prefix}/{image}"
            if not group or groups.setdefault(name, group) != group:
                raise ValueError(
                    f"Expected one group per image in {path}; {image!r} has "
                    f"{'none' if not group else f'{groups[name]!r} and {group!r}'}."
                )
    missing = [record.name for record in records if record.name not in groups]
    if missing:
        raise ValueError(
            f"Expected a row for every image in {path}; {len(missing)} of {len(records)} have "
            f"none, the first is {missing[0]}. Add them, or remove the file to group by default."
        )
    return [record._replace(group=groups[record.name]) for record in records]


def no_category(category: str | None, layout: str) -> None:
    """Raise `ValueError` if a category is asked of a layout that has none."""
    if category is not None:
        raise ValueError(f"The layout {layout!r} has no categories; found category={category!r}.")
