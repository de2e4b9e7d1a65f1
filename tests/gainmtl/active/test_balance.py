"""Budgets divided among classes: values by hand and brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from gainmtl import active
from gainmtl.active.balance import classes_of, fill_up, share_out


def test_fill_up_by_hand() -> None:
    assert fill_up([5, 1, 1], [9, 9, 9], 5).tolist() == [0, 3, 2]
    assert fill_up([5, 1, 1], [9, 1, 9], 5).tolist() == [0, 1, 4]


def test_fill_up_has_the_smallest_spread() -> None:
    labelled, available = np.array([4, 0, 2]), np.array([3, 2, 5])
    every = [
        q for q in itertools.product(range(4), range(3), range(6)) if sum(q) == 5
    ]  # all ways to take five
    best = min(float(np.var(labelled + np.array(q))) for q in every)
    taken = fill_up(labelled, available, 5)
    assert taken.sum() == 5
    assert (taken <= available).all()
    assert np.var(labelled + taken) == pytest.approx(best)


def test_share_out_by_hand() -> None:
    # quotients of 6: 6, 2, 1.2; of 3: 3, 1; of 1: 1 -> the four largest are 6, 3, 2, 1.2
    assert share_out([6, 3, 1], [9, 9, 9], 4).tolist() == [3, 1, 0]
    assert share_out([6, 3, 1], [1, 9, 9], 4).tolist() == [1, 2, 1]
    assert share_out([1.0, 0.0], [1, 3], 3).tolist() == [1, 2]


def test_share_out_is_proportional_where_that_is_possible() -> None:
    need = np.array([5, 3, 2])
    assert share_out(need / 7, [99, 99, 99], 20).tolist() == (2 * need).tolist()


def test_uniform_is_a_set_of_rows_and_every_row_is_equally_likely() -> None:
    counts = np.zeros(6)
    for seed in range(3000):
        rows = active.uniform(6, 2, np.random.default_rng(seed))
        assert len(set(rows.tolist())) == 2
        counts[rows] += 1
    # binomial(3000, 1/3): standard deviation 26
    assert np.abs(counts - 1000).max() < 110


def test_class_balanced_evens_out_the_labels() -> None:
    predicted = np.array([0] * 90 + [1] * 8 + [2] * 2)
    labelled = [0] * 6 + [1]
    rows = active.class_balanced(predicted, labelled, 3, 10, np.random.default_rng(0))
    assert len(set(rows.tolist())) == 10
    # 6, 1, 0 labels; two images of class 2 are all there are; class 1 gets as many as 0 then has
    assert np.bincount(predicted[rows], minlength=3).tolist() == [2, 6, 2]


def test_highest_by_class_follows_the_class_means() -> None:
    scores = [0.2, 0.4, 0.3, 0.9, 0.6, 0.0]
    predicted = [0, 0, 0, 1, 1, 1]
    # means 0.3 and 0.5; quotients 0.5, 0.3, 0.5/3: two of class 1 and one of class 0
    rows = active.highest_by_class(scores, predicted, 3, 3)
    assert rows.tolist() == [1, 3, 4]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: share_out([-1.0, 1], [1, 1], 1), "need: expected"),
        (lambda: fill_up([0, 0], [1, 1], 3), "budget: expected 0 to 2"),
        (lambda: active.highest_by_class([0.1], [2], 2, 1), "from 0 to 1"),
        (lambda: active.highest_by_class([np.nan], [0], 2, 1), "at least 0"),
        (lambda: active.uniform(2, 3, np.random.default_rng(0)), "budget"),
    ],
)
def test_impossible_input_is_explained(call, words) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=words):
        call()


def test_fractions_are_no_classes() -> None:
    with pytest.raises(ValueError, match="expected whole class numbers"):
        classes_of([0.2, 0.9, 1.7], 2)
