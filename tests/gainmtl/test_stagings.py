"""The same terms by another plan: when each enters, worked out by hand."""

from __future__ import annotations

import pytest

from gainmtl.stagings import STAGINGS, with_stages
from gainmtl.strategies import get_strategy


@pytest.mark.parametrize("staging", STAGINGS)
def test_terms_and_their_weights_stay(staging: str) -> None:
    plan = with_stages("S5", staging)
    assert plan.weights == get_strategy("S5").weights
    assert plan.weights_at(1.0) == plan.weights
    # From half of the run on every plan is complete, so that conflicts can be compared there.
    assert plan.weights_at(0.5) == plan.weights


def test_unstaged_has_everything_from_the_first_step() -> None:
    plan = with_stages("S5", "unstaged")
    assert plan.name == "S5-unstaged"
    assert plan.weights_at(0.0) == plan.weights


def test_without_warm_up_the_starts_stay() -> None:
    plan, staged = with_stages("S5", "no-warm-up"), get_strategy("S5")
    assert plan.weights_at(0.0).localization == staged.weights.localization
    assert staged.weights_at(0.0).localization == 0
    for progress in (0.29, 0.3, 0.49, 0.5):
        for term in ("mining", "consistency", "counterfactual"):
            own, other = plan.weights_at(progress), staged.weights_at(progress)
            assert getattr(own, term) == getattr(other, term)


def test_reversed_ends_with_what_came_first() -> None:
    """S5 is complete at 0 (verdicts, guidance), .2 (localization), .3 (mining, consistency), .5."""
    plan = with_stages("S5", "reversed")
    full = plan.weights

    def on(progress: float) -> set[str]:
        return {name for name, value in plan.weights_at(progress).asdict().items() if value > 0}

    assert on(0.05) == {"counterfactual"}
    assert on(0.19) == {"counterfactual", "localization"}  # rising from .1 to .3
    assert plan.weights_at(0.2).localization == pytest.approx(full.localization / 2)
    assert on(0.2) == {"counterfactual", "localization", "mining", "consistency"}
    assert on(0.49) == on(0.2)
    assert plan.weights_at(0.5).classification == full.classification


def test_plans_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="expected one of staged, unstaged"):
        with_stages("S5", "shuffled")
    with pytest.raises(ValueError, match="S1 has no stages"):
        with_stages("S1", "reversed")
