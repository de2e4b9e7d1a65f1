"""The focal study: its grid, its figures, and rows whose intervals are over seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from gainbook.chapters.ch07_localization.focal_study import (
    FOCAL,
    GAMMAS,
    RATES,
    SETTINGS,
    focal_value,
    judge_focal,
    measure,
)
from gainbook.lab import results_file as runs
from gainbook.lab.judge import CONFIRMED, REFINED, REFUTED, UNDECIDED
from gainbook.lab.seed_study import run_cell, seed_rows
from gainbook.lab.tables import Value

TINY = {**SETTINGS, "image_size": 32, "train": 24, "val": 8, "test": 12, "epochs": 1}


def record(gamma: float, seed: int, scores: list[float], learned: list[float]) -> dict[str, Any]:
    """Two defective and two normal test parts, four training parts of which one is defective."""
    return {
        "gamma": gamma, "rate": 0.25, "seed": seed, "defects": 1,
        "train": {"scores": learned, "labels": [True, False, False, False]},
        "test": {"scores": scores, "labels": [True, True, False, False]},
    }  # fmt: skip


def test_the_grid_is_whole_seed_by_seed() -> None:
    cells = FOCAL.cells()
    assert len(cells) == len(set(cells)) == 5 * 3 * 5
    assert {cell["seed"] for cell in cells[: len(GAMMAS) * len(RATES)]} == {0}
    assert len({FOCAL.file(cell) for cell in cells}) == len(cells)


def test_the_figures_of_a_record() -> None:
    found = measure(record(2.0, 0, [0.9, 0.2, 0.1, 0.4], [0.95, 0.01, 0.2, 0.3]))
    assert found["auroc"] == 0.75
    assert found["recall_at_fpr05"] == 0.5
    # easy: p = 0.95 and 0.99 of the true class
    assert found["easy_share"] == 0.5
    p = np.array([0.95, 0.99, 0.8, 0.7])
    entropy = -np.log(p)
    focal = (1 - p) ** 2 * entropy
    assert found["easy_reduction"] == pytest.approx(entropy[:2].sum() / focal[:2].sum())
    assert found["easy_loss_share"] == pytest.approx(focal[:2].sum() / focal.sum())
    nothing = measure(record(2.0, 0, [0.9, 0.2, 0.1, 0.4], [0.5] * 4))
    assert nothing["easy_share"] == 0
    assert np.isnan(nothing["easy_reduction"])


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    cells = FOCAL.cells(gamma=[0.0, 2.0], rate=[0.1], seed=[0, 1])
    contents = [
        record(
            cell["gamma"], cell["seed"],
            [0.9, 0.5 - 0.3 * (cell["gamma"] == 0) * cell["seed"], 0.1, 0.3], [0.9, 0.1, 0.1, 0.5],
        )
        for cell in cells
    ]  # fmt: skip
    return runs.check_rows(seed_rows(FOCAL, cells, contents))


def test_rows_are_by_seed_and_over_seeds_with_paired_differences(
    rows: list[dict[str, Any]],
) -> None:
    by = {(r["metric"], r["condition"]["gamma"], r["seed"]): r for r in rows}
    assert by["auroc", 0.0, 1]["value"] == 0.75
    assert by["auroc", 0.0, None]["value"] == pytest.approx((1 + 0.75) / 2)
    difference = by["auroc_difference", 2.0, None]
    assert difference["condition"]["against_gamma"] == 0
    assert difference["value"] == pytest.approx((0 + 0.25) / 2)
    assert difference["n"] == 2
    assert ("auroc_difference", 0.0, None) not in by


def test_figures_are_found_and_shares_end_at_one(rows: list[dict[str, Any]]) -> None:
    table = pd.DataFrame(rows)
    assert focal_value(table, "auroc", 2.0, 0.1).value == 1
    assert focal_value(table, "auroc", 0.0, 0.1).high == 1  # Student's interval passes it
    assert focal_value(table, "auroc_difference", 2.0, 0.1).value == pytest.approx(0.125)
    with pytest.raises(LookupError):
        focal_value(table, "auroc_difference", 0.0, 0.1)


def test_a_run_has_the_scores_of_its_parts(tmp_path: Path) -> None:
    (cell,) = FOCAL.cells(gamma=[2.0], rate=[0.5], seed=[0])
    content = run_cell(FOCAL, tmp_path, TINY, cell)
    assert (tmp_path / "rate0.5/gamma2/seed0.json").is_file()
    assert len(content["test"]["scores"]) == TINY["test"]
    assert set(measure(content)) >= {"auroc", "ece_shifted"}


@pytest.mark.parametrize(
    ("ends", "verdict"),
    [
        ((0.01, 0.1), CONFIRMED),
        ((-0.1, 0.1), UNDECIDED),
        ((-0.1, 0.01), REFINED),  # the factor holds, the gain is excluded
        ((-0.1, -0.01), REFINED),
    ],
)
def test_the_verdict_follows_the_criterion(ends: tuple[float, float], verdict: str) -> None:
    assert judge_focal(Value(sum(ends) / 2, *ends, 5)).verdict == verdict


def test_without_the_factor_a_gain_is_no_confirmation() -> None:
    assert judge_focal(Value(0.0, -0.1, 0.01, 5), gamma=1.0).verdict == REFUTED
    assert judge_focal(Value(0.05, 0.01, 0.1, 5), gamma=1.0).verdict == REFINED
