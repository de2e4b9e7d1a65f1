"""The textbook fine-tune as a rung of the ladder: tiles, and boards with thousands of defects.

`tools/training_matrix.py` trains these runs and writes their rows.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import pandas as pd

from gainbook.lab import results_file, tables
from gainbook.lab.catalogue import S1_COARSE, S5, TEXTBOOK
from gainbook.lab.results_file import ResultsFile
from gainbook.lab.tables import Column

SETS = {"10_tiles": "magnetic tiles", "10_boards": "board tiles"}
"""Results files, and what they are about."""
SYSTEMS = (TEXTBOOK, S1_COARSE, S5)
PAIRS = ((S5, TEXTBOOK), (S5, S1_COARSE), (S1_COARSE, TEXTBOOK))
VERDICT: dict[str, Column] = {
    "AUROC": ("auroc", None, {}),
    "recall at 5 % false alarms": ("recall_at_fpr05", None, {}),
}
MAP: dict[str, Column] = {
    "IoU of the defect map": ("iou", "defect_map", {}),
    "PointGame": ("point_game", "defect_map", {}),
    "Energy-Inside": ("energy_inside", "defect_map", {}),
}


class Curve(NamedTuple):
    """The validation AUROC after each epoch."""

    best: float
    epoch: int
    """Of the best."""
    last: float
    epochs: int


def stored() -> dict[str, ResultsFile]:
    """The committed results by name; without those that were not run."""
    found = {}
    for name in SETS:
        try:
            found[name] = results_file.reference(name)
        except FileNotFoundError:
            continue
    return found


def table(file: ResultsFile) -> str:
    """Verdict and map of the systems, and their paired differences."""
    rows = file.rows
    return (
        tables.system_table(rows, SYSTEMS, {**VERDICT, **MAP}, digits=3)
        + "\n\n"
        + tables.pair_table(rows, PAIRS, {**VERDICT, **MAP}, digits=3)
    )


def curve(rows: pd.DataFrame, system: str) -> Curve:
    """The curve of a system, the mean over its folds and seeds; the first of equal bests."""
    own = rows[(rows["metric"] == "validation_auroc") & (rows["system"] == system)]
    values = {condition["epoch"]: value for condition, value in own[["condition", "value"]].values}
    best = max(values, key=lambda epoch: (values[epoch], -epoch))
    return Curve(values[best], best, values[max(values)], max(values))


def decay_text(file: ResultsFile) -> str:
    """How far the last epoch is from the best one, in a sentence."""
    words = []
    for system in SYSTEMS:
        found = curve(file.rows, system.name)
        words.append(
            f"{system.label} {found.last:.3f} after the last of {found.epochs} epochs, "
            f"{found.best:.3f} at its best (epoch {found.epoch})"
        )
    return f"Validation AUROC, the mean over runs: {'; '.join(words)}."


def gap_text(file: ResultsFile) -> str:
    """Whether S5's verdict is level with the textbook's, in a sentence."""
    gap = tables.find(file.rows, S5, "auroc_difference", **TEXTBOOK.as_other)
    if math.isnan(gap.low):
        return ""
    side = "above" if gap.low > 0 else "below" if gap.high < 0 else "not shown to differ from"
    return f"S5's AUROC is {side} the textbook fine-tune's: {gap.text(3, True)}."
