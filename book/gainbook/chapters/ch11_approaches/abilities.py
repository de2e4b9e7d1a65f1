"""The table of ticks that chapter 11 tests: which system classifies, locates, explains, verifies.

All figures are paired: the same tiles, 95 % intervals over tile groups. The criteria were written
before the runs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import pandas as pd

from gainbook.chapters.ch11_approaches.approaches import (
    ALL,
    CLASSIFIER,
    DETECTION,
    GUIDED,
    INTEGRATED,
    MULTI_TASK,
    SEGMENTATION,
    SIX,
    TUNED,
)
from gainbook.lab.judge import Part
from gainbook.lab.study import Measured
from gainbook.lab.systems import System
from gainbook.lab.tables import Value, find_or_nan, markdown

AUROC_MARGIN = 0.02
"""A system whose AUROC is lower by less still classifies."""
PLACE_MARGIN = 0.10
"""Likewise for PointGame, and for shares of verdicts."""
CELL_WORDS: dict[Part, str] = {True: "yes", False: "no", None: "open"}


class Ability(NamedTuple):
    """A column of the table: a figure, the system that it is compared with, and a margin."""

    figure: str
    """A key of `PAIRED`."""
    standard: str
    """The tag of the system that the table credits."""
    margin: float
    absolute: bool = False
    """Whether the figure itself must lie above 0, too."""


def able(difference: Value | None, margin: float, absolute: Value | None = None) -> Part:
    """Is a system able to do what the credited system does? Yes, no, or open.

    *Yes* if the difference has its lower end above minus the margin, *no* if its upper end lies
    below, otherwise open. An undefined figure is open.

    Args:
        difference: the system's figure minus the credited system's; `None` for that system itself.
        absolute: the system's figure where it must lie above 0, too.
    """
    parts = []
    if difference is not None:
        parts.append(_above(difference, -margin))
    if absolute is not None:
        parts.append(_above(absolute, 0.0))
    if False in parts:
        return False
    return None if None in parts else True


def _above(value: Value, bound: float) -> Part:
    if math.isnan(value.low) or math.isnan(value.high):
        return None
    return True if value.low > bound else False if value.high <= bound else None


def only(abilities: Mapping[str, Mapping[str, Part]], integrated: str) -> Part:
    """Does only the integrated system have all abilities?

    *Shown* if it has all and every other system certainly lacks one. *Excluded* if it certainly
    lacks one, or another system has all.
    """
    own = list(abilities[integrated].values())
    others = [list(cells.values()) for name, cells in abilities.items() if name != integrated]
    if False in own or any(set(cells) == {True} for cells in others):
        return False
    return True if set(own) == {True} and all(False in cells for cells in others) else None


def sides(differences: Mapping[str, Value]) -> dict[str, list[str]]:
    """The figures of `first - second` that are better for `first`, for `second`, and undecided.

    By intervals that exclude 0; higher is better in all of them. Keys `first`, `second`, `open`.
    """
    result: dict[str, list[str]] = {"first": [], "second": [], "open": []}
    for name, value in differences.items():
        side = "first" if value.low > 0 else "second" if value.high < 0 else "open"
        result[side].append(name)
    return result


def reaches(ahead: Mapping[str, Value], margin: float = 0.0) -> tuple[str, list[str]]:
    """Is no other system ahead of one by more than `margin`?

    *Reached for certain* if every upper end is at most the margin, *reached* if every figure is,
    *missed* if a lower end lies above it, otherwise *open*. Undefined figures are left out; without
    any figure the target is open.

    Args:
        ahead: by name, another system's figure minus that of the system in question.

    Returns:
        The word, and the names of the systems whose figure exceeds the margin.
    """
    defined = {name: v for name, v in ahead.items() if not math.isnan(v.value)}
    over = [name for name, value in defined.items() if value.value > margin]
    if any(value.low > margin for value in defined.values()):
        return "missed", over
    if not defined or over:
        return "open", over
    certain = all(value.high <= margin for value in defined.values())
    return "reached for certain" if certain else "reached", over


PAIRED: dict[str, Measured] = {
    "AUROC": ("auroc", None, {}),
    "recall at 5 % false alarms": ("recall_at_fpr05", None, {}),
    "IoU": ("iou", "defect_map", {}),
    "PointGame": ("point_game", "defect_map", {}),
    "map selectivity": ("map_selectivity", "defect_map", {"level": "image"}),
    "reason selectivity": ("reason_selectivity", None, {"level": "image"}),
    "ROAD of the reason": ("reason_road", None, {}),
    "selectivity": ("selectivity", None, {"level": "image"}),
}
"""The measures whose paired differences the chapter shows."""
ABILITIES = {
    "classifies": Ability("AUROC", CLASSIFIER.tag, AUROC_MARGIN),
    "locates": Ability("PointGame", SEGMENTATION.tag, PLACE_MARGIN),
    "explains": Ability("reason selectivity", GUIDED.tag, PLACE_MARGIN, absolute=True),
    "verifies": Ability("selectivity", INTEGRATED.tag, PLACE_MARGIN, absolute=True),
}
"""The columns of the table of ticks.

