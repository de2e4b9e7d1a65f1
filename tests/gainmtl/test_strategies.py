"""Strategies: their terms, and which terms are active in which epoch."""

from __future__ import annotations

import dataclasses

import pytest

from gainmtl.losses import LossWeights
from gainmtl.strategies import (
    FUSION_END,
    STAGINGS,
    STRATEGIES,
    TERMS,
    Strategy,
    Window,
    get_strategy,
    with_stages,
)

LETTERS = {
    "C": "classification",
    "G": "cam_guidance",
    "A": "attended_classification",
    "g": "guidance",
    "m": "mining",
    "l": "localization",
    "c": "consistency",
    "x": "counterfactual",
    "f": "fostering",
    "b": "attention_branch",
}
FULL = {
    "S1": {"C": 1.0},
    "S2": {"C": 1.0, "G": 0.3},
    "S3": {"C": 0.3, "G": 0.3, "A": 1.0, "g": 0.5, "m": 0.2},
    "S4": {"C": 0.3, "G": 0.3, "A": 1.0, "g": 0.5, "m": 0.2, "l": 1.0, "c": 0.2},
    "S5": {"C": 0.3, "G": 0.3, "A": 1.0, "g": 0.5, "m": 0.2, "l": 1.0, "c": 0.2, "x": 0.3},
}
FULL["S6"] = FULL["S5"]

# Terms on at the middle of each of ten epochs.
SCHEDULE = {
    "S1": ["C"] * 10,
    "S2": ["CG"] * 10,
    "S3": ["CGAg"] * 3 + ["CGAgm"] * 7,
    "S4": ["CGAgl"] * 3 + ["CGAgmlc"] * 7,
    "S5": ["CGAgl"] * 3 + ["CGAgmlc"] * 2 + ["CGAgmlcx"] * 5,
    "S6": ["CGAgl"] * 3 + ["CGAgmlc"] * 2 + ["CGAgmlcx"] * 5,
    "S2-no-cam-guidance": ["C"] * 10,
    "S5-no-classification": ["GAgl"] * 3 + ["GAgmlc"] * 2 + ["GAgmlcx"] * 5,
    "S5-no-cam-guidance": ["CAgl"] * 3 + ["CAgmlc"] * 2 + ["CAgmlcx"] * 5,
    "S5-no-attended-classification": ["CGgl"] * 3 + ["CGgmlc"] * 2 + ["CGgmlcx"] * 5,
    "S5-no-guidance": ["CGAl"] * 3 + ["CGAmlc"] * 2 + ["CGAmlcx"] * 5,
    "S5-no-mining": ["CGAgl"] * 3 + ["CGAglc"] * 2 + ["CGAglcx"] * 5,
    # Consistency needs both maps: it goes with the localization.
    "S5-no-localization": ["CGAg"] * 3 + ["CGAgm"] * 2 + ["CGAgmx"] * 5,
    "S5-no-consistency": ["CGAgl"] * 3 + ["CGAgml"] * 2 + ["CGAgmlx"] * 5,
    "S5-no-counterfactual": ["CGAgl"] * 3 + ["CGAgmlc"] * 7,
    "S5-no-mining-no-consistency": ["CGAgl"] * 5 + ["CGAglx"] * 5,
}


def test_every_term_has_a_letter() -> None:
    assert sorted(LETTERS.values()) == sorted(TERMS)


@pytest.mark.parametrize("name", FULL)
def test_weights(name: str) -> None:
    expected = {LETTERS[letter]: value for letter, value in FULL[name].items()}
    weights = get_strategy(name).weights.asdict()
    assert {term: value for term, value in weights.items() if value} == expected


@pytest.mark.parametrize("name", SCHEDULE)
def test_which_terms_are_active_in_which_epoch(name: str) -> None:
    strategy = get_strategy(name)
    assert strategy.name == name
    on = [set(strategy.weights_at((epoch + 0.5) / 10).active()) for epoch in range(10)]
    assert on == [{LETTERS[letter] for letter in letters} for letters in SCHEDULE[name]]


def test_the_localization_warms_up() -> None:
    strategy = get_strategy("S5")
    values = [strategy.weights_at(p).localization for p in (0.0, 0.05, 0.1, 0.2, 0.6, 1.0)]
    assert values == pytest.approx([0.0, 0.25, 0.5, 1.0, 1.0, 1.0])


def test_terms_reach_their_full_weight() -> None:
    for name in SCHEDULE:
        strategy = get_strategy(name)
        assert strategy.weights_at(1.0) == strategy.weights


