"""The criterion of A11 and which rows it reads."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest
from gainbook.chapters.ch09_stages.conflicts import LATE
from gainbook.chapters.ch09_stages.study import (
    OUTCOMES,
    STAGING,
    STRATEGIES,
    _kept,
    judge_stages,
    stages,
)
from gainbook.lab import results_file as runs
from gainbook.lab.catalogue import IN_STAGES, S1_FINE, S5, UNSTAGED
from gainbook.lab.study import judge
from gainbook.lab.tables import Value

UP, DOWN, OPEN = (Value(x, x - 0.1, x + 0.1, 9) for x in (0.5, -0.5, 0.0))
NONE = Value(0.0, -0.01, 0.01, 9)
"""An interval that excludes every interesting difference."""


@pytest.mark.parametrize(
    ("conflict", "outcomes", "verdict"),
    [
        (DOWN, [UP, UP, OPEN, OPEN], "confirmed"),
        (DOWN, [UP, OPEN, OPEN, OPEN], "undecided"),  # one of four may be chance
        (DOWN, [UP, NONE, NONE, NONE], "refined"),
        (DOWN, [UP, UP, DOWN, OPEN], "refined"),
        (DOWN, [OPEN] * 4, "undecided"),  # less conflict, and the benefit is open
        (OPEN, [UP, UP, UP, UP], "undecided"),  # a gain, and the conflict is open
        (UP, [UP, UP, UP, UP], "refined"),  # a gain, and not by less conflict
        (OPEN, [OPEN] * 4, "undecided"),
        (OPEN, [UP, OPEN, DOWN, OPEN], "refined"),
        (OPEN, [DOWN, OPEN, OPEN, OPEN], "refuted"),
        (OPEN, [NONE] * 4, "refuted"),
        (DOWN, [DOWN, OPEN, OPEN, OPEN], "refined"),
        (UP, [OPEN] * 4, "refuted"),
    ],
)
def test_the_criterion(conflict: Value, outcomes: list[Value], verdict: str) -> None:
    values = dict(zip(OUTCOMES, outcomes, strict=True))
    judged = judge_stages(conflict, values)
    assert judged.verdict == verdict
    assert list(judged.figures) == ["conflicting pairs", *OUTCOMES]


def test_without_a_measured_conflict_the_claim_is_not_run() -> None:
    unknown = Value(math.nan, math.nan, math.nan, 0)
    with pytest.raises(LookupError, match="conflicting pairs"):
        judge_stages(unknown, dict.fromkeys(OUTCOMES, UP))


def test_the_verdict_is_read_from_rows() -> None:
    about = {**IN_STAGES.condition, **UNSTAGED.as_other}
    given: list[tuple[str, str | None, Value, dict[str, Any]]]
    given = [("conflicting_share_difference", None, DOWN, {**about, **LATE})]
    given += [(f"{metric}_difference", of, UP, about) for metric, of, _ in OUTCOMES.values()]
    rows = pd.DataFrame(
        runs.row(
            "set", "S5", metric, value.value, map=of, condition=where, ci_low=value.low,
            ci_high=value.high, n=9,
        )
        for metric, of, value, where in given
    )  # fmt: skip
    judged = judge(STAGING.claim("A11"), rows)
    assert judged.verdict == "confirmed"
    assert judged.figures["AUROC"] == UP
    for place in range(len(rows)):  # every figure is needed
        fewer = rows.drop(index=place)
        assert judge(STAGING.claim("A11"), fewer).verdict == "not run"
        with pytest.raises(LookupError):
            stages(UNSTAGED)(fewer)


def test_supervision_is_s5_minus_s1_on_the_same_grid() -> None:
    about = {**S5.condition, **S1_FINE.as_other}
    measures = [("positive_energy", "cam"), ("iou", "defect_map"), ("auroc", None)]
    rows = pd.DataFrame(
        runs.row("set", "S5", f"{metric}_difference", 0.5, map=of, condition=about, ci_low=0.4,
                 ci_high=0.6, n=9)
        for metric, of in measures
    )  # fmt: skip
    assert judge(STRATEGIES.claim("A1"), rows).verdict == "confirmed"
    assert judge(STRATEGIES.claim("A1"), rows[:2]).verdict == "not run"


def test_the_file_keeps_no_defect_type_of_a_single_fold() -> None:
    rows = pd.DataFrame(
        {"fold": [0, None, 0], "condition": [{"defect_type": "x"}, {"defect_type": "x"}, {}]}
    )
    assert _kept(rows).tolist() == [False, True, True]
