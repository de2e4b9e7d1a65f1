"""The targets of the ladder, written before its runs, and the choice of a system by need.

All differences are paired: the same images, 95 % intervals over groups.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from gainbook.lab.tables import Value

RECALL_TARGET, AUROC_TARGET = 0.08, 0.04
"""Gains over S1: recall at 5 % false alarms, AUROC."""
IOU_TARGET, POINT_TARGET = 2.0, 2.5
"""Ratios to S1: IoU and PointGame of the official map."""
LEVEL = 0.05

REACHED, CERTAIN, MISSED = "reached", "reached for certain", "missed"


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values (Holm 1979), in the order of the input; NaN stays NaN and counts.

    The k-th smallest of m is multiplied by m - k + 1, made no smaller than those before it, and cut
    at 1: rejecting what lies below a level keeps the chance of any false rejection below it.
    """
    order = sorted(range(len(p_values)), key=lambda i: (math.isnan(p_values[i]), p_values[i]))
    adjusted, highest = [math.nan] * len(p_values), 0.0
    for place, index in enumerate(order):
        if math.isnan(p_values[index]):
            continue
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = highest
    return adjusted


class Gain(NamedTuple):
    """A candidate's gains over S1, and whether they reach the targets."""

    recall: Value
    auroc: Value
    recall_p: float
    """Holm's, over both measures of all candidates."""
    auroc_p: float
    verdict: str


def judge_gains(
    gains: Mapping[str, tuple[Value, Value]], p_values: Mapping[str, tuple[float, float]]
) -> dict[str, Gain]:
    """Recall at 5 % false alarms up by 0.08 and AUROC by 0.04, by each candidate over S1.

    The target is about the best of four, and the best of four looks better than it is. So all four
    are reported, and p-values are Holm's over the eight comparisons. `REACHED`: both figures are at
    least the target, and both adjusted p-values lie below 0.05, which shows that the gain is not
    zero. `CERTAIN`: both intervals lie above the target altogether. Else `MISSED`.
    """
    names = list(gains)
    adjusted = holm([p for name in names for p in p_values[name]])
    judged = {}
    for place, name in enumerate(names):
        recall, auroc = gains[name]
        p = adjusted[2 * place], adjusted[2 * place + 1]
        large = recall.value >= RECALL_TARGET and auroc.value >= AUROC_TARGET
        verdict = REACHED if large and max(p) < LEVEL else MISSED
        if recall.low >= RECALL_TARGET and auroc.low >= AUROC_TARGET:
            verdict = CERTAIN
        judged[name] = Gain(recall, auroc, *p, verdict)
    return judged


def judge_ratio(ratio: Value, target: float) -> str:
    """`REACHED` if the ratio is at least the target and its lower end above 1, `CERTAIN` if the
    lower end is at least the target, else `MISSED`."""
    if ratio.low >= target:
        return CERTAIN
    return REACHED if ratio.value >= target and ratio.low > 1 else MISSED


def simplest(values: Mapping[str, float], gains: Mapping[tuple[str, str], Value]) -> str | None:
    """The first system, in `values`' order, that the best of them is not clearly better than.

    `gains` by (later, earlier), later minus earlier; higher is better. `None` without any value.
    """
    known = {name: value for name, value in values.items() if not math.isnan(value)}
    if not known:
        return None
    best = max(known, key=lambda name: known[name])
    for name in known:
        if name == best or not gains[best, name].low > 0:
            return name
    return best
