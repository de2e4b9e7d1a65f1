"""Claims C1 to C7 from result rows: rows in, verdicts out."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from gainbook.chapters.ch12_fostering import claims
from gainbook.chapters.ch12_fostering.branch_rounds import METRIC, stored_rounds
from gainbook.chapters.ch12_fostering.sharpness import SHAPE_PAIRS
from gainbook.chapters.ch12_fostering.study import STUDY
from gainbook.chapters.ch12_fostering.systems import BETAS, branch, fostered_branch
from gainbook.lab.results_file import row
from gainbook.lab.study import judge
from gainbook.lab.systems import System
from gainbook.lab.tables import pooled_row

from gainmtl.evaluation.stats import Interval

BASE = claims.SWEEP[0.0]


def figure(system: System, metric: str, value: float, map: str | None = None, **about: Any) -> Any:
    interval = Interval(value, value - 0.01, value + 0.01, 9, 0)
    return pooled_row("magnetic-tile", system, metric, interval, map, **about)


def sweep_rows(chosen: float = 1.0) -> list[Any]:
    """Validation keeps its level up to the chosen beta; AUROC falls by 0.05 beyond."""
    rows = []
    for beta, system in claims.SWEEP.items():
        level = 0.9 if beta <= chosen else 0.8
        about = {"condition": system.condition, "split": "val", "n": 5}
        rows.append(row("magnetic-tile", system.name, "validation_auroc", level, **about))
        if beta:
            lost = 0.0 if beta <= chosen else -0.05
            rows.append(figure(system, "auroc_difference", lost, None, **BASE.as_other))
    return rows


def clock(fostering: str, over: str, ratio: float) -> Any:
    about = {**BASE.condition, "fostering": fostering, "over": over}
    return row("synthetic", "S1", "step_time_ratio", ratio, condition=about)


def size_rows(beta: float, *values: float) -> list[Any]:
    about = {**BASE.as_other, "zero": "verdict"}
    system = claims.SWEEP[beta]
    return [
        figure(system, f"{shape}_ratio", value, "cam", **about)
        for shape, value in zip(claims.SIZES, values, strict=True)
    ]


def test_size_is_of_the_chosen_beta() -> None:
    rows = sweep_rows(1.0) + size_rows(1.0, 0.7, 7.0, 4.0) + size_rows(10.0, 1.2, 0.5, 0.5)
    assert claims.size(pd.DataFrame(rows)).verdict == "confirmed"
    rows = sweep_rows(10.0) + size_rows(1.0, 0.7, 7.0, 4.0) + size_rows(10.0, 1.2, 0.5, 0.5)
    assert claims.size(pd.DataFrame(rows)).verdict == "refuted"


def test_without_a_beta_the_claim_is_undecided_and_without_rows_not_run() -> None:
    none = pd.DataFrame(sweep_rows(0.0))
    for criterion in (claims.size, claims.weak_on_tiles):
        assert criterion(none) == ("undecided", {})
        with pytest.raises(LookupError):
            criterion(pd.DataFrame(sweep_rows(1.0)))
    for id in ("C2", "C4", "C6", "C7"):
        assert judge(STUDY.claim(id), none).verdict == "not run"
    missing = none[none["value"] != 0.9]
    with pytest.raises(LookupError, match="validation_auroc"):
        claims.sweep_beta(missing)


def test_weak_features_by_their_gain() -> None:
    system = claims.SWEEP[1.0]
    gain = figure(system, "weak_gain_difference", 0.1, "cam", **BASE.as_other)
    found = claims.weak_on_tiles(pd.DataFrame([*sweep_rows(1.0), gain]))
    assert found.verdict == "confirmed"


def test_cost_by_the_clock_and_the_gap() -> None:
    gap = row("synthetic", "S1", "gradient_gap", 1e-7, condition=BASE.condition)
    for second, verdict in ((1.02, "refuted"), (3.0, "refined")):
        rows = pd.DataFrame(
            [gap, clock("ce", "none", 1.0), clock(claims.SECOND_ORDER, "none", second)]
        )
        assert claims.cost(rows).verdict == verdict
    over = [clock("ca", "none", 9.0), clock("ca", "ce", 1.0), clock("cd", "ce", 1.0)]
    assert claims.expensive(pd.DataFrame(over)).verdict == "refuted"


@pytest.mark.parametrize(("alike", "verdict"), [(0.1, "confirmed"), (-0.95, "refuted")])
def test_measures_by_their_rank_correlations(alike: float, verdict: str) -> None:
    rows = [
        figure(BASE, "rank_correlation", alike, "cam", zero="verdict", **{"of": a, "with": b})
        for a, b in SHAPE_PAIRS
    ]
    found = claims.different(pd.DataFrame(rows))
    assert found.verdict == verdict
    assert "entropy and elliptic area" in found.figures
    rows[0]["value"] = float("nan")
    with pytest.raises(LookupError, match="undefined"):
        claims.different(pd.DataFrame(rows))


def test_accuracy_by_the_whole_sweep() -> None:
    assert claims.accuracy(pd.DataFrame(sweep_rows(1.0))).verdict == "confirmed"
    assert claims.accuracy(pd.DataFrame(sweep_rows(10.0))).verdict == "refined"  # none loses


def branch_rows(number: int, epochs: int, difference: float) -> list[Any]:
    network = branch(number, epochs)
    about = {**BASE.as_other, "round": number}
    tried = figure(network, METRIC, difference, None, **about)
    sharp = fostered_branch(1.0, number, epochs)
    return [
        tried,
        figure(sharp, "positive_energy_difference", 0.1, "cam", zero="verdict", **network.as_other),
        figure(sharp, "auroc_difference", 0.0, None, **network.as_other),
    ]


def test_the_branch_network_in_its_last_round() -> None:
    first, second = branch_rows(1, 7, -0.1), branch_rows(2, 7, 0.0)
    rows = pd.DataFrame(sweep_rows(1.0) + first + second)
    assert [(one.number, one.epochs) for one in stored_rounds(rows)] == [(1, None), (2, 7)]
    assert claims.branch_network(rows).verdict == "confirmed"
    none = pd.DataFrame(sweep_rows(0.0) + first + second)
    assert claims.branch_network(none).verdict == "undecided"
    below = pd.DataFrame(sweep_rows(1.0) + first)
    assert claims.branch_network(below).verdict == "undecided"
    assert [value.value for value in claims.branch_network(below).figures.values()] == [-0.1]


def test_the_sweep_is_that_of_the_chapter() -> None:
    assert tuple(claims.SWEEP) == BETAS
    assert STUDY.systems == tuple(claims.SWEEP.values())
