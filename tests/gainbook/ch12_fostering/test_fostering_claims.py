"""The criteria of chapter 12, each verdict from figures that must give it."""

from __future__ import annotations

import pandas as pd
import pytest
from gainbook.chapters.ch12_fostering import fostering_claims as claims
from gainbook.chapters.ch12_fostering.fostered import fostered
from gainbook.lab import results_file as runs
from gainbook.lab.tables import Value


def value(middle: float, half: float = 0.05) -> Value:
    return Value(middle, middle - half, middle + half, 10)


def test_beta_is_the_largest_that_keeps_validation() -> None:
    sweep = {beta: fostered(beta) for beta in (0.0, 0.3, 1.0, 3.0)}
    found = dict(zip(sweep, (0.90, 0.95, 0.895, 0.85), strict=True))
    rows = pd.DataFrame(
        [
            runs.row(
                "set", s.name, "validation_auroc", found[b], split="val", condition=s.condition
            )
            for b, s in sweep.items()
        ]
    )
    assert claims.choose_beta(rows, sweep) == 1.0
    assert claims.choose_beta(rows, {0.0: sweep[0.0], 3.0: sweep[3.0]}) == 0.0
    with pytest.raises(LookupError, match="expected one validation AUROC of S1-fostered-ce1"):
        claims.choose_beta(rows[rows["value"] != 0.895], sweep)


@pytest.mark.parametrize(
    ("area", "dispersion", "relative", "verdict"),
    [
        (value(0.7), value(7), value(4), "confirmed"),
        (value(0.7), value(3), value(4), "refined"),
        (value(0.9), value(7), value(4), "refined"),
        (value(0.7), value(7), value(1), "refined"),
        (value(0.98), value(7), value(4), "refined"),  # holds 1: neither shown nor excluded
        (value(1.2), value(7), value(4), "refuted"),
        (value(1.2), value(0.9), value(4), "refuted"),
    ],
)
def test_size(area: Value, dispersion: Value, relative: Value, verdict: str) -> None:
    assert claims.judge_size(area, dispersion, relative).verdict == verdict


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
    assert claims.judge_cost(*figures).verdict == verdict


@pytest.mark.parametrize(("middle", "verdict"), [(0.2, "confirmed"), (-0.2, "refuted")])
def test_weak(middle: float, verdict: str) -> None:
    assert claims.judge_weak(value(middle)).verdict == verdict
    assert claims.judge_weak(value(0.0)).verdict == "refined"


def test_weak_feature() -> None:
    up, down, level = value(0.1), value(-0.1), value(0.0)
    assert claims.judge_weak_feature(up, up, up).verdict == "confirmed"
    assert claims.judge_weak_feature(up, level, up).verdict == "refined"
    assert claims.judge_weak_feature(up, up, down).verdict == "refuted"
    assert claims.judge_weak_feature(down, up, up).verdict == "refuted"
    assert claims.judge_weak_feature(level, down, level).verdict == "refined"


def test_different() -> None:
    for sizes, verdict in (
        ((0.1, -0.2, 0.4), "confirmed"), ((0.95, -0.99, 0.9), "refuted"),
        ((0.99, 0.3, 0.4), "refined"),
    ):  # fmt: skip
        correlations = {str(k): value(size) for k, size in enumerate(sizes)}
        assert claims.judge_different(correlations).verdict == verdict


def test_accuracy() -> None:
    small, lost, gained = value(-0.001, 0.005), value(-0.1, 0.02), value(0.05, 0.02)
    assert claims.judge_accuracy({0.3: small, 3.0: lost}, 0.3).verdict == "confirmed"
    assert claims.judge_accuracy({0.3: small, 3.0: small}, 0.3).verdict == "refined"
    assert claims.judge_accuracy({0.3: gained, 3.0: lost}, 0.3).verdict == "refuted"
    assert claims.judge_accuracy({0.3: lost, 3.0: lost}, 0.3).verdict == "refuted"
    assert claims.judge_accuracy({0.3: lost, 3.0: lost}, 0.0).verdict == "confirmed"


def test_expensive_and_branch() -> None:
    for times, verdict in (
        ((1.5, 1.0), "confirmed"),
        ((1.0, 1.04), "refuted"),
        ((1.2, 1), "refined"),
    ):
        assert claims.judge_expensive(*times).verdict == verdict
    level = value(0.0, 0.01)
    assert claims.judge_branch(value(0.1), level).verdict == "confirmed"
    assert claims.judge_branch(value(0.1), value(-0.1, 0.01)).verdict == "refined"
    assert claims.judge_branch(value(-0.1), level).verdict == "refuted"


def test_targets() -> None:
    met = claims.targets(value(0.6), value(7), value(-0.005), value(0.0), value(-0.2))
    assert [ok for _, ok in met.values()] == [True, True, True, True, False]
