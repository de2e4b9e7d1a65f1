"""Figure, table and sentences of the confounder of board designs, from its result rows."""

from __future__ import annotations

import pandas as pd

from gainbook.chapters.ch03_reason.boards import (
    AGREEMENTS,
    AS_IN_TRAINING,
    BALANCED,
    CONTROL,
    KEPT,
    LOSS,
    NEW,
    SYSTEMS,
)
from gainbook.lab import tables
from gainbook.lab.catalogue import PLAIN, S5, TEXTBOOK
from gainbook.lab.systems import System
from gainbook.lab.tables import Column, find_or_nan

WORST = AGREEMENTS[-1]


def _at(metric: str, test: str, agreement: float = WORST, map: str | None = None) -> Column:
    return metric, map, {"boards": test, "agreement": agreement}


RANKS: dict[str, Column] = {
    "control": _at("auroc", BALANCED, CONTROL),
    AS_IN_TRAINING: _at("auroc", AS_IN_TRAINING),
    BALANCED: _at("auroc", BALANCED),
    NEW: _at("auroc", NEW),
}
"""AUROC; the control is on the balanced tiles."""
REASONS: dict[str, Column] = {
    "control": _at("flip_rate", BALANCED, CONTROL),
    AS_IN_TRAINING: _at("flip_rate", AS_IN_TRAINING),
    BALANCED: _at("flip_rate", BALANCED),
    NEW: _at("flip_rate", NEW),
}
"""Of the defects found, the share whose verdict becomes normal with the twin."""


def each(rows: pd.DataFrame, column: Column, digits: int = 2) -> str:
    """A figure of every system, in words."""
    metric, map, condition = column
    return "; ".join(
        f"{find_or_nan(rows, system, metric, map, **condition).text(digits)} for {system.label}"
        for system in SYSTEMS
    )


def frame(rows: pd.DataFrame) -> pd.DataFrame:
    """AUROC by agreement for `plots.curves`: a panel for balanced and one for unseen designs."""
    lines = []
    for test in (BALANCED, NEW):
        for system in SYSTEMS:
            for agreement in AGREEMENTS:
                found = find_or_nan(rows, system, "auroc", boards=test, agreement=agreement)
                lines.append((test, system.label, agreement, *found[:3]))
    names = ["panel", "series", "x", "value", "ci_low", "ci_high"]
    return pd.DataFrame(lines, columns=names).dropna(subset="value")


def lead(rows: pd.DataFrame) -> str:
    """What the study found, for the first screen."""
    kept = find_or_nan(rows, S5, KEPT, agreement=WORST).text(3, True)
    return (
        "- **Board tiles, with defects of some designs and good boards of others**: AUROC lost on "
        f"balanced tiles {each(rows, (LOSS, None, {'agreement': WORST}), 3)}; half of S1's loss "
        f"minus S5's {kept}. Found defects whose verdict becomes normal without the defect: "
        f"{each(rows, REASONS[BALANCED])}."
    )


def answer(rows: pd.DataFrame) -> str:
    """Both tables."""
    ranks = tables.system_table(rows, SYSTEMS, RANKS, "AUROC")
    reasons = tables.system_table(rows, SYSTEMS, REASONS, "normal with the twin")
    return f"{ranks}\n\n{reasons}"


def notice(rows: pd.DataFrame) -> str:
    """What the tables show, in sentences."""

    def of(system: System, column: Column) -> str:
        metric, map, condition = column
        return find_or_nan(rows, system, metric, map, **condition).text()

    alarms = _at("false_alarm_rate", NEW)
    falls = [of(PLAIN, REASONS[test]) for test in (AS_IN_TRAINING, "control")]
    return (
        "What to notice: tiles that agree as in training, the usual test set, show no loss. The "
        f"balanced ones do. Of the defects that S1 finds as in training, {falls[0]} become normal "
        f"with the twin, {falls[1]} in the control; the other verdicts stay although the defect is "
        "gone. At its threshold S1 flags "
        f"{of(PLAIN, alarms)} of the normal tiles of the unseen design, S5 {of(S5, alarms)} and "
        f"the textbook fine-tune {of(TEXTBOOK, alarms)}."
    )
