"""The criteria of chapter 12, every verdict from figures that must give it."""

from __future__ import annotations

import pytest
from gainbook.chapters.ch12_fostering import criteria
from gainbook.lab.tables import Value


def value(middle: float, half: float = 0.05) -> Value:
    return Value(middle, middle - half, middle + half, 10)


def test_beta_is_the_largest_that_keeps_validation() -> None:
    validation = dict(zip((0.0, 0.3, 1.0, 3.0), (0.90, 0.95, 0.895, 0.85), strict=True))
    assert criteria.choose_beta(validation) == 1.0
    assert criteria.choose_beta({0.0: 0.9, 3.0: 0.85}) == 0.0


@pytest.mark.parametrize(
    ("area", "dispersion", "relative", "verdict"),
    [
        (value(0.7), value(7), value(4), "confirmed"),
        (value(0.7), value(3), value(4), "refined"),  # grows, but not by six
        (value(0.9), value(7), value(4), "refined"),  # falls, but not by a fifth
        (value(0.98), value(7), value(4), "refined"),  # whether it falls is open
        (value(0.98, 0.3), value(7), value(4), "undecided"),
        (value(0.7), value(7), value(1), "undecided"),  # a formula of ours excludes nothing
        (value(1.2), value(7), value(4), "refined"),
        (value(1.2), value(0.9), value(4), "refuted"),
        (value(1.2), value(0.9), value(1), "refuted"),
    ],
)
def test_size(area: Value, dispersion: Value, relative: Value, verdict: str) -> None:
    assert criteria.judge_size(area, dispersion, relative).verdict == verdict


@pytest.mark.parametrize(
    ("figures", "verdict"),
    [
        ((1e-7, 1.02, 1.8), "refined"),
        ((1e-7, 1.02, 1.03), "refuted"),
        ((1e-7, 1.5, 1.8), "confirmed"),
        ((1e-3, 1.0, 1.0), "confirmed"),
    ],
)
def test_cost(figures: tuple[float, float, float], verdict: str) -> None:
    assert criteria.judge_cost(*figures).verdict == verdict


@pytest.mark.parametrize(
    ("middle", "verdict"),
    [(0.2, "confirmed"), (-0.2, "refuted"), (0.0, "undecided"), (-0.04, "refuted")],
)
def test_weak(middle: float, verdict: str) -> None:
    assert criteria.judge_weak(value(middle)).verdict == verdict


def test_weak_feature() -> None:
    up, down, level = value(0.1), value(-0.1), value(0.0)
    for figures, verdict in (
        ((up, up, up), "confirmed"),
        ((up, level, up), "undecided"),
        ((up, up, down), "refined"),
        ((level, down, level), "refuted"),
        ((down, down, down), "refuted"),
    ):
        assert criteria.judge_weak_feature(*figures).verdict == verdict


def test_different() -> None:
    for sizes, verdict in (
        ((0.1, -0.2, 0.4), "confirmed"),
        ((0.95, -0.99, 0.97), "refuted"),
        ((0.99, 0.3, 0.4), "refined"),
        ((0.99, 0.7, -0.8), "refined"),  # none is different, two are not alike
        ((0.51, 0.3, 0.4), "undecided"),
    ):
        correlations = {str(k): value(size) for k, size in enumerate(sizes)}
        assert criteria.judge_different(correlations).verdict == verdict


def test_accuracy() -> None:
    small, lost, gained = value(-0.001, 0.005), value(-0.1, 0.02), value(0.05, 0.02)
    wide = value(-0.02, 0.03)
    for differences, chosen, verdict in (
        ({0.3: small, 3.0: lost}, 0.3, "confirmed"),
        ({0.3: small, 3.0: small}, 0.3, "refined"),  # the largest loses next to nothing
        ({0.3: small, 3.0: wide}, 0.3, "undecided"),
        ({0.3: gained, 3.0: lost}, 0.3, "refined"),  # one gains, and the chosen one is that
        ({0.3: lost, 3.0: lost}, 0.3, "refined"),  # best at 0, but the chosen one loses much
        ({0.3: lost, 3.0: gained}, 0.3, "refuted"),
        ({0.3: lost, 3.0: lost}, 0.0, "confirmed"),
    ):
        assert criteria.judge_accuracy(differences, chosen).verdict == verdict


def test_expensive_and_branch() -> None:
    for times, verdict in (
        ((1.5, 1.0), "confirmed"),
        ((1.0, 1.04), "refuted"),
        ((1.2, 1), "refined"),
    ):
        assert criteria.judge_expensive(*times).verdict == verdict
    level = value(0.0, 0.01)
    for energy, auroc, verdict in (
        (value(0.1), level, "confirmed"),
        (value(0.1), value(-0.1, 0.01), "refined"),
        (value(-0.1), level, "refuted"),
        (value(0.0), level, "undecided"),
        (value(0.1), value(-0.02, 0.01), "undecided"),
    ):
        assert criteria.judge_branch(energy, auroc).verdict == verdict


def test_targets() -> None:
    met = criteria.targets(value(0.6), value(7), value(-0.005), value(0.0), value(-0.2))
    assert [ok for _, ok in met.values()] == [True, True, True, True, False]