def test_without_stages_every_term_is_active_from_the_start() -> None:
    strategy = dataclasses.replace(get_strategy("S5"), staged=False)
    assert strategy.weights_at(0.0) == strategy.weights


def test_parts() -> None:
    parts = {
        name: (s.has_calibration, s.has_attention, s.has_attended_head, s.has_localization)
        for name, s in STRATEGIES.items()
    }
    assert parts == {
        "S1": (False, False, False, False),
        "S2": (True, False, False, False),
        "S3": (True, True, True, False),
        "S4": (True, True, True, True),
        "S5": (True, True, True, True),
        "S6": (True, True, True, True),
    }
    untaught = get_strategy("S5-no-attended-classification")
    assert (untaught.has_attention, untaught.has_attended_head) == (True, False)


def test_only_s6_has_mask_fusion_and_it_falls_to_zero() -> None:
    fusion = get_strategy("S6").fusion_at
    shares = [fusion(p) for p in (0.0, FUSION_END / 2, FUSION_END, 1.0)]
    assert shares == pytest.approx([0.5, 0.25, 0.0, 0.0])
    for name in ("S1", "S2", "S3", "S4", "S5"):
        assert get_strategy(name).fusion_at(0.0) == 0


def test_a_strategy_object_is_returned_unchanged() -> None:
    own = Strategy("own", LossWeights(classification=1.0))
    assert get_strategy(own) is own


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("S7", "expected one of .*S1.*, got 'S7'"),
        ("s5", "got 's5'"),
        ("S5-no-minning", "S5 has no term 'minning' to leave out; it has .*'mining'"),
        ("S1-no-mining", "S1 has no term 'mining'"),
        ("S5-no-mining-no-mining", "no term 'mining'"),
        ("S1-no-classification", "every loss weight is 0"),
    ],
)
def test_unknown_names(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        get_strategy(name)


def test_impossible_strategies() -> None:
    with pytest.raises(ValueError, match="every loss weight is 0"):
        Strategy("none", LossWeights())
    with pytest.raises(ValueError, match=r"expected terms among .*, got \['minning'\]"):
        Strategy("typo", LossWeights(classification=1), windows=(("minning", Window(0.5)),))
    with pytest.raises(ValueError, match="consistency compares attention with localization"):
        Strategy("alone", LossWeights(classification=1, consistency=0.2))


@pytest.mark.parametrize(("start", "warm_up"), [(-0.1, 0), (1.0, 0), (0.5, 0.6), (0.0, -0.1)])
def test_impossible_windows(start: float, warm_up: float) -> None:
    with pytest.raises(ValueError, match="0 <= start < 1 and start"):
        Window(start, warm_up)


def test_window_by_hand() -> None:
    window = Window(0.2, 0.4)
    factors = [window.factor(p) for p in (0.0, 0.19, 0.2, 0.4, 0.6, 1.0)]
    assert factors == pytest.approx([0, 0, 0, 0.5, 1, 1])
    assert Window(0.3).factor(0.3) == 1


# Other orders of the same terms


@pytest.mark.parametrize("staging", STAGINGS)
def test_every_plan_has_the_same_terms_and_weights(staging: str) -> None:
    plan = with_stages("S5", staging)
    assert plan.weights == get_strategy("S5").weights
    assert plan.weights_at(1.0) == plan.weights
    # From half of the run on every plan is complete, so that conflicts can be compared there.
    assert plan.weights_at(0.5) == plan.weights


def test_unstaged_has_full_weights_from_the_first_step() -> None:
    plan = with_stages("S5", "unstaged")
    assert plan.name == "S5-unstaged"
    assert plan.weights_at(0.0) == plan.weights


def test_no_warm_up_has_the_same_starts() -> None:
    plan, staged = with_stages("S5", "no-warm-up"), get_strategy("S5")
    assert plan.weights_at(0.0).localization == staged.weights.localization
    assert staged.weights_at(0.0).localization == 0
    for progress in (0.29, 0.3, 0.49, 0.5):
        for term in ("mining", "consistency", "counterfactual"):
            own, other = plan.weights_at(progress), staged.weights_at(progress)
            assert getattr(own, term) == getattr(other, term)


def test_reversed_starts_with_the_last_term() -> None:
    """S5 has full weights at 0 (classifiers, guidance), .2 (localization), .3 (mining, consistency)
    and .5 (counterfactual)."""
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


def test_impossible_plans() -> None:
    with pytest.raises(ValueError, match="expected one of staged, unstaged"):
        with_stages("S5", "shuffled")
    with pytest.raises(ValueError, match="S1 has no stages"):
        with_stages("S1", "reversed")
