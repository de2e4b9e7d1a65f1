"""Records, which the layout readers return, with their fingerprint and shared file functions."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import unicodedata
import warnings
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from gainmtl.datasets.images import file_stamp
from gainmtl.runner import Walk, find_images, walk

GROUPS_FILE = "groups.csv"
_NO_TYPE = re.compile(
    r"masks?|gts?|ground[_\- ]?truths?|labels?|annotations?|segmentations?"
    r"|train(ing)?|val(id(ation)?)?|test(ing)?",
    re.IGNORECASE,
)
"""Folders of masks, and splits."""

Box = tuple[int, int, int, int]
"""Top, left, bottom, right in pixels of the file; bottom and right are exclusive."""


class Record(NamedTuple):
    """One image of a data set, before decoding."""

    image: Path | None
    """`None` for an image that is not a file."""
    mask: Path | None
    """`None` if there is no mask file, which is not the same as an empty mask."""
    is_defective: bool
    defect_type: str
    """`"normal"` or the name of the defect."""
    split: str | None
    """`"train"`, `"val"` or `"test"` if the set has an official split, else `None`."""
    group: str
    """Images of one physical part share a group; folds never split it."""
    name: str
    """Path relative to the root, with forward slashes; unique within the set."""
    boxes: tuple[Box, ...] | None = None
    """Boxes of a set annotated without masks: the mask is their union."""
    twin: Path | None = None
    """A picture of the same place without the defect, if the set has one."""


class Reading(NamedTuple):
    """What a layout reader returns."""

    records: list[Record]
    left_out: Sequence[Path] = ()
    """Files and folders within the layout that are not read (see `gainmtl.runner.walk`)."""
    unmatched: Sequence[Path] = ()
    """Mask files that match no image."""
    normal_masks: Sequence[Path] = ()
    """Mask files that match a normal image. They are not used."""
    groups_files: Sequence[Path] = ()
    """Files named like `groups.csv` that are not used, because of their name or folder."""


def fingerprint(records: Sequence[Record], parameters: dict[str, Any]) -> str:
    """SHA-256 (hex) of the records sorted by name, their files' contents and `parameters`.

    Equal exactly if contents, labels, groups and split rule are equal. Paths are relative to the
    root, and the fold is not included, so all folds of a study have the same fingerprint.
    """
    digest = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode())
    for record in sorted(records, key=lambda record: record.name):
        digest.update(
            json.dumps(
                [record.name, record.is_defective, record.defect_type, record.split, record.group,
                 content_hash(record.image), content_hash(record.mask),
                 *([] if record.boxes is None else [record.boxes]),
                 *([] if record.twin is None else [content_hash(record.twin)])]
            ).encode()
        )  # fmt: skip
    return digest.hexdigest()


def content_hash(path: Path | None) -> str | None:
    """SHA-256 (hex) of the file; reads it once per version."""
    return None if path is None else _hash_of_version(file_stamp(path))


@lru_cache(maxsize=1 << 18)
def _hash_of_version(stamp: tuple[str, int, int]) -> str:
    # Cached by file stamp: further folds read no file, and a replaced file is read again.
    return hashlib.sha256(Path(stamp[0]).read_bytes()).hexdigest()


def list_images(folder: str | Path) -> list[Path]:
    """The images of an unlabelled folder and of its sub-folders, sorted by path.

    A warning names the files and folders that `gainmtl.runner.walk` leaves out.

    Raises:
        FileNotFoundError: the folder does not exist or contains no image.
        OSError: a folder that can't be read; names it.
    """
    images, left_out = find_images(Path(folder))
    if left_out:
        warnings.warn(left_out, stacklevel=2)
    return images


def walk_images(folder: Path) -> list[Path]:
    """All images below `folder`, sorted, without hidden files and folders; see `runner.walk`."""
    return walk(folder).images


def walk_if_there(folder: Path) -> Walk:
    """The files below `folder`, none if there is no such folder.

    Raises:
        OSError: a folder that can't be read, or a link to nothing.
    """
    # `lexists`: a link to nothing is there, and `walk` raises for it.
    return walk(folder) if os.path.lexists(folder) else Walk([], [])


def apply_groups_file(records: list[Record], root: Path, folder: Path) -> list[Record] | None:
    """The records with the groups of `folder/groups.csv`, or `None` without that file.

    The file has the columns `image` (path relative to `folder`) and `group`. Other columns and
    rows of unknown images are ignored. Names are compared by `plain_path`.

    Raises:
        ValueError: a file that `read_table` can't read, an image without a row, or two rows that
            contradict.
    """
    path = folder / GROUPS_FILE
    if not path.is_file():
        return None
    prefix = folder.relative_to(root).as_posix()
    groups: dict[str, str] = {}
    for image, group in read_table(path, "image", "group"):
        name = plain_path(f"{prefix}/{image}")
        if not group or groups.setdefault(name, group) != group:
            raise ValueError(
                f"Expected one group per image in {path}; {image!r} has "
                f"{'none' if not group else f'{groups[name]!r} and {group!r}'}."
            )
    names = [plain_path(record.name) for record in records]
    missing = [r.name for r, name in zip(records, names, strict=True) if name not in groups]
    if missing:
        raise ValueError(
            f"Expected a row for every image in {path}; {len(missing)} of {len(records)} have "
            f"none, the first is {missing[0]}. Add rows, or remove the file for default groups."
        )
    return [r._replace(group=groups[name]) for r, name in zip(records, names, strict=True)]


def read_table(path: Path, *columns: str) -> list[list[str]]:
    """The values of these columns in each row of a CSV file in UTF-8, without spaces around them.

    The separator is the comma, semicolon or tab, whichever the header line has most of. Empty rows
    are left out.

    Raises:
        ValueError: another encoding, a missing column, or a field without end; names the file.
    """
    try:
        text = path.read_text("utf-8-sig").lstrip()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:  # UTF-16 without its mark is valid UTF-8
        raise ValueError(
            f"Expected text in UTF-8 in {path}; found another encoding. Save it as CSV in UTF-8."
        )
    separator = max(",;\t", key=text.partition("\n")[0].count)
    reader = csv.reader(io.StringIO(text), delimiter=separator, skipinitialspace=True)
    try:
        header, *rows = [[value.strip() for value in row] for row in reader] or [[]]
    except csv.Error as error:
        raise ValueError(
            f"Expected a table in {path}; line {reader.line_num} can't be read ({error}). Look for "
            "a quotation mark without its pair."
        ) from error
    if not set(columns) <= set(header):
        raise ValueError(
            f"Expected the columns {' and '.join(columns)} in {path}; "
            f"found {', '.join(header) or 'none'}."
        )
    cells = [dict(zip(header, row, strict=False)) for row in rows if any(row)]
    return [[cell.get(column, "") for column in columns] for cell in cells]


def plain_path(name: str) -> str:
    """A path in one form: slashes forward, no leading `./`, letters composed."""
    return unicodedata.normalize("NFC", PurePosixPath(name.replace("\\", "/")).as_posix())


def check_types(path: Path, folders: Sequence[str], tree: str) -> None:
    """Raise `ValueError` if a folder that names a defect type is named like masks or a split.

    Args:
        folders: the folders of `path` below its label.
    """
    for name in folders:
        if _NO_TYPE.fullmatch(name):
            raise ValueError(
                f"Expected a type of defect as the folder of {path}; found {name!r}, the name of "
                "a split or of a folder of masks. Move its files to the place shown below, or "
                f"rename the folder if it is a type. Expected:{tree}"
            )


def check_both_kinds(records: Sequence[Record], root: str | Path, tree: str) -> None:
    """Raise `ValueError` unless there are normal and defective records; shows the layout."""
    for kind in (False, True):
        if not any(record.is_defective == kind for record in records):
            raise ValueError(
                f"Expected normal and defective images in {root}; all {len(records)} are "
                f"{'normal' if kind else 'defective'}. Expected:{tree}"
            )


def no_category(category: str | None, layout: str) -> None:
    """Raise `ValueError` if a category is given for a layout without categories."""
    if category is not None:
        raise ValueError(
            f"The layout {layout!r} has no categories; found category={category!r}. Leave it out."
        )
