"""Shared criteria: every verdict word from made-up differences, and from result rows."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest
from gainbook.lab import criteria
from gainbook.lab.catalogue import PLAIN, S5, S5_WITHOUT_TERM, SUPERVISION_ALONE
from gainbook.lab.judge import CONFIRMED, NOT_RUN, REFINED, REFUTED, UNDECIDED
from gainbook.lab.results_file import row
from gainbook.lab.study import Claim, judge
from gainbook.lab.tables import Value

NAN = math.nan
UP, NONE, OPEN, DOWN = (0.1, 0.3), (-0.01, 0.01), (-0.1, 0.3), (-0.3, -0.1)
NARROW = (-0.04, 0.04)
"""Excludes a share of 0.05, and leaves an AUROC of 0.02 open."""


def v(interval: tuple[float, float]) -> Value:
    low, high = interval
    return Value((low + high) / 2, low, high, 10)


@pytest.mark.parametrize(
    ("energy", "overlap", "auroc", "word"),
    [
        (UP, UP, NONE, CONFIRMED),
        (UP, UP, OPEN, UNDECIDED),
        (UP, OPEN, NONE, UNDECIDED),
        (UP, NONE, NONE, REFINED),
        (UP, UP, DOWN, REFINED),
        (NONE, OPEN, NONE, REFUTED),
        (DOWN, DOWN, NONE, REFUTED),
    ],
)
def test_supervision(energy: Any, overlap: Any, auroc: Any, word: str) -> None:
    judgement = criteria.judge_supervision(v(energy), v(overlap), v(auroc))
    assert judgement.verdict == word
    assert judgement.figures["AUROC"] == v(auroc)


@pytest.mark.parametrize(
    ("auroc", "place", "word"),
    [
        (UP, UP, CONFIRMED),
        (UP, OPEN, UNDECIDED),
        (OPEN, OPEN, UNDECIDED),
        (UP, DOWN, REFINED),
        (NONE, OPEN, REFUTED),
    ],
)
def test_together(auroc: Any, place: Any, word: str) -> None:
    figures = {"AUROC": v(auroc), "pixel AP": v(place)}
    assert criteria.judge_together(figures).verdict == word


@pytest.mark.parametrize(
    ("image", "features", "kept", "auroc", "word"),
    [
        (UP, UP, NARROW, NONE, CONFIRMED),
        (UP, OPEN, NARROW, NONE, CONFIRMED),
        (OPEN, UP, NARROW, NONE, UNDECIDED),
        (NARROW, UP, NARROW, NONE, REFINED),
        (UP, UP, (0.12, 0.2), NONE, REFINED),
        (UP, UP, (0.0, 0.2), NONE, UNDECIDED),
        (UP, UP, NARROW, DOWN, REFINED),
        (NARROW, NARROW, NARROW, NONE, REFUTED),
        (NARROW, OPEN, NARROW, NONE, REFUTED),
        ((NAN, NAN), (NAN, NAN), (NAN, NAN), (NAN, NAN), UNDECIDED),
    ],
)
def test_counterfactual_term(image: Any, features: Any, kept: Any, auroc: Any, word: str) -> None:
    given = (v(image), v(features), v(kept), v(auroc))
    assert criteria.judge_counterfactual_term(*given).verdict == word


@pytest.mark.parametrize(
    ("overlap", "iou", "word"),
    [
        (UP, NONE, CONFIRMED),
        (OPEN, NONE, UNDECIDED),
        (UP, DOWN, REFINED),
        (NONE, NONE, REFUTED),
    ],
)
def test_consistency(overlap: Any, iou: Any, word: str) -> None:
    assert criteria.judge_consistency(v(overlap), v(iou)).verdict == word


def difference(
    a: Any, b: Any, metric: str, interval: Any, map: str | None = None, **more: Any
) -> Any:
    value = v(interval)
    condition = {**a.condition, **b.as_other, **more}
    return row("set", a.name, f"{metric}_difference", value.value, condition=condition, map=map,
               ci_low=value.low, ci_high=value.high, n=10)  # fmt: skip


def test_criteria_read_their_figures_from_rows() -> None:
    pair = SUPERVISION_ALONE, PLAIN
    rows = [
        difference(*pair, "positive_energy", UP, "cam"),
        difference(*pair, "iou", UP, "defect_map"),
        difference(*pair, "auroc", NONE),
    ]
    claim = Claim("A1", criteria.supervision(*pair))
    assert judge(claim, pd.DataFrame(rows)).verdict == CONFIRMED
    assert judge(claim, pd.DataFrame(rows[:2])).verdict == NOT_RUN
    pair = S5, S5_WITHOUT_TERM
    rows = [
        difference(*pair, "selectivity", NARROW, level="image"),
        difference(*pair, "selectivity", NARROW, level="features"),
        difference(*pair, "flip_rate", NARROW, level="image", intervention="kept"),
        difference(*pair, "auroc", NONE),
    ]
    claim = Claim("A10", criteria.counterfactual_term(*pair))
    assert judge(claim, pd.DataFrame(rows)).verdict == REFUTED
    rows = [
        difference(*pair, "map_overlap", OPEN),
        difference(*pair, "iou", NONE, "defect_map"),
    ]
    claim = Claim("A13", criteria.consistency(*pair))
    assert judge(claim, pd.DataFrame(rows)).verdict == UNDECIDED
