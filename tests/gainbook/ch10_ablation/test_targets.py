"""The targets decide as they were written; Holm against the step-down procedure itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
from gainbook.chapters.ch10_ablation.targets import (
    CERTAIN,
    MISSED,
    REACHED,
    holm,
    judge_gains,
    judge_ratio,
    simplest,
)
from gainbook.lab.tables import Value

UP, FLAT = Value(0.1, 0.05, 0.15, 9), Value(0.0, -0.1, 0.1, 9)
UNKNOWN = Value(math.nan, math.nan, math.nan, None)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
    assert holm([0.01, math.nan])[0] == pytest.approx(0.02)
    assert math.isnan(holm([0.01, math.nan])[1])


def test_holm_rejects_what_the_step_down_procedure_rejects() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        given = rng.random(6) ** 3
        for level in (0.01, 0.05, 0.2):
            rejected: set[int] = set()
            for place, index in enumerate(np.argsort(given)):
                if given[index] > level / (len(given) - place):
                    break
                rejected.add(int(index))
            assert {i for i, p in enumerate(holm(given.tolist())) if p <= level} == rejected


def test_gains_ask_for_size_and_for_certainty() -> None:
    large = Value(0.10, 0.02, 0.18, 9), Value(0.05, 0.01, 0.09, 9)
    sure = Value(0.10, 0.09, 0.11, 9), Value(0.05, 0.045, 0.06, 9)
    small = Value(0.07, 0.05, 0.09, 9), Value(0.05, 0.01, 0.09, 9)
    given = {"S3": large, "S4": sure, "S5": small, "S6": large}
    low = dict.fromkeys(given, (0.001, 0.001))
    verdicts = {name: gain.verdict for name, gain in judge_gains(given, low).items()}
    assert verdicts == {"S3": REACHED, "S4": CERTAIN, "S5": MISSED, "S6": REACHED}
    # Alone 0.02 would do; of eight comparisons it is 0.02 * 6 where two are smaller.
    some = {**low, "S3": (0.02, 0.001), "S6": (0.02, 0.02)}
    judged = judge_gains(given, some)
    assert judged["S3"].verdict == MISSED
    assert judged["S3"].recall_p == pytest.approx(0.02 * 3)


def test_ratios() -> None:
    assert judge_ratio(Value(3.0, 2.1, 4.0, 9), 2.0) == CERTAIN
    assert judge_ratio(Value(2.1, 1.1, 4.0, 9), 2.0) == REACHED
    assert judge_ratio(Value(2.1, 0.9, 4.0, 9), 2.0) == MISSED
    assert judge_ratio(Value(1.9, 1.5, 2.4, 9), 2.0) == MISSED
    assert judge_ratio(UNKNOWN, 2.0) == MISSED


def test_the_simplest_that_the_best_does_not_clearly_beat() -> None:
    values = {"a": 0.5, "b": 0.7, "c": 0.8, "d": 0.6}
    assert simplest(values, {("c", "a"): UP, ("c", "b"): FLAT}) == "b"
    assert simplest(values, {("c", "a"): UP, ("c", "b"): UP}) == "c"
    assert simplest({"a": math.nan, "b": 0.2}, {}) == "b"
    assert simplest({"a": math.nan}, {}) is None
