"""The verdict on a claim, with one meaning of each word in the whole book.

A criterion has parts, and a part is shown (`True`), excluded (`False`) or open (`None`). What an
interval shows is the part's criterion, written before the run. What it excludes is an effect as
large as the smallest interesting difference, `INTERESTING`; an interval that holds both leaves the
part open. An interval around zero therefore never refutes a claim unless it is narrow.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

from gainbook.lab.tables import Value

CONFIRMED, REFUTED, REFINED = "confirmed", "refuted", "refined"
UNDECIDED, NOT_RUN = "undecided", "not run"
MEANING = {
    CONFIRMED: "every part of the criterion is shown: its interval lies beyond the criterion",
    REFUTED: "no part is shown and at least one is excluded: its interval lies on the other side "
    "of the smallest interesting difference",
    REFINED: "one part is shown and another excluded; the page names both",
    UNDECIDED: "nothing is excluded and at least one part is open: its interval holds both sides",
    NOT_RUN: "the results files lack the figures",
}
"""The verdict words and their meaning on every page."""

Part: TypeAlias = bool | None
"""Shown, excluded, or open."""

RANKING_MARGIN, RATE_MARGIN = 0.02, 0.05
INTERESTING = {
    "auroc": RANKING_MARGIN,
    "average_precision": RANKING_MARGIN,
    "iou": RANKING_MARGIN,
    "pixel_ap": RANKING_MARGIN,
    "positive_energy": RANKING_MARGIN,
    "recall_at_fpr05": RATE_MARGIN,
    "point_game": RATE_MARGIN,
    "flip_rate": RATE_MARGIN,
    "selectivity": RATE_MARGIN,
}
"""Smallest interesting difference by metric: 0.02 of what ranks or overlaps, 0.05 of a share of
parts."""


class Judgement(NamedTuple):
    """A claim's verdict and the figures it rests on."""

    verdict: str
    """A key of `MEANING`."""
    figures: dict[str, Value]
    """By what they measure."""


def gains(difference: Value, least: float = RANKING_MARGIN) -> Part:
    """Is the figure larger? Shown with an interval above 0, excluded with one below `least`."""
    if math.isnan(difference.low):
        return None
    if difference.low > 0:
        return True
    return False if difference.high < least else None


def falls(difference: Value, least: float = RANKING_MARGIN) -> Part:
    """Is the figure smaller? Shown with an interval below 0, excluded with one above `-least`."""
    value, low, high, n = difference
    return gains(Value(-value, -high, -low, n), least)


def keeps(difference: Value, margin: float = RANKING_MARGIN) -> Part:
    """Is at most `margin` lost? Shown with an interval above `-margin`, excluded with one below."""
    if math.isnan(difference.low):
        return None
    if difference.low > -margin:
        return True
    return False if difference.high < -margin else None


def all_of(parts: Iterable[Part]) -> Part:
    """One part made of several: excluded if one is, shown if all are."""
    states = list(parts)
    if False in states:
        return False
    return None if None in states else True


def any_of(parts: Iterable[Part]) -> Part:
    """One part made of alternatives: shown if one is, excluded if all are."""
    states = list(parts)
    if True in states:
        return True
    return None if None in states else False


def verdict(
    claimed: Iterable[Part], conditions: Iterable[Part] = (), partly: Iterable[Part] = ()
) -> str:
    """The word for a claim.

    Args:
        claimed: what the claim promises.
        conditions: what must hold besides, as "at no loss of AUROC". Shown alone, they are no part
            of the claim.
        partly: weaker readings; one that is shown refines a claim that would be refuted.
    """
    claimed, conditions = list(claimed), list(conditions)
    whole = all_of([*claimed, *conditions])
    if whole is True:
        return CONFIRMED
    if whole is None:
        return UNDECIDED
    return REFINED if True in [*claimed, *partly] else REFUTED
