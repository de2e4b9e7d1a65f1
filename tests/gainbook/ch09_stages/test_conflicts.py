"""Conflict of the terms: measures by epoch, and rows from the histories of runs."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from gainbook.chapters.ch09_stages.conflicts import (
    LATE,
    VERDICT_TERM,
    by_epoch,
    conflict_difference_rows,
    conflict_rows,
    epoch_table,
    lowest_pairs,
)
from gainbook.lab import results_file as runs
from gainbook.lab.catalogue import IN_STAGES, UNSTAGED
from gainbook.lab.protocol import Pooled
from gainbook.lab.tables import find

from gainmtl.evaluation.scoring import Scores
from gainmtl.training.gradient_conflict import Conflict, as_columns


def history(*cosines: float) -> pd.DataFrame:
    """Two terms at a known angle after each epoch: the verdict's and guidance."""
    terms = (VERDICT_TERM, "guidance")
    rows = []
    for epoch, cosine in enumerate(cosines):
        conflict = Conflict(terms, np.array([[1, cosine], [cosine, 1]]), np.array([1.0, 3.0]))
        rows.append({"epoch": float(epoch), **as_columns(conflict)})
    return pd.DataFrame(rows)


def pooled(system: str, *folds: pd.DataFrame) -> list[Pooled]:
    table = pd.concat([one.assign(fold=fold) for fold, one in enumerate(folds)])
    scores = Scores(pd.DataFrame(), {})
    return [Pooled(system, {}, [scores], scores, table, ("abc",), 1.0, (Path("model"),))]


def test_measures_by_epoch() -> None:
    table = by_epoch(history(0.5, -0.25, math.nan))
    assert table["epoch"].tolist() == [1, 2, 3]
    assert table["done"].tolist() == pytest.approx([1 / 3, 2 / 3, 1])
    assert table["conflicting_share"].tolist()[:2] == [0, 1]
    # with one other term, the verdict's cosine with all others is the one with it
    np.testing.assert_allclose(table["verdict_cosine"], [0.5, -0.25, math.nan], atol=1e-12)
    assert math.isnan(table["conflicting_share"][2])


def test_rows_are_means_over_folds_and_differences_are_taken_fold_by_fold() -> None:
    # four epochs: the late ones are those after which half of the run is done, 2 to 4
    mine = pooled("S5", history(-1, 0.1, 0.2, 0.3), history(-1, 0.3, 0.4, 0.5))
    other = pooled("S5-unstaged", history(-1, 0.0, 0.1, 0.2), history(-1, 0.1, 0.2, 0.3))
    rows = pd.DataFrame(
        conflict_rows(IN_STAGES, mine, (0,), "set")
        + conflict_difference_rows(
            IN_STAGES, UNSTAGED, {IN_STAGES.tag: mine, UNSTAGED.tag: other}, "set"
        )
    )
    assert runs.check_rows(rows.to_dict("records"))
    assert find(rows, IN_STAGES, "mean_cosine", **LATE).value == pytest.approx((0.2 + 0.4) / 2)
    value = find(rows, IN_STAGES, "mean_cosine_difference", **LATE, **UNSTAGED.as_other)
    assert (value.value, value.n) == (pytest.approx((0.1 + 0.2) / 2), 2)
    # Student's quantile for two folds is 12.7: 0.15 -+ 12.7 * 0.05
    assert value.low == pytest.approx(0.15 - 12.7062 * 0.05, abs=1e-3)
    pair = f"{VERDICT_TERM}, guidance"
    assert find(rows, IN_STAGES, "gradient_cosine", epoch=2, pair=pair).value == pytest.approx(0.2)
    table = epoch_table(rows, [IN_STAGES])
    share = table[table["panel"] == "Pairs of terms that conflict"]
    assert share["value"].tolist() == [1, 0, 0, 0]
    assert share["x"].tolist() == [1, 2, 3, 4]
    assert rows["split"].unique().tolist() == ["train"]
    # 0.3 -+ 12.7 * 0.1 would leave the scale of a cosine
    late = find(rows, IN_STAGES, "mean_cosine", **LATE)
    assert (late.low, late.high) == (pytest.approx(-0.9706, abs=1e-3), 1)


def test_a_run_without_a_probe_has_no_conflict_rows() -> None:
    bare = pd.DataFrame({"epoch": [0.0, 1.0]})
    assert conflict_rows(IN_STAGES, pooled("S5", bare), (0,), "set") == []
    missing = conflict_difference_rows(
        IN_STAGES, UNSTAGED,
        {IN_STAGES.tag: pooled("S5", bare), UNSTAGED.tag: pooled("x", bare)}, "set",
    )  # fmt: skip
    assert all(math.isnan(row["value"]) for row in missing)


def test_the_lowest_pairs_come_first() -> None:
    cosines = np.array([[1, 0.5, -0.5], [0.5, 1, math.nan], [-0.5, math.nan, 1]])
    conflict = Conflict(("a", "b", "c"), cosines, np.ones(3))
    assert lowest_pairs(conflict, 5) == [("a", "c", -0.5), ("a", "b", 0.5)]
