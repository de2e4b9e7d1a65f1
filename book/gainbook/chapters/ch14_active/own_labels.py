"""The labels of one's own images: a CSV that a person fills in, and its checks."""

from __future__ import annotations

import csv
import difflib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from gainmtl.files import atomic_path

COLUMNS = ("image", "label")
SKIP = "skip"
"""A label for an image that can't be labelled: it is not used and not chosen again."""
ALIKE = 0.8
"""Similarity of two class names (`difflib`) from which the rarer one may be a typing error."""


class Labels(NamedTuple):
    """A checked file of labels."""

    known: dict[str, str]
    """Class by image, of images that are in the folder."""
    open: tuple[str, ...]
    """Images that have no label yet."""
    skipped: tuple[str, ...]
    removed: tuple[str, ...]
    """Images of the file that are not in the folder any more."""
    notes: tuple[str, ...]
    """Missing labels, removed images and unified spellings, in sentences."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that occur, sorted."""
        return tuple(sorted(set(self.known.values())))


def read_labels(
    path: str | Path, images: Sequence[str], classes: Sequence[str] | None = None
) -> Labels:
    """The labels in `path`, which need not exist yet.

    Args:
        path: a CSV with the columns `image` and `label`; an empty label is still open, and "skip"
            leaves the image out.
        images: the images in the folder, relative to it.
        classes: the allowed classes; `None`: any, but a rare name that looks like a more frequent
            one is refused.

    Raises:
        ValueError: a file that is no such CSV, two labels for one image, or an unknown class name;
            names the rows.
    """
    path = Path(path)
    if not path.is_file():
        return Labels({}, (), (), (), (f"{path.name} does not exist yet; this run makes it.",))
    given: dict[str, tuple[int, str]] = {}
    for number, image, label in _rows(path):
        if image in given and given[image][1] != label:
            raise ValueError(
                f"{path.name}: expected one label per image; rows {given[image][0]} and {number} "
                f"label {image} as {given[image][1]!r} and {label!r}. Remove one of the rows."
            )
        given[image] = (number, label)
    present = set(images)
    removed = tuple(image for image in given if image not in present)
    here = {image: row for image, row in given.items() if image in present}
    is_skipped = {image for image, (_, label) in here.items() if label.lower() == SKIP}
    filled = {i: row for i, row in here.items() if row[1] and i not in is_skipped}
    known, notes = _with_classes(path.name, filled, classes)
    waiting = tuple(image for image, (_, label) in here.items() if not label)
    if removed:
        notes.append(
            f"{_count(removed, 'image')} of {path.name} {'is' if len(removed) == 1 else 'are'} not "
            f"in the folder any more ({_some(removed)}). "
            f"The {'row is' if len(removed) == 1 else 'rows are'} not used; nothing else changes."
        )
    if waiting:
        notes.append(
            f"{_count(waiting, 'image')} of {path.name} {'has' if len(waiting) == 1 else 'have'} "
            f"no label yet ({_some(waiting)}). Fill in the column label, or write {SKIP}, and run "
            "the notebook again; until then no further image is chosen."
        )
    return Labels(known, waiting, tuple(sorted(is_skipped)), removed, tuple(notes))


def _read(path: Path) -> csv.DictReader[str]:
    """The rows of the CSV by column, the names of the columns stripped."""
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path.name}: expected a CSV in UTF-8, found other bytes ({error.reason}); save it as "
            "'CSV UTF-8'"
        ) from error
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)  # spreadsheets of some countries write semicolons
    reader = csv.DictReader(text.splitlines(), delimiter=delimiter)
    columns = [name.strip() for name in reader.fieldnames or []]
    if not set(COLUMNS) <= set(columns):
        raise ValueError(
            f"{path.name}: expected the columns image and label in the first row, found "
            f"{', '.join(columns) or 'nothing'}"
        )
    reader.fieldnames = columns
    return reader


def _rows(path: Path) -> list[tuple[int, str, str]]:
    """Row number as a spreadsheet counts, image and label."""
    rows = [
        (n, (row["image"] or "").strip().replace("\\", "/"), (row["label"] or "").strip())
        for n, row in enumerate(_read(path), 2)
    ]
    return [row for row in rows if row[1]]


def _with_classes(
    name: str, filled: dict[str, tuple[int, str]], classes: Sequence[str] | None
) -> tuple[dict[str, str], list[str]]:
    """Class by image, with one spelling per class; notes on unified spellings."""
    notes: list[str] = []
    counts = Counter(label for _, label in filled.values())
    spelling = {
        c.casefold(): c for c in classes or [label for label, _ in counts.most_common()][::-1]
    }
    known = {}
    for image, (_, label) in filled.items():
        known[image] = spelling.get(label.casefold(), label)
    unified = sorted({label for _, label in filled.values() if label not in set(known.values())})
    if unified:
        notes.append(
            f"{name}: {', '.join(map(repr, unified))} counts as "
            f"{', '.join(repr(spelling[label.casefold()]) for label in unified)}, which differs in "
            "capital letters only."
        )
    counts = Counter(known.values())
    for image, (number, label) in filled.items():
        if problem := _unknown(known[image], counts, classes):
            raise ValueError(f"{name}, row {number}: the label {label!r} of {image} {problem}")
    return known, notes


def _unknown(label: str, counts: Counter[str], classes: Sequence[str] | None) -> str | None:
    """What is wrong with a class name, or `None`."""
    if classes is not None:
        if label in classes:
            return None
        near = difflib.get_close_matches(label, classes, 1, 0.6)
        meant = f"; did you mean {near[0]!r}?" if near else "."
        return (
            f"is none of the classes {', '.join(classes)}{meant} Correct it, or add it to the "
            "parameter classes."
        )
    frequent = [c for c, n in counts.items() if n > counts[label] and counts[label] <= 2]
    for other in difflib.get_close_matches(label, frequent, 1, ALIKE):
        return (
            f"occurs {_times(counts[label])} and looks like {other!r} ({_times(counts[other])}). "
            "Correct it; or, if both are classes, list all classes: "
            '-y "classes: [...]".'
        )
    return None


def add_batch(path: str | Path, images: Sequence[str]) -> None:
    """Append rows with empty labels to the CSV, which is made where it is missing.

    What is there already stays as it is, other columns too. Written whole or not at all.
    """
    path = Path(path)
    rows: list[dict[str, str]] = []
    columns, delimiter = list(COLUMNS), ","
    if path.is_file():
        reader = _read(path)
        columns, delimiter = list(reader.fieldnames or ()), reader.reader.dialect.delimiter
        rows = [{key: row[key] or "" for key in columns} for row in reader]
    rows += [dict.fromkeys(columns, "") | {"image": image} for image in images]
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, columns, delimiter=delimiter, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _count(names: Sequence[str], noun: str) -> str:
    return f"{len(names)} {noun}{'' if len(names) == 1 else 's'}"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
