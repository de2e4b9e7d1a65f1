"""The criteria decide as they were written."""

from __future__ import annotations

import math

import pytest
from gainbook.chapters.ch11_approaches.approach_claims import (
    ABILITIES,
    NO,
    OPEN,
    YES,
    able,
    judge_level,
    judge_only,
    judge_together,
    sides,
)
from gainbook.lab.tables import Value


def value(low: float, high: float) -> Value:
    return Value((low + high) / 2, low, high, 10)


@pytest.mark.parametrize(
    ("difference", "own", "expected"),
    [
        (value(-0.05, 0.2), None, YES),
        (value(-0.3, -0.15), None, NO),
        (value(-0.3, 0.1), None, OPEN),
        (None, None, YES),  # the credited system itself
        (None, value(0.1, 0.3), YES),
        (None, value(-0.1, 0.3), OPEN),
        (value(0.0, 0.2), value(-0.2, 0.0), NO),  # as good as one that can't
        (value(-0.3, -0.15), value(0.1, 0.3), NO),
        (value(math.nan, math.nan), None, OPEN),
    ],
)
def test_able(difference: Value | None, own: Value | None, expected: str) -> None:
    assert able(difference, 0.1, own) == expected


def table(own: str, other: str) -> dict[str, dict[str, str]]:
    able_all = dict.fromkeys(ABILITIES, YES)
    return {
        "one": {**able_all, "verifies": own},
        "two": {**able_all, "explains": other},
        "three": dict.fromkeys(ABILITIES, NO),
    }


@pytest.mark.parametrize(
    ("own", "other", "expected"),
    [
        (YES, NO, "confirmed"),
        (YES, YES, "refuted"),
        (NO, NO, "refuted"),
        (YES, OPEN, "refined"),
        (OPEN, NO, "refined"),
    ],
)
def test_only_the_integrated(own: str, other: str, expected: str) -> None:
    assert judge_only(table(own, other), "one") == expected


def test_together() -> None:
    better, worse = value(0.01, 0.1), value(-0.1, 0.02)
    assert judge_together(better, better).verdict == "confirmed"
    assert judge_together(better, worse).verdict == "refined"
    assert judge_together(worse, worse).verdict == "refuted"


def test_sides() -> None:
    given = {"a": value(0.1, 0.2), "b": value(-0.2, -0.1), "c": value(-1, 1)}
    assert sides(given) == {"first": ["a"], "second": ["b"], "open": ["c"]}
    undefined = sides({"d": value(math.nan, math.nan)})
    assert undefined["open"] == ["d"]


def test_level() -> None:
    behind, near, ahead = value(-0.2, -0.1), value(-0.03, 0.05), value(0.03, 0.1)
    assert judge_level({"a": behind}, 0.02) == ("reached for certain", [])
    assert judge_level({"a": behind, "b": near}, 0.02) == ("reached", [])
    assert judge_level({"a": behind, "b": near}) == ("open", ["b"])
    assert judge_level({"a": behind, "b": near, "c": ahead}, 0.02) == ("missed", ["c"])
    undefined = value(math.nan, math.nan)
    assert judge_level({"a": undefined}) == ("open", [])
    assert judge_level({"a": undefined, "b": behind}) == ("reached for certain", [])
