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


def of(rows: pd.DataFrame, system: System, column: Column, digits: int = 2) -> str:
    """A figure of a system."""
    metric, map, condition = column
    return find_or_nan(rows, system, metric, map, **condition).text(digits)


def each(rows: pd.DataFrame, column: Column, digits: int = 2) -> str:
    """A figure of every system, in words."""
    return "; ".join(f"{of(rows, s, column, digits)} for {s.label}" for s in SYSTEMS)


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


def opening(rows: pd.DataFrame) -> str:
    """What happens to a classifier whose defects came from other products, for the first page."""
    usual, new, twin = RANKS[AS_IN_TRAINING], RANKS[NEW], REASONS[NEW]
    figures = [[of(rows, system, one) for one in (usual, new, twin)] for system in (TEXTBOOK, S5)]
    (a, b, c), (d, e, f) = figures
    return (
        "Circuit boards, with the defects from some designs and the good boards from others: "
        f"tested as it was trained, a textbook fine-tune has an AUROC of {a}. On a design that it "
        f"has not seen it has {b}, and of the defects that it finds there, a share of {c} becomes "
        "*normal* when the same place is shown without the defect. S5, trained with masks too, has "
        f"{d}, {e} and {f} ([](../notebooks/03_right_answer_wrong_reason.ipynb))."
    )


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
    alarms = [of(rows, system, _at("false_alarm_rate", NEW)) for system in (PLAIN, S5, TEXTBOOK)]
    falls = [of(rows, PLAIN, REASONS[test]) for test in (AS_IN_TRAINING, "control")]
    return (
        "What to notice: tiles that agree as in training, the usual test set, show no loss. The "
        f"balanced ones do. Of the defects that S1 finds as in training, {falls[0]} become normal "
        f"with the twin, {falls[1]} in the control; the other verdicts stay although the defect is "
        f"gone. At its threshold S1 flags {alarms[0]} of the normal tiles of the unseen design, S5 "
        f"{alarms[1]} and the textbook fine-tune {alarms[2]}."
    )
