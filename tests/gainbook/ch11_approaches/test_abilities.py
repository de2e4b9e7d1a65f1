"""The cells of the table of ticks, and what follows from them."""

from __future__ import annotations

import math

import pytest
from gainbook.chapters.ch11_approaches.abilities import ABILITIES, able, only, reaches, sides
from gainbook.lab.judge import Part
from gainbook.lab.tables import Value


def value(low: float, high: float) -> Value:
    return Value((low + high) / 2, low, high, 10)


@pytest.mark.parametrize(
    ("difference", "absolute", "expected"),
    [
        (value(-0.05, 0.2), None, True),
        (value(-0.3, -0.15), None, False),
        (value(-0.3, 0.1), None, None),
        (None, None, True),  # the credited system itself
        (None, value(0.1, 0.3), True),
        (None, value(-0.1, 0.3), None),
        (value(0.0, 0.2), value(-0.2, 0.0), False),  # level with a system that is not able
        (value(-0.3, -0.15), value(0.1, 0.3), False),
        (value(math.nan, math.nan), None, None),
    ],
)
def test_able(difference: Value | None, absolute: Value | None, expected: Part) -> None:
    assert able(difference, 0.1, absolute) is expected


@pytest.mark.parametrize(
    ("own", "other", "expected"),
    [
        (True, False, True),
        (True, True, False),
        (False, False, False),
        (True, None, None),
        (None, False, None),
    ],
)
def test_only_the_integrated(own: Part, other: Part, expected: Part) -> None:
    able_all: dict[str, Part] = dict.fromkeys(ABILITIES, True)
    cells = {
        "one": {**able_all, "verifies": own},
        "two": {**able_all, "explains": other},
        "three": dict.fromkeys(ABILITIES, False),
    }
    assert only(cells, "one") is expected  # type: ignore[arg-type]


def test_sides() -> None:
    given = {"a": value(0.1, 0.2), "b": value(-0.2, -0.1), "c": value(-1, 1)}
    assert sides(given) == {"first": ["a"], "second": ["b"], "open": ["c"]}
    undefined = sides({"d": value(math.nan, math.nan)})
    assert undefined["open"] == ["d"]


def test_a_target_is_reached_where_no_other_system_is_ahead() -> None:
    behind, near, ahead = value(-0.2, -0.1), value(-0.03, 0.05), value(0.03, 0.1)
    assert reaches({"a": behind}, 0.02) == ("reached for certain", [])
    assert reaches({"a": behind, "b": near}, 0.02) == ("reached", [])
    assert reaches({"a": behind, "b": near}) == ("open", ["b"])
    assert reaches({"a": behind, "b": near, "c": ahead}, 0.02) == ("missed", ["c"])
    undefined = value(math.nan, math.nan)
    assert reaches({"a": undefined}) == ("open", [])
    assert reaches({"a": undefined, "b": behind}) == ("reached for certain", [])
