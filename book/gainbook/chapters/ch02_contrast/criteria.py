"""The criteria of claims B1 and B4, written before the runs.

What was known then: one fold of the boards, on which the area under the curve of a memory bank
(0.78 and 0.86 at two choices of levels) and of reverse distillation (0.86 to 0.87) had been looked
at while their cost was measured. No classifier had been looked at.

Five draws left both claims open on the boards. Five more were added, a second one of each test
fold, and intervals are over the folds.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pandas as pd

from gainbook.chapters.ch02_contrast.crossing import (
    BANK,
    EQUAL,
    PROBE,
    Arm,
    cost_ratio,
    crossing,
    paired,
)
from gainbook.lab.judge import RATE_MARGIN, Judgement, Part, gains, verdict
from gainbook.lab.systems import AnySystem
from gainbook.lab.tables import Value

RARE, TAUGHT = 5, 25
"""Defective training parts: few, and as many as the question about new types has."""
DEARER = 2.0
"""B1: the classifier needs at least so many times the labelling of the detector."""
FINE, LARGE, SMALL = "fine", 512, 256
"""B4: the smallest third of the defects, and the sides of the whole picture in pixels."""


def _is_dearer(ratio: Value) -> Part:
    if ratio.low > DEARER:
        return True
    return False if ratio.high < DEARER else None


def necessary(rows: pd.DataFrame) -> Judgement:
    """B1: do rare defects, new types and the cost of labels make anomaly detection necessary?

    The detector is the memory bank, the classifier the linear probe, on the same frozen features;
    recall is at a threshold with 5 % false alarms on normal validation images. Intervals are over
    test folds. Three parts:

    - *rare*: with 5 defective training parts, the detector's recall minus the classifier's: shown
      with an interval above 0, excluded with one below 0.05.
    - *new*: the same difference on a defect type that is left out of training, with 25 defective
      parts of other types, averaged over the types left out.
    - *cost*: one part in a hundred is defective. To reach the detector's recall the classifier
      needs a number of defective parts (the crossing of the curves), and these are found by
      labelling parts as they come. Parts to label over those that the detector needs: shown with an
      interval above 2, excluded with one below 2. A crossing that is not reached counts as
      infinite.

    Confirmed if all are shown, refined if one is shown and another excluded.

    Added when the first draws had shown that the arms' false alarms on the test differ: the first
    two differences at equal false alarms on the test. They are no part of the claim.
    """
    rare = paired(rows, BANK, PROBE, "recall", {"defects": RARE})
    unseen = {"defects": TAUGHT, "types": "unseen"}
    new = paired(rows, BANK, PROBE, "recall", unseen)
    ratio = cost_ratio(crossing(rows, PROBE, BANK, "recall"))
    return Judgement(
        verdict([gains(rare, RATE_MARGIN), gains(new, RATE_MARGIN), _is_dearer(ratio)]),
        {
            f"recall of the detector minus classifier, {RARE} defective parts": rare,
            "on types left out of training": new,
            **_ratio_figure(ratio),
            "the first at equal false alarms": paired(rows, BANK, PROBE, EQUAL, {"defects": RARE}),
            "the second at equal false alarms": paired(rows, BANK, PROBE, EQUAL, unseen),
        },
    )


def _ratio_figure(ratio: Value) -> dict[str, Value]:
    """The extra labelling, where it is finite."""
    more = Value(ratio.value - 1, ratio.low - 1, ratio.high - 1)
    words = "extra labelling of the classifier as a multiple of the detector's"
    if math.isinf(more.value):
        return {}
    return {words: more if math.isfinite(more.high) else Value(more.value)}


def necessary_beside(classifier: AnySystem) -> Callable[[pd.DataFrame], Judgement]:
    """B1's parts *rare* and *cost*, see `necessary`, for a fine-tuned classifier."""

    def criterion(rows: pd.DataFrame) -> Judgement:
        few = {"defects": RARE}
        of = {**classifier.condition, **few}
        rare = paired(rows, BANK, classifier, "recall", few, of)
        ratio = cost_ratio(crossing(rows, classifier, BANK, "recall"))
        return Judgement(
            verdict([gains(rare, RATE_MARGIN), _is_dearer(ratio)]),
            {
                f"recall of the detector minus classifier, {RARE} defective parts": rare,
                **_ratio_figure(ratio),
                "the first at equal false alarms": paired(rows, BANK, classifier, EQUAL, few, of),
            },
        )

    criterion.__doc__ = necessary_beside.__doc__
    return criterion


def necessary_for_new_types(classifier: AnySystem) -> Callable[[pd.DataFrame], Judgement]:
    """B1's part *new* alone, see `necessary`, for a fine-tuned classifier.

    Written before its runs.
    """

    def criterion(rows: pd.DataFrame) -> Judgement:
        unseen = {"defects": TAUGHT, "types": "unseen"}
        of = {**classifier.condition, **unseen}
        new = paired(rows, BANK, classifier, "recall", unseen, of)
        return Judgement(
            verdict([gains(new, RATE_MARGIN)]),
            {
                "recall of the detector minus classifier, types left out of training": new,
                "at equal false alarms": paired(rows, BANK, classifier, EQUAL, unseen, of),
            },
        )

    criterion.__doc__ = necessary_for_new_types.__doc__
    return criterion


def resolution_gain(
    rows: pd.DataFrame, arm: Arm, size: str = FINE, metric: str = "recall"
) -> Value:
    """Recall of defects of a size at a picture side of 512 pixels minus that at 256."""
    return paired(
        rows, arm, arm, metric, {"side": LARGE, "size": size}, {"side": SMALL, "size": size}
    )


def fine_anomalies(rows: pd.DataFrame) -> Judgement:
    """B4: do fine anomalies need 512 x 512 pixels?

    Fine are the smallest third of the test's defects by marked area. The picture of a whole part is
    read at 512 and at 256 pixels a side, and each arm is trained and given its threshold at that
    side. Two parts, one for the classifier (the linear probe with all drawn defective parts) and
    one for the detector (the memory bank): the recall of fine defects at 512 minus that at 256 is
    shown with an interval above 0, and excluded with one below 0.05. Confirmed if both are shown.
    The gain of the largest third stands beside it, and so do, added when the first draws had shown
    that false alarms on the test differ, both gains at equal false alarms. They are no part of the
    claim.
    """
    found = {arm: resolution_gain(rows, arm) for arm in (PROBE, BANK)}
    large = {arm: resolution_gain(rows, arm, "large") for arm in (PROBE, BANK)}
    return Judgement(
        verdict([gains(value, RATE_MARGIN) for value in found.values()]),
        {
            **{f"recall of fine defects, 512 minus 256 px, {a.label}": v for a, v in found.items()},
            **{f"of large defects, {a.label}": v for a, v in large.items()},
            **{
                f"of {size} defects at equal false alarms, {arm.label}": resolution_gain(
                    rows, arm, size, EQUAL
                )
                for size in (FINE, "large")
                for arm in (PROBE, BANK)
            },
        },
    )
