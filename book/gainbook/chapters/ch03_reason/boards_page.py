"""Figure, table and sentences of the confounder of board designs, from its result rows."""

from __future__ import annotations

import pandas as pd

from gainbook.chapters.ch03_reason.boards import (
    AGREEMENTS,
    AS_IN_TRAINING,
    BALANCED,
    CONTROL,
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


def _by_test(metric: str) -> dict[str, Column]:
    return {
        AS_IN_TRAINING: _at(metric, AS_IN_TRAINING),
        BALANCED: _at(metric, BALANCED),
        f"{BALANCED}, control": _at(metric, BALANCED, CONTROL),
        NEW: _at(metric, NEW),
        f"{NEW}, control": _at(metric, NEW, CONTROL),
    }


RANKS, REASONS = _by_test("auroc"), _by_test("flip_rate")
"""By test set, at an agreement of 1 and in the control: AUROC, and of the found defects the share
whose twin gets the verdict normal."""


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
    """What happens to classifiers whose defects came from other products, for the first page."""
    columns = {
        "AUROC, as in training": RANKS[AS_IN_TRAINING],
        "all designs": RANKS[BALANCED],
        "all designs, trained on all": RANKS[f"{BALANCED}, control"],
        "normal without the defect": REASONS[BALANCED],
        "the same, trained on all": REASONS[f"{BALANCED}, control"],
    }
    chosen = [one for one in SYSTEMS if one.name in {TEXTBOOK.name, PLAIN.name, S5.name}]
    return (
        "On circuit boards, the defects of training came from some designs and the good boards "
        "from others. A test set that is collected the same way shows nothing; one with all "
        "designs does, and so does the picture of the same place without the defect: each verdict "
        "*defective* should then become *normal*.\n\n"
        f"{tables.system_table(rows, chosen, columns)}\n\n"
        "S1 has the grid and the recipe of S5, and no masks; more in "
        "[](../notebooks/03_right_answer_wrong_reason.ipynb)."
    )


def lead(rows: pd.DataFrame) -> str:
    """What the study found, for the first screen."""
    return (
        "- **Board tiles, with the defects of some designs and the good boards of others**: AUROC "
        f"lost on tiles of all designs {each(rows, (LOSS, None, {'agreement': WORST}), 3)}. Share "
        "of found defects that get the verdict *normal* when the defect is gone: "
        f"{each(rows, REASONS[BALANCED])}."
    )


def answer(rows: pd.DataFrame) -> str:
    """Both tables."""
    ranks = tables.system_table(rows, SYSTEMS, RANKS, "AUROC")
    reasons = tables.system_table(rows, SYSTEMS, REASONS, "*normal* with the twin")
    return f"{ranks}\n\n{reasons}"


def notice(rows: pd.DataFrame) -> str:
    """What the tables show, in sentences."""
    alarms = [of(rows, system, _at("false_alarm_rate", NEW)) for system in (PLAIN, S5, TEXTBOOK)]
    falls = [
        (of(rows, system, REASONS[BALANCED]), of(rows, system, REASONS[f"{BALANCED}, control"]))
        for system in (PLAIN, S5)
    ]
    return (
        "What to notice: the usual test set, collected as in training, shows no loss. The second "
        "table has the share of found defects whose twin gets the verdict *normal*; the others "
        f"stay *defective* without a defect. On balanced tiles it is {falls[0][0]} for S1 (control "
        f"{falls[0][1]}) and {falls[1][0]} for S5 ({falls[1][1]}). At its own threshold S1 flags "
        f"{alarms[0]} of the normal tiles of the unseen design, S5 {alarms[1]} and the textbook "
        f"fine-tune {alarms[2]}."
    )
