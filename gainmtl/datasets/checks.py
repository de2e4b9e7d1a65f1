"""Checks of settings: each returns the checked value, or raises an error that names the setting."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import fields

import numpy as np


def check_settings(settings: type, names: Iterable[str], owner: str) -> None:
    """Raise `ValueError` for a name that is no field of the dataclass `settings`."""
    known = [field.name for field in fields(settings)]
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known) or f" Known: {', '.join(known)}."
            raise ValueError(f"{owner} has no setting {name!r}.{hint}")


def check_values(owner: str, settings: object, rules: Mapping[str, tuple[str, bool]]) -> None:
    """Raise one `ValueError` that names every field whose rule, (expected words, holds), fails."""
    wrong = [
        f"{name}: expected {words}, got {getattr(settings, name)!r}"
        for name, (words, holds) in rules.items()
        if not holds
    ]
    if wrong:
        raise ValueError(f"{owner}: {'; '.join(wrong)}")


def did_you_mean(name: object, known: Iterable[str], cutoff: float = 0.6) -> str:
    """A sentence with the most similar of the known names, after a space; empty without one."""
    near = difflib.get_close_matches(str(name), list(known), 1, cutoff)
    return f" Did you mean {near[0]!r}?" if near else ""


def checked_index(index: int, length: int) -> int:
    """The place, from 0 on, of an index that may be negative, as of a list."""
    if not -length <= index < length:
        raise IndexError(f"Expected an index below {length}; found {index}.")
    return int(index) % length


def whole(name: str, value: object, low: int, high: int) -> int:
    """`value` as a whole number in [low, high]."""
    if (
        isinstance(value, bool)
        or not isinstance(value, int | np.integer)
        or not low <= value <= high
    ):
        raise ValueError(f"{name}: expected a whole number from {low} to {high}, got {value!r}.")
    return int(value)


def number(name: str, value: object, low: float, high: float) -> float:
    """`value` as a number in [low, high]."""
    # NaN also fails the comparison.
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float | np.number)
        or not low <= value <= high
    ):
        raise ValueError(f"{name}: expected a number from {low} to {high}, got {value!r}.")
    return float(value)


def chosen(name: str, value: object, known: Iterable[str]) -> tuple[str, ...]:
    """`value` as a tuple of different names among the known ones."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ValueError(f"{name}: expected a list of names, got {value!r}.")
    items, known = tuple(value), tuple(known)
    for item in items:
        if item not in known:
            raise ValueError(
                f"{name}: expected names among {', '.join(known)}, got {item!r}."
                f"{did_you_mean(item, known)}"
            )
    if len(set(items)) < len(items):
        raise ValueError(f"{name}: expected each name once, got {', '.join(items)}.")
    return items
