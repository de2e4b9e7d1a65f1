"""One meaning of each verdict word: parts are shown, excluded or open, and what follows of them."""

from __future__ import annotations

import itertools
import math

import pytest
from gainbook.lab.judge import (
    CONFIRMED,
    MEANING,
    NOT_RUN,
    REFINED,
    REFUTED,
    UNDECIDED,
    Part,
    all_of,
    any_of,
    falls,
    gains,
    keeps,
    verdict,
)
from gainbook.lab.tables import Value

PARTS: tuple[Part, ...] = (True, None, False)


def interval(low: float, high: float) -> Value:
    return Value((low + high) / 2, low, high, 10)


@pytest.mark.parametrize(
    ("low", "high", "part"),
    [
        (0.01, 0.30, True),
        (0.001, 0.015, True),  # shown, however small
        (-0.01, 0.03, None),  # may be as large as 0.02
        (-0.01, 0.015, False),  # too small to be interesting
        (-0.30, -0.10, False),
        (0.0, 0.1, None),  # touches zero
        (math.nan, math.nan, None),
    ],
)
def test_a_gain_is_shown_excluded_or_open(low: float, high: float, part: Part) -> None:
    assert gains(interval(low, high), 0.02) is part
    assert falls(interval(-high, -low), 0.02) is part


@pytest.mark.parametrize(
    ("low", "high", "part"),
    [(-0.01, 0.1, True), (-0.05, 0.01, None), (-0.09, -0.03, False), (math.nan, 0.0, None)],
)
def test_a_loss_within_the_margin_is_kept(low: float, high: float, part: Part) -> None:
    assert keeps(interval(low, high), 0.02) is part


def test_combinations_follow_three_valued_logic() -> None:
    for a, b in itertools.product(PARTS, repeat=2):
        assert all_of([a, b]) is (False if False in (a, b) else None if None in (a, b) else True)
        assert any_of([a, b]) is (True if True in (a, b) else None if None in (a, b) else False)


@pytest.mark.parametrize(
    ("claimed", "conditions", "partly", "word"),
    [
        ([True, True], [True], [], CONFIRMED),
        ([True, None], [], [], UNDECIDED),
        ([True], [None], [], UNDECIDED),
        ([None], [None], [], UNDECIDED),
        ([True, False], [], [], REFINED),
        ([True], [False], [], REFINED),
        ([False, None], [True], [], REFUTED),
        ([False], [True], [], REFUTED),  # a kept accuracy alone is no part of the claim
        ([None], [False], [], REFUTED),
        ([False], [], [True], REFINED),
        ([False], [], [None], REFUTED),
    ],
)
def test_the_word_for_a_claim(
    claimed: list[Part], conditions: list[Part], partly: list[Part], word: str
) -> None:
    assert verdict(claimed, conditions, partly) == word


def test_no_open_part_confirms_or_refutes_alone() -> None:
    for parts in itertools.product(PARTS, repeat=3):
        word = verdict(parts[:2], parts[2:])
        assert (word == CONFIRMED) == (set(parts) == {True})
        assert (word == UNDECIDED) == (None in parts and False not in parts)
    assert set(MEANING) == {CONFIRMED, REFUTED, REFINED, UNDECIDED, NOT_RUN}
