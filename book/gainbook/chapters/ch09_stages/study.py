"""Chapter 09, staged training: S5 beside S1, and four plans for the terms of one loss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from gainbook.chapters.ch09_stages.conflicts import (
    LATE,
    conflict_difference_rows,
    conflict_rows,
)
from gainbook.lab.catalogue import (
    IN_STAGES,
    NO_WARM_UP,
    REVERSED,
    S1_COARSE,
    S1_FINE,
    S1_OWN,
    S5,
    UNSTAGED,
)
from gainbook.lab.criteria import Criterion, find_difference, supervision
from gainbook.lab.judge import INTERESTING, RATE_MARGIN, Judgement, falls, gains, verdict
from gainbook.lab.live import LIVE_SMALL
from gainbook.lab.study import PLACES, VERDICTS, Claim, Headline, Measured, Run, Study
from gainbook.lab.systems import System
from gainbook.lab.tables import Value

NOTEBOOK = "09_staged_training"
QUICK: dict[str, Any] = LIVE_SMALL
"""Parameters of the live part."""
SYSTEMS = (S1_COARSE, S1_FINE, S1_OWN, S5)
PLANS = (IN_STAGES, UNSTAGED, REVERSED, NO_WARM_UP)
OUTCOMES: dict[str, Measured] = {
    **VERDICTS,
    **{name: of for name, of in PLACES.items() if of[0] in ("iou", "positive_energy")},
}
"""What a plan is judged by on the test images."""
CONFLICTING: Measured = ("conflicting_share", None, LATE)


def _conflicts(run: Run) -> list[dict[str, Any]]:
    p = run.parameters
    rows = [
        row
        for system in run.systems
        for row in conflict_rows(system, run.pooled[system.tag], p.seeds, p.dataset)
    ]
    for a, b in run.pairs:
        rows += conflict_difference_rows(a, b, run.pooled, p.dataset)
    return rows


def _kept(rows: pd.DataFrame) -> pd.Series:
    """No defect types of single folds, which test a handful of images of each."""
    return rows["fold"].isna() | rows["condition"].map(lambda about: "defect_type" not in about)


def judge_stages(conflict: Value, outcomes: Mapping[str, Value]) -> Judgement:
    """A11: do stages keep the terms of the loss from interfering?

    Differences, in stages minus another plan. `conflict`: the share of conflicting pairs of terms
    in the second half of the run, when both plans have every term on, over folds. `outcomes`: by
    the names of `OUTCOMES`, on the same test images.

    *Less conflict* is shown with an interval below 0 and excluded with one above -0.05. A *benefit*
    is shown if at least two outcomes have intervals above 0 and none has one below 0, since one of
    four may be chance. It is excluded if one has its interval below 0, or if fewer than two can
    still gain the smallest interesting difference. The claim needs both. It is *refined* and not
    refuted where an outcome gains or the conflict is less. The smallest interesting differences
    came after the runs.

    Raises:
        LookupError: the conflict was not measured.
    """
    if math.isnan(conflict.value):
        raise LookupError("the share of conflicting pairs was not measured")
    parts = [gains(value, INTERESTING[OUTCOMES[name][0]]) for name, value in outcomes.items()]
    benefit: bool | None = None
    if parts.count(False) > len(parts) - 2 or any(value.high < 0 for value in outcomes.values()):
        benefit = False
    elif parts.count(True) >= 2:
        benefit = True
    figures = {"conflicting pairs": conflict, **outcomes}
    return Judgement(verdict([falls(conflict, RATE_MARGIN), benefit], partly=parts), figures)


def stages(other: System) -> Criterion:
    """`judge_stages` from result rows, in stages minus another plan."""

    def criterion(rows: pd.DataFrame) -> Judgement:
        outcomes = {
            name: find_difference(rows, IN_STAGES, other, metric, map)
            for name, (metric, map, _) in OUTCOMES.items()
        }
        conflict = find_difference(rows, IN_STAGES, other, "conflicting_share", **LATE)
        return judge_stages(conflict, outcomes)

    criterion.__doc__ = judge_stages.__doc__
    return criterion


STRATEGIES = Study(
    name=NOTEBOOK,
    notebook=NOTEBOOK,
    title="S1 and S5",
    systems=SYSTEMS,
    pairs=tuple((S5, system) for system in SYSTEMS[:-1]),
    claims=(Claim("A1", supervision(S5, S1_FINE)),),
)
STAGING = Study(
    name="09_staging_study",
    notebook=NOTEBOOK,
    title="Four plans for one loss",
    systems=PLANS,
    pairs=tuple((IN_STAGES, plan) for plan in PLANS[1:]),
    keep=_kept,
    extra=_conflicts,
    profile="components",
    options={"real_part": "staging"},
    headline=Headline({**VERDICTS, **PLACES, "conflicting pairs": CONFLICTING}),
    claims=(Claim("A11", stages(UNSTAGED)),),
)
STUDIES = (STRATEGIES, STAGING)
