"""Crossings, paired differences and labelling time against values worked by hand."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from gainbook.chapters.ch02_contrast.crossing import (
    BANK,
    PROBE,
    Crossing,
    by_draw,
    cost_ratio,
    crossing,
    crossing_of,
    inspected,
    paired,
)
from gainbook.chapters.ch02_contrast.draws import BOARDS
from gainbook.chapters.ch02_contrast.labels import LABEL_TIMES, labelling_minutes
from gainbook.lab.seed_study import first_above
from gainbook.lab.tables import Value


def test_a_curve_reaches_a_level_between_its_points_on_a_log_axis() -> None:
    assert first_above({1: -1, 100: 1}) == pytest.approx(10)
    assert first_above({2: 0.5, 100: 1}) == 2
    assert first_above({1: -1, 10: math.nan, 100: 1}) == pytest.approx(10)
    assert math.isinf(first_above({1: -2, 100: -1}))


def test_the_ends_of_a_crossing_are_where_the_interval_s_ends_reach_zero() -> None:
    found = crossing_of([1, 100], [Value(-1, -3, 0.5), Value(1, -1, 3)])
    assert found == Crossing(pytest.approx(10), 1, math.inf, 1, 100)
    assert found.text() == "10 [1, more than 100]"
    late = crossing_of([5, 100], [Value(1, 0, 2), Value(1, 0, 2)])
    assert late.text() == "at most 5 [at most 5, at most 5]"


def test_the_probe_of_the_rows_crosses_the_bank_at_its_fourth_number(
    rows: dict[str, pd.DataFrame],
) -> None:
    found = crossing(rows[BOARDS], PROBE, BANK)
    assert found.parts == pytest.approx(10)
    assert found.low == pytest.approx(10)  # all draws have the same difference
    with pytest.raises(LookupError, match="no row of bank by number"):
        crossing(rows[BOARDS].iloc[:0], BANK, PROBE)


def test_differences_are_paired_by_draw(rows: dict[str, pd.DataFrame]) -> None:
    gap = paired(rows[BOARDS], BANK, PROBE, "recall", {"defects": 5})
    assert gap == pytest.approx((0.1, 0.1, 0.1, 3))
    assert by_draw(rows[BOARDS], PROBE, "recall", defects=5) == pytest.approx(
        {0: 0.39, 1: 0.4, 2: 0.41}
    )
    with pytest.raises(LookupError, match="no draw has recall of probe"):
        by_draw(rows[BOARDS], PROBE, "recall", defects=0)


def test_parts_to_look_at_until_both_kinds_are_found() -> None:
    assert inspected(0, 0.5, 100) == 200
    assert inspected(50, 0.5, 100) == 200  # they come with the normal ones
    assert inspected(200, 0.5, 100) == 400
    ratio = cost_ratio(Crossing(50, 10, math.inf, 1, 100), 0.1, 90)
    assert ratio[:3] == (5, 1, math.inf)


def test_minutes_of_labelling() -> None:
    assert labelling_minutes(10, rate=0.5, normals=10, seconds=6) == 2
    drawn = labelling_minutes(10, "mask", 0.5, 10, 6)
    assert drawn - 2 == pytest.approx(10 * LABEL_TIMES["mask"].seconds / 60)
