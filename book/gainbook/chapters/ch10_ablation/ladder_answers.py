"""How the ladder of chapter 10 answers claims: which of its differences go into which criterion.

As in `claim_answers`, each function takes the rows of the results file and raises LookupError where
they lack a figure.
"""

from __future__ import annotations

from typing import TypeAlias

import pandas as pd

from gainbook.chapters.ch08_counterfactual import flips
from gainbook.chapters.ch10_ablation import ablation_claims
from gainbook.chapters.ch10_ablation import ladder as ablation
from gainbook.lab.judge import Judgement
from gainbook.lab.reference import System
from gainbook.lab.tables import Value, find

Rows: TypeAlias = pd.DataFrame
NAME = ablation.PARTS["ladder"]


def _gain(
    rows: Rows, a: System, b: System, metric: str, of: str | None = None, **condition: str
) -> Value:
    return find(rows, a, f"{metric}_difference", of, **condition, **b.as_other)


def supervision(rows: Rows) -> Judgement:
    """A1 by S2 minus S1."""
    pair = ablation.S2, ablation.S1
    return ablation_claims.judge_supervision(
        _gain(rows, *pair, "positive_energy", "cam"),
        _gain(rows, *pair, "iou", "defect_map"),
        _gain(rows, *pair, "auroc"),
    )


def counterfactual_term(rows: Rows) -> Judgement:
    """A10 by S5 minus S4, with the criterion of chapter 8."""
    pair = ablation.S5, ablation.S4
    return flips.judge_term(
        _gain(rows, *pair, "selectivity", level="image"),
        _gain(rows, *pair, "selectivity", level="features"),
        _gain(rows, *pair, "flip_rate", level="image", intervention="kept"),
        _gain(rows, *pair, "auroc"),
    )


def each(rows: Rows) -> Judgement:
    """A12 by what each whole step is added for, later minus earlier system."""
    figures = {}
    for step in ablation.WHOLE_STEPS:
        words, metric, of, condition = ablation_claims.PROMISES[step.system.name]
        found = _gain(rows, step.system, step.before, metric, of, **condition)
        figures[f"{step.name}, {words}"] = found
    return Judgement(ablation_claims.judge_each(figures), figures)


def consistency(rows: Rows) -> Judgement:
    """A13 by S4 minus S4 without its consistency."""
    pair = ablation.S4, ablation.S4_NO_CONSISTENCY
    return ablation_claims.judge_consistency(
        _gain(rows, *pair, "map_overlap"), _gain(rows, *pair, "iou", "defect_map")
    )
