"""What would decide the claims of the ablation, written before any of its runs was looked at.

All differences are paired: the same tiles, 95 % intervals over tile groups.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from gainbook.lab.judge import Judgement
from gainbook.lab.tables import Value

AUROC_MARGIN = 0.02
"""A step may cost this much AUROC, at the lower end, and still count as keeping it."""
IOU_MARGIN = 0.02
RECALL_TARGET, AUROC_TARGET = 0.08, 0.04
"""Gains over S1 that were asked for: recall at 5 % false alarms, AUROC."""
IOU_TARGET, POINT_TARGET = 2.0, 2.5
"""Ratios to S1 that were asked for: IoU and PointGame of the official map."""
LEVEL = 0.05

CONTRIBUTES, HARMS, OPEN = "contributes", "harms", "not shown"
REACHED, CERTAIN, MISSED = "reached", "reached for certain", "missed"

PROMISES: dict[str, tuple[str, str, str | None, dict[str, str]]] = {
    "S2": ("evidence on the defect", "positive_energy", "cam", {}),
    "S3": ("recall at 5 % false alarms", "recall_at_fpr05", None, {}),
    "S4": ("IoU, defect map", "iou", "defect_map", {}),
    "S5": ("selectivity on the image", "selectivity", None, {"level": "image"}),
    "S6": ("recall at 5 % false alarms", "recall_at_fpr05", None, {}),
}
"""What each whole step is added for, one measure each: in words, metric, map, condition. One each,
because whoever looks at ten measures of five steps finds two that moved by chance."""


def step_verdict(difference: Value) -> str:
    """`CONTRIBUTES` with an interval above 0, `HARMS` with one below, else `OPEN`."""
    if difference.low > 0:
        return CONTRIBUTES
    return HARMS if difference.high < 0 else OPEN


def judge_each(steps: Mapping[str, Value]) -> str:
    """Does each step contribute, by the measure it is added for? `steps` by name.

    *Confirmed* if all do; *refined* if some do; *refuted* if none does. "All" asks every interval
    to clear 0, so it needs no correction for the number of steps; "some" is generous for want of
    one.
    """
    verdicts = [step_verdict(value) for value in steps.values()]
    if verdicts and set(verdicts) == {CONTRIBUTES}:
        return "confirmed"
    return "refined" if CONTRIBUTES in verdicts else "refuted"


def judge_supervision(energy: Value, overlap: Value, auroc: Value) -> Judgement:
    """Does supervising the map improve it and keep the accuracy? S2 minus S1, the same grid.

    *Confirmed* if the positive energy of the evidence and the IoU of the defect map both grow,
    intervals above 0, and the AUROC's lower end lies above -0.02; *refined* if only the maps pass;
    else *refuted*.
    """
    figures = {"evidence on the defect": energy, "IoU, defect map": overlap, "AUROC": auroc}
    better = energy.low > 0 and overlap.low > 0
    verdict = "confirmed" if auroc.low > -AUROC_MARGIN else "refined"
    return Judgement(verdict if better else "refuted", figures)


def judge_consistency(overlap: Value, iou: Value) -> Judgement:
    """Does consistency keep attention and localization in line? S4 minus S4 without it.

    *Confirmed* if the two maps overlap more on defective tiles (`map_overlap`, interval above 0)
    and the defect map loses no IoU (lower end above -0.02); *refined* if they overlap more only;
    else *refuted*.
    """
    figures = {"overlap of attention and localization": overlap, "IoU, defect map": iou}
    if not overlap.low > 0:
        return Judgement("refuted", figures)
    return Judgement("confirmed" if iou.low > -IOU_MARGIN else "refined", figures)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values (Holm 1979), in the order given; NaN stays NaN and counts.

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
    """A candidate's gains over S1, and whether they are the ones that were asked for."""

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

    The target speaks of the best of four, and the best of four looks better than it is. So all four
    are reported, and p-values are Holm's over the eight comparisons. `REACHED`: both figures are at
    least the target, and both adjusted p-values below 0.05 say that the gain is not zero.
    `CERTAIN`: both intervals lie above the target altogether. Else `MISSED`.
    """
    names = list(gains)
    adjusted = holm([p for name in names for p in p_values[name]])
    found = {}
    for place, name in enumerate(names):
        recall, auroc = gains[name]
        p = adjusted[2 * place], adjusted[2 * place + 1]
        large = recall.value >= RECALL_TARGET and auroc.value >= AUROC_TARGET
        verdict = REACHED if large and max(p) < LEVEL else MISSED
        if recall.low >= RECALL_TARGET and auroc.low >= AUROC_TARGET:
            verdict = CERTAIN
        found[name] = Gain(recall, auroc, *p, verdict)
    return found


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
