"""Figure, table and sentences of the confounder of board designs, from its result rows."""

from __future__ import annotations

from collections.abc import Mapping

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
        f"{AS_IN_TRAINING}, control": _at(metric, AS_IN_TRAINING, CONTROL),
        BALANCED: _at(metric, BALANCED),
        f"{BALANCED}, control": _at(metric, BALANCED, CONTROL),
        NEW: _at(metric, NEW),
        f"{NEW}, control": _at(metric, NEW, CONTROL),
    }


RANKS, REASONS = _by_test("auroc"), _by_test("flip_rate")
"""By test set, at an agreement of 1 and in the control: AUROC, and of the found defects the share
whose twin gets the verdict normal."""


def figure_text(rows: pd.DataFrame, system: System, column: Column, digits: int = 2) -> str:
    """A figure of a system."""
    metric, map, condition = column
    return find_or_nan(rows, system, metric, map, **condition).text(digits)


def each(rows: pd.DataFrame, column: Column, digits: int = 2) -> str:
    """A figure of every system, in words."""
    return "; ".join(f"{figure_text(rows, s, column, digits)} for {s.label}" for s in SYSTEMS)


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
        "In a study on circuit boards, the defects of training came from some designs and the good "
        "boards from others. The table compares a test set that is collected the same way with one "
        "of all designs. Its last columns have the share of found defects that get the verdict "
        "*normal* when the same place is shown without the defect; higher is better.\n\n"
        f"{tables.system_table(rows, chosen, columns)}\n\n"
        "The textbook fine-tune is the backbone's own classifier. S5 is the full system, trained "
        "with masks; S1 has its grid and recipe without masks. More in "
        "[](../notebooks/03_right_answer_wrong_reason.ipynb)."
    )


def lead(rows: pd.DataFrame) -> str:
    """What the study found, for the first screen."""
    lost = each(rows, (LOSS, None, {"agreement": WORST}), 3)
    return (
        "- **Board tiles, with the defects of some designs and the good boards of others**: AUROC "
        f"lost on tiles of all designs {lost}. Share of found defects that get the verdict "
        f"*normal* when the defect is gone: {figure_text(rows, PLAIN, REASONS[BALANCED])} for S1, "
        f"{figure_text(rows, S5, REASONS[BALANCED])} for S5."
    )


def answer(rows: pd.DataFrame) -> str:
    """Both tables."""
    usual = {AS_IN_TRAINING, f"{AS_IN_TRAINING}, control"}
    reasons = {words: column for words, column in REASONS.items() if words not in usual}
    ranks = {words: RANKS[words] for words in (AS_IN_TRAINING, *reasons)}
    return "\n\n".join(
        tables.system_table(rows, SYSTEMS, columns, words)
        for words, columns in (("AUROC", ranks), ("*normal* with the twin", reasons))
    )


def notice(rows: pd.DataFrame) -> str:
    """What the tables show, in sentences."""

    def beside_control(system: System, columns: Mapping[str, Column], test: str) -> str:
        control = figure_text(rows, system, columns[f"{test}, control"])
        return f"{figure_text(rows, system, columns[test])} (control {control})"

    alarms = _at("false_alarm_rate", NEW)
    return (
        "What to notice: on tiles collected as in training S1 has an AUROC of "
        f"{beside_control(PLAIN, RANKS, AS_IN_TRAINING)}, on balanced ones "
        f"{beside_control(PLAIN, RANKS, BALANCED)}. The second table has the share of found "
        "defects whose twin gets the verdict *normal*; the others stay *defective* without a "
        f"defect. On balanced tiles it is {beside_control(PLAIN, REASONS, BALANCED)} for S1 and "
        f"{beside_control(S5, REASONS, BALANCED)} for S5. At its own threshold S1 flags "
        f"{figure_text(rows, PLAIN, alarms)} of the normal tiles of the unseen design, S5 "
        f"{figure_text(rows, S5, alarms)}."
    )
