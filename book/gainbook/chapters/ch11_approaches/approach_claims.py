"""What would decide two claims about the six approaches, written before anything was measured.

All figures are paired: the same tiles, 95 % intervals over tile groups.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from gainbook.lab.judge import Judgement
from gainbook.lab.tables import Value

AUROC_MARGIN = 0.02
"""A classifier's AUROC less this still classifies."""
PLACE_MARGIN = 0.10
"""Likewise for PointGame, and for shares of verdicts."""
YES, NO, OPEN = "yes", "no", "open"
ABILITIES = ("classifies", "locates", "explains", "verifies")
"""The columns of the table that is tested, each against the approach that it credits:

- *classifies*: AUROC, against the classifier, margin 0.02.
- *locates*: PointGame of the defect map, against the U-Net, margin 0.10.
- *explains*: the reason map's selectivity (`reason_marked - reason_unmarked`), against GAIN, margin
  0.10, and above 0.
- *verifies*: the selectivity on the picture (`removed - moved`), against GAIN-MTL, margin 0.10, and
  above 0: take the defect away, and only the defect, and the system says so.
"""


def able(difference: Value | None, margin: float, own: Value | None = None) -> str:
    """Whether a system can do what the credited one can: `YES`, `NO` or `OPEN`.

    `difference` is the system's figure minus the credited one's, `None` for the credited system
    itself. *Yes* if its lower end lies above minus the margin, *no* if its upper end lies below;
    between, open. `own`, the system's figure itself, must have its lower end above 0, too; it is
    *no* where its upper end is not. What is undefined is open.
    """
    answers = []
    if difference is not None:
        answers.append(_above(difference, -margin))
    if own is not None:
        answers.append(_above(own, 0.0))
    if NO in answers:
        return NO
    return OPEN if OPEN in answers else YES


def _above(value: Value, bound: float) -> str:
    if math.isnan(value.low) or math.isnan(value.high):
        return OPEN
    return YES if value.low > bound else NO if value.high <= bound else OPEN


def judge_only(abilities: Mapping[str, Mapping[str, str]], integrated: str) -> str:
    """Does only the integrated system classify, locate, explain and verify?

    *Confirmed* if it has all four and every other system lacks one for certain. *Refuted* if it
    lacks one, or another system has all four. Else *refined*: the data can't tell.
    """
    own = list(abilities[integrated].values())
    others = [list(found.values()) for name, found in abilities.items() if name != integrated]
    if NO in own or any(set(found) == {YES} for found in others):
        return "refuted"
    confirmed = set(own) == {YES} and all(NO in found for found in others)
    return "confirmed" if confirmed else "refined"


def judge_together(auroc: Value, iou: Value) -> Judgement:
    """Does classifying and locating together beat doing either alone?

    Differences of the multi-task system, in AUROC to the classifier alone, in IoU of the defect map
    to the U-Net alone. *Confirmed* if both lie above 0, *refined* if one does, else *refuted*.
    """
    figures = {"AUROC, minus classifier only": auroc, "IoU, minus U-Net": iou}
    better = [value.low > 0 for value in (auroc, iou)]
    return Judgement(
        "confirmed" if all(better) else "refined" if any(better) else "refuted", figures
    )


def sides(differences: Mapping[str, Value]) -> dict[str, list[str]]:
    """Which figures of `first - second` are better for `first`, for `second`, and for neither.

    By intervals that leave out 0; higher is better in all of them. Keys `first`, `second`, `open`.
    """
    found: dict[str, list[str]] = {"first": [], "second": [], "open": []}
    for name, value in differences.items():
        side = "first" if value.low > 0 else "second" if value.high < 0 else "open"
        found[side].append(name)
    return found


def judge_level(ahead: Mapping[str, Value], margin: float = 0.0) -> tuple[str, list[str]]:
    """Is nobody ahead of a system by more than `margin`?

    `ahead` by name: another system's figure minus that system's own. *Reached for certain* if every
    upper end is at most the margin, *reached* if every figure is, *missed* if some lower end lies
    above it, else *open*. Undefined figures are left out; without any it is open.

    Returns:
        The verdict, and the names of those whose figure exceeds the margin.
    """
    known = {name: v for name, v in ahead.items() if not math.isnan(v.value)}
    over = [name for name, value in known.items() if value.value > margin]
    if any(value.low > margin for value in known.values()):
        return "missed", over
    if not known or over:
        return "open", over
    certain = all(value.high <= margin for value in known.values())
    return "reached for certain" if certain else "reached", over