*Explains*: the verdict falls with what the reason map marks and not with what it marks least.
*Verifies*: it falls with the defect and not with as much elsewhere.
"""


def difference(rows: pd.DataFrame, first: System, second: System, figure: str) -> Value:
    """A figure of `PAIRED`, first minus second; both are named at the reference rate.

    NaN where no part could be paired.
    """
    metric, of, condition = PAIRED[figure]
    a, b = TUNED[first.tag], TUNED[second.tag]
    return find_or_nan(rows, a, f"{metric}_difference", of, **b.as_other, **condition)


def figure_of(rows: pd.DataFrame, system: System, figure: str) -> Value:
    """A figure of `PAIRED` of one system, which is named at the reference rate."""
    metric, of, condition = PAIRED[figure]
    return find_or_nan(rows, TUNED[system.tag], metric, of, **condition)


def abilities_of(rows: pd.DataFrame, system: System) -> dict[str, Part]:
    """A line of the table of ticks."""
    cells = {}
    for name, (figure, standard, margin, absolute) in ABILITIES.items():
        minus = None
        if system.tag != standard:
            other = next(s for s in SIX if s.tag == standard)
            minus = difference(rows, system, other, figure)
        cells[name] = able(minus, margin, figure_of(rows, system, figure) if absolute else None)
    return cells


CREDITED = {
    CLASSIFIER.tag: "classifies",
    DETECTION.tag: "classifies, locates",
    SEGMENTATION.tag: "locates",
    GUIDED.tag: "classifies, explains",
    MULTI_TASK.tag: "classifies, locates",
    INTEGRATED.tag: "all four",
}
"""The ticks of the table that is tested."""
TARGETS = {
    "AUROC": AUROC_MARGIN,
    "map selectivity": 0.0,
    "reason selectivity": 0.0,
    "ROAD of the reason": 0.0,
    "selectivity": 0.0,
}
"""By figure, how far another system may be ahead of GAIN-MTL."""


def tick_table(rows: pd.DataFrame) -> str:
    """A line per system of `SIX`: its ticks, and what was measured; standards are marked."""
    lines = []
    for system in SIX:
        words = [
            CELL_WORDS[cell] + (" (standard)" if ABILITIES[name].standard == system.tag else "")
            for name, cell in abilities_of(rows, system).items()
        ]
        lines.append([system.label, CREDITED[system.tag], *words])
    return markdown(["", "credited with", *ABILITIES], lines)


def target_table(rows: pd.DataFrame) -> str:
    """A line per figure of `TARGETS`; see `reaches`."""
    lines = []
    for figure, margin in TARGETS.items():
        others = {s.label: difference(rows, s, INTEGRATED, figure) for s in ALL if s != INTEGRATED}
        word, over = reaches(others, margin)
        lines.append([figure, f"{margin:.2f}", word, ", ".join(over) or "none"])
    return markdown(["GAIN-MTL in", "margin", "target", "ahead by more"], lines)
