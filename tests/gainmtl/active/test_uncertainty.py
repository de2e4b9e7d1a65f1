"""Uncertainty scores: values by hand, SciPy, and bounds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from gainmtl import active
from gainmtl.active.uncertainty import highest


@pytest.fixture
def probabilities() -> np.ndarray:
    return np.random.default_rng(0).dirichlet(np.full(4, 0.5), 50)


def test_entropy_by_hand_and_by_scipy(probabilities: np.ndarray) -> None:
    assert active.entropy([[0.5, 0.5], [1, 0]]) == pytest.approx([np.log(2), 0])
    assert active.entropy(probabilities) == pytest.approx(stats.entropy(probabilities, axis=1))
    assert active.entropy(np.full((1, 4), 0.25)) == pytest.approx(np.log(4))


def test_margin_by_hand() -> None:
    # 0.6 - 0.3 = 0.3, and a tie has no margin
    assert active.margin([[0.6, 0.3, 0.1], [0.4, 0.4, 0.2]]) == pytest.approx([0.7, 1])


def test_bald_by_hand(probabilities: np.ndarray) -> None:
    certain_but_apart = [[[1.0, 0.0]], [[0.0, 1.0]]]
    both_undecided = [[[0.5, 0.5]], [[0.5, 0.5]]]
    assert active.bald(certain_but_apart) == pytest.approx([np.log(2)])
    assert active.bald(both_undecided) == pytest.approx([0])
    assert active.bald(probabilities[None]) == pytest.approx(np.zeros(50), abs=1e-12)


def test_bald_is_the_mean_divergence_from_the_mean(probabilities: np.ndarray) -> None:
    samples = probabilities.reshape(5, 10, 4)
    mean = samples.mean(0)
    brute = [np.mean([stats.entropy(samples[t, i], mean[i]) for t in range(5)]) for i in range(10)]
    assert active.bald(samples) == pytest.approx(brute)


def test_highest_takes_the_first_of_ties() -> None:
    assert highest([0.1, 0.9, 0.5, 0.9], 3).tolist() == [1, 3, 2]
    assert highest([0.1], 0).tolist() == []


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: active.entropy([0.5, 0.5]), "expected probabilities \\(N, K\\)"),
        (lambda: active.entropy([[2.0, 1.0]]), "apply softmax first"),
        (lambda: active.margin([[1.0]]), "at least two classes"),
        (lambda: active.bald([[0.5, 0.5]]), "expected probabilities \\(T, N, K\\)"),
        (lambda: highest([0.1, np.nan], 1), "1 NaN"),
        (lambda: highest([0.1, 0.2], 3), "budget: expected 0 to 2"),
    ],
)
def test_impossible_input_is_explained(call, words) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=words):
        call()
