"""The selection rule by hand, against brute force and numpy; reading of candidate tables."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from gainbook.lab.selection import (
    AXES,
    DOMINANCE,
    fit_trend,
    is_dominated,
    read_candidates,
    resampled_wins,
    select,
)


def table(*rows: tuple[str, float, float], **more: object) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["name", "accuracy", "cost"]).assign(**more)


FOUR = table(("A", 80, 10), ("B", 84, 20), ("C", 85, 40), ("D", 83, 30))


def test_four_models_by_hand() -> None:
    """B dominates D. Through A, B, C: mean (70/3, 83), slope 70 / (1400/3) = 0.15."""
    choice = select(FOUR)
    assert choice.front["name"].tolist() == ["A", "B", "C"]
    assert choice.trend.slope == pytest.approx(0.15)
    assert choice.trend.intercept == pytest.approx(79.5)
    assert choice.front["residual"].tolist() == pytest.approx([-1, 1.5, -0.5])
    assert choice.winner == "B"
    assert choice.margin == pytest.approx(2)


def brute_force(accuracy: np.ndarray, cost: np.ndarray, dominance: str) -> list[bool]:
    found = []
    for a, c in zip(accuracy, cost, strict=True):
        others = list(zip(accuracy, cost, strict=True))
        if dominance == "strict":
            found.append(any(x > a and y < c for x, y in others))
        else:
            found.append(any(x >= a and y <= c and (x > a or y < c) for x, y in others))
    return found


@pytest.mark.parametrize("dominance", DOMINANCE)
def test_dominance_is_that_of_all_pairs(dominance: str) -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):  # few values, so that ties are frequent
        accuracy, cost = generator.integers(0, 6, (2, 12)).astype(float)
        assert is_dominated(accuracy, cost, dominance).tolist() == brute_force(
            accuracy, cost, dominance
        )


def test_strict_dominance_keeps_a_tie_that_weak_dominance_drops() -> None:
    accuracy, cost = [85.0, 83.0], [20.0, 20.0]
    assert is_dominated(accuracy, cost, "strict").tolist() == [False, False]
    assert is_dominated(accuracy, cost, "weak").tolist() == [False, True]


@pytest.mark.parametrize("axis", AXES)
def test_trend_is_numpy_s(axis: str) -> None:
    generator = np.random.default_rng(1)
    cost, accuracy = generator.uniform(1, 100, 9), generator.uniform(80, 90, 9)
    trend = fit_trend(accuracy, cost, axis)
    slope, intercept = np.polyfit(np.log10(cost) if axis == "log" else cost, accuracy, 1)
    assert (trend.slope, trend.intercept) == pytest.approx((slope, intercept))
    assert (accuracy - trend.at(cost)).sum() == pytest.approx(0, abs=1e-9)


def test_the_perpendicular_distance_and_other_units_pick_the_same() -> None:
    generator = np.random.default_rng(2)
    for _ in range(30):
        given = pd.DataFrame({"accuracy": generator.uniform(80, 90, 9)})
        given = given.assign(name=list("abcdefghi"), cost=generator.uniform(1, 100, 9))
        choice = select(given)
        scaled = given.assign(accuracy=3 * given["accuracy"] - 7, cost=1e6 * given["cost"])
        assert select(scaled).winner == choice.winner
        front, (_, slope, _) = choice.front, choice.trend
        distance = (front["accuracy"] - choice.trend.at(front["cost"])) / math.hypot(1, slope)
        if choice.winner is not None:
            assert front["name"][distance.idxmax()] == choice.winner


def test_the_loop_removes_winners_that_cannot_be_used() -> None:
    given = FOUR.assign(usable=[True, False, True, True])
    choice = select(given)  # without B the front is A, D, C
    assert choice.rejected == ("B",)
    assert choice.front["residual"].tolist() == pytest.approx([1 / 14, -3 / 14, 1 / 7])
    assert choice.winner == "C"
    nobody = select(FOUR.assign(usable=False))  # A and D, the last two, tie
    assert (nobody.winner, nobody.tied) == (None, ())
    assert nobody.rejected == ("B", "C", "A", "D")


def test_a_tie_loses_those_that_cannot_be_used() -> None:
    """B and its twin E lie equally high; once E is gone B is alone there."""
    given = pd.concat([FOUR, table(("E", 84, 20))], ignore_index=True)
    assert select(given).tied == ("B", "E")
    choice = select(given.assign(usable=given["name"] != "E"))
    assert (choice.winner, choice.rejected, choice.tied) == ("B", ("E",), ())


def test_two_on_the_front_tie_and_one_wins() -> None:
    two = select(table(("A", 80, 10), ("B", 84, 20)))
    assert (two.winner, set(two.tied)) == (None, {"A", "B"})
    assert math.isnan(two.margin)
    one = select(table(("A", 80, 10), ("B", 70, 20)))
    assert (one.winner, one.tied) == ("A", ())
    assert math.isnan(one.margin)


def test_equal_costs_have_a_level_line() -> None:
    choice = select(table(("A", 80, 10), ("B", 84, 10)))
    assert (choice.winner, choice.trend.slope, choice.trend.intercept) == ("B", 0.0, 82.0)


@pytest.mark.parametrize(
    ("given", "arguments", "words"),
    [
        (FOUR[:0], {}, "at least one candidate"),
        (FOUR.assign(cost=[0, 1, 2, 3]), {}, "costs > 0"),
        (FOUR, {"axis": "square"}, "axis: expected one of linear, log, got 'square'"),
        (FOUR, {"dominance": "some"}, "dominance: expected one of strict, weak, got 'some'"),
    ],
)
def test_impossible_arguments(given: pd.DataFrame, arguments: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        select(given, **arguments)


def test_resampled_wins() -> None:
    """One that is better than all others in both wins every list that it is in."""
    clear = pd.concat([FOUR, table(("E", 90, 5))], ignore_index=True)
    shares = resampled_wins(clear, resamples=200)
    assert shares.index[0] == "E"
    assert shares["E"] == 1
    assert shares.between(0, 1).all()
    assert resampled_wins(clear, resamples=50, seed=3).equals(
        resampled_wins(clear, resamples=50, seed=3)
    )
    noisy = resampled_wins(clear, resamples=200, error=20.0)
    assert 0 < noisy["E"] < 1


def test_the_share_counts_the_lists_that_hold_the_name() -> None:
    """Of A and B, each list that holds both is a tie, so a name wins only alone: P = 1/3 of those
    that contain it (1/4 of all lists against 3/4)."""
    shares = resampled_wins(table(("A", 80, 10), ("B", 84, 20)), resamples=4000)
    assert shares.to_dict() == pytest.approx({"A": 1 / 3, "B": 1 / 3}, abs=0.03)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_table_is_read(tmp_path: Path) -> None:
    text = "name, accuracy, cost, usable, maker\nA, 80, 10, yes, x\nB, 84.5, 2e1, No, y\n"
    found = read_candidates(write(tmp_path / "own.csv", text))
    assert found["usable"].tolist() == [True, False]
    assert found["cost"].tolist() == [10, 20]
    assert found["maker"].tolist() == ["x", "y"]
    assert (select(found).winner, select(found).rejected) == ("A", ("B",))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,top1,cost\nA,80,10\n", "found name, top1, cost, without accuracy"),
        ("name,accuracy,cost\nA,80,10\nB,high,20\n", "column accuracy: .*line 3: 'high'"),
        ("name,accuracy,cost\nA,80,0\n", "column cost: expected a number > 0, found line 2: '0'"),
        ("name,accuracy,cost\nA,80,inf\n", "column cost"),
        ("name,accuracy,cost\nA,80,\n", "column cost: .*line 2: ''"),
        ("name,accuracy,cost\n", "a header alone"),
        ("", "can't be read"),
        ("name,accuracy,cost\nA,80,1\nA,81,2\n", "column name: .*once, found line 3: 'A'"),
        ("name,accuracy,cost,usable\nA,80,1,maybe\n", "column usable: expected yes or no"),
    ],
)
def test_a_bad_table_is_one_message(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as error:
        read_candidates(write(tmp_path / "own.csv", text))
    assert "own.csv" in str(error.value)
    assert str(tmp_path) not in str(error.value)


def test_a_missing_table(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="found no file own.csv"):
        read_candidates(tmp_path / "own.csv")
