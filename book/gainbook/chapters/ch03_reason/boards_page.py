"""Figure, tables and sentences of the confounder of board designs, from its result rows."""

from __future__ import annotations

import pandas as pd

from gainbook.chapters.ch03_reason.boards import (
    AGREEMENTS,
    AS_IN_TRAINING,
    BALANCED,
    CONTROL,
    LOSS,
    NEW,
    REVERSED,
    SYSTEMS,
)
from gainbook.lab import tables
from gainbook.lab.tables import Column, find_or_nan

WORST = AGREEMENTS[-1]


def _at(metric: str, test: str, agreement: float = WORST, map: str | None = None) -> Column:
    return metric, map, {"boards": test, "agreement": agreement}


COLUMNS: dict[str, Column] = {
    "control": _at("auroc", BALANCED, CONTROL),
    AS_IN_TRAINING: _at("auroc", AS_IN_TRAINING),
    BALANCED: _at("auroc", BALANCED),
    REVERSED: _at("auroc", REVERSED),
    NEW: _at("auroc", NEW),
}
"""AUROC; the control is on the balanced tiles."""
REASONS: dict[str, Column] = {
    "loss of AUROC": (LOSS, None, {"agreement": WORST}),
    "normal with the twin": _at("flip_rate", BALANCED),
    "control": _at("flip_rate", BALANCED, CONTROL),
    "PointGame": _at("point_game", BALANCED, map="defect_map"),
    "its control": _at("point_game", BALANCED, CONTROL, map="defect_map"),
}


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


def answer(rows: pd.DataFrame) -> str:
    """The AUROC at an agreement of 1 by test set."""
    return tables.system_table(rows, SYSTEMS, COLUMNS)
