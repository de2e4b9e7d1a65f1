"""Pairs of DeepPCB: a tested picture, its template, and the boxes of its defects."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from gainmtl.datasets.images import check_readable
from gainmtl.datasets.records import Box, walk_images

TYPES = ("open", "short", "mousebite", "spur", "spurious_copper", "pinhole")
"""The defect types; a box file numbers them from 1."""

PCB_TREE = """
  group<design>/<pair>_{test,temp}.png and <pair>.txt   (png or any other format of images), or,
  as the authors publish it, with or without the folder PCBData/ above:
  group<design>/<design>/<pair>_{test,temp}.jpg and group<design>/<design>_not/<pair>.txt
  trainval.txt, test.txt                                (optional: the official split)
  Each line of <pair>.txt is x1 y1 x2 y2 type, with spaces or commas; type is 1 to 6."""


class BoxedDefect(NamedTuple):
    """A defect and the box around it."""

    box: Box
    """Top, left, bottom, right in pixels; bottom and right are exclusive."""
    defect_type: str


class Pair(NamedTuple):
    """A tested picture with its template: the same place without defects."""

    name: str
    """`<design>/<pair>`."""
    design: str
    """The board design, from the folder's name: "00041" of `group00041`."""
    tested: Path
    template: Path
    size: tuple[int, int]
    """(H, W) of both pictures."""
    defects: tuple[BoxedDefect, ...]
    """In the order of the box file, in pixels of the picture."""
    split: str | None
    """`"train"` or `"test"` if the authors' lists are there, else `None`."""


def read_pairs(root: str | Path) -> list[Pair]:
    """The pairs below `root`, sorted by name. Reads box files and picture headers, no pixels.

    The coordinates of a box are taken as its edges: x1 <= x < x2.

    Raises:
        FileNotFoundError: no folder, no pair in it, or a pair without template or box file.
        ValueError: a file outside the layout, two pictures of different size, a line that is no
            box, a box outside the picture, or a list that does not match the pairs.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"The data root {root} is not a folder. Expected:{PCB_TREE}")
    found: dict[Path, dict[str, Path]] = {}
    for path in walk_images(root):
        stem, _, kind = path.stem.rpartition("_")
        if kind in ("test", "temp"):
            pictures = found.setdefault(path.with_name(stem), {})
            if kind in pictures:
                raise ValueError(f"Expected one of {pictures[kind]} and {path}. Remove the other.")
            pictures[kind] = path
    if not found:
        raise FileNotFoundError(f"No pairs of pictures in {root}. Expected:{PCB_TREE}")
    splits = _official_split(root)
    pairs: dict[str, Pair] = {}
    for place, pictures in found.items():
        pair = _pair(root, place, pictures, splits)
        if pair.name in pairs:
            raise ValueError(
                f"{pairs[pair.name].tested} and {pair.tested} have the same design and number. "
                "Remove one of the two copies."
            )
        pairs[pair.name] = pair
    return [pairs[name] for name in sorted(pairs)]


def _pair(
    root: Path, place: Path, pictures: dict[str, Path], splits: dict[str, str] | None
) -> Pair:
    for kind in ("test", "temp"):
        if kind not in pictures:
            raise FileNotFoundError(
                f"Expected a picture {place.name}_{kind} beside {next(iter(pictures.values()))}; "
                "there is none. Add it, or remove the pair."
            )
    tested, template = pictures["test"], pictures["temp"]
    above = (root.name, *place.relative_to(root).parts[:-1])
    groups = [name for name in above if name.startswith("group")]
    if not groups:
        raise ValueError(f"{tested} is in no folder group<design>. Expected:{PCB_TREE}")
    design = groups[-1].removeprefix("group")
    beside = place.with_name(f"{place.name}.txt")
    apart = place.parent.with_name(f"{place.parent.name}_not") / beside.name
    boxes = next((path for path in (beside, apart) if path.is_file()), None)
    if boxes is None:
        raise FileNotFoundError(
            f"Expected the boxes of {tested} in {beside} or {apart}; there is no such file. Add "
            "it, empty if the board has no defect, or remove the pair."
        )
    size, other = check_readable(tested), check_readable(template)
    if size != other:
        raise ValueError(
            f"Expected two pictures of the same size; {tested} is {size[1]} x {size[0]} and "
            f"{template} is {other[1]} x {other[0]} (width x height). Remove the pair."
        )
    if splits is not None and place.name not in splits:
        raise ValueError(
            f"Expected {tested} in trainval.txt or test.txt; it is in neither. Add it, or remove "
            "both lists: then folds are made."
        )
    split = None if splits is None else splits[place.name]
    name = f"{design}/{place.name}"
    return Pair(name, design, tested, template, size, read_defects(boxes, size), split)


def read_defects(path: Path, size: tuple[int, int]) -> tuple[BoxedDefect, ...]:
    """The defects of a box file, for a picture of `size` (H, W).

    Raises:
        ValueError: a line that is no box of a known type in the picture; names file and line.
    """
    defects = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if not line.strip():
            continue
        where = f"line {number} of {path}; found {line!r}"
        fields = re.split(r"\s*,\s*|\s+", line.strip())
        if len(fields) != 5 or not all(re.fullmatch(r"-?\d+", field) for field in fields):
            raise ValueError(f"Expected five whole numbers x1 y1 x2 y2 type in {where}.")
        left, top, right, bottom, kind = map(int, fields)
        if not (0 <= left < right <= size[1] and 0 <= top < bottom <= size[0]):
            raise ValueError(
                f"Expected 0 <= x1 < x2 <= {size[1]} and 0 <= y1 < y2 <= {size[0]} in {where}."
            )
        if not 1 <= kind <= len(TYPES):
            known = ", ".join(f"{i} {name}" for i, name in enumerate(TYPES, 1))
            raise ValueError(f"Expected a type among {known} in {where}.")
        defects.append(BoxedDefect((top, left, bottom, right), TYPES[kind - 1]))
    return tuple(defects)


def _official_split(root: Path) -> dict[str, str] | None:
    """The part of each pair by the authors' lists, or `None` without both lists.

    A line is `group20085/20085/20085000.jpg group20085/20085_not/20085000.txt`; the pictures' names
    end in `_test` and `_temp`, those in the list don't.
    """
    for base in (root, root / "PCBData"):
        lists = {"train": base / "trainval.txt", "test": base / "test.txt"}
        if all(path.is_file() for path in lists.values()):
            return {
                Path(line.split()[0]).stem: split
                for split, path in lists.items()
                for line in path.read_text("utf-8").splitlines()
                if line.strip()
            }
    return None
