"""The focal study: its grid, its records, and rows whose intervals are over seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gainbook.chapters.ch07_localization import focal_study
from gainbook.chapters.ch07_localization.focal_study import Run, execute, grid, measure, study_rows
from gainbook.lab import results_file as runs
from gainbook.lab.tables import Value

TINY = {"image_size": 32, "train": 24, "val": 8, "test": 12, "epochs": 1, "weights": None}


def record(gamma: float, seed: int, scores: list[float], learned: list[float]) -> dict[str, Any]:
    """Two defective and two normal test parts, four training parts of which one is defective."""
    return {
        "gamma": gamma, "rate": 0.25, "seed": seed, "defects": 1,
        "train": {"scores": learned, "labels": [True, False, False, False]},
        "test": {"scores": scores, "labels": [True, True, False, False]},
    }  # fmt: skip


def test_the_grid_is_whole_seed_by_seed() -> None:
    runs_ = grid()
    assert len(runs_) == len(set(runs_)) == 5 * 3 * 5
    first = len(focal_study.GAMMAS) * len(focal_study.RATES)
    assert {run.seed for run in runs_[:first]} == {0}
    assert len({run.file for run in runs_}) == len(runs_)


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


def test_rows_are_by_seed_and_over_seeds_with_paired_differences() -> None:
    records = [
        record(gamma, seed, [0.9, 0.5 - 0.3 * (gamma == 0) * seed, 0.1, 0.3], [0.9, 0.1, 0.1, 0.5])
        for gamma in (0.0, 2.0)
        for seed in (0, 1)
    ]
    rows = runs.check_rows(study_rows(records))
    by = {(r["metric"], r["condition"]["gamma"], r["seed"]): r for r in rows}
    assert by["auroc", 0.0, 1]["value"] == 0.75
    assert by["auroc", 0.0, None]["value"] == pytest.approx((1 + 0.75) / 2)
    difference = by["auroc_difference", 2.0, None]
    assert difference["condition"]["against_gamma"] == 0
    assert difference["value"] == pytest.approx((0 + 0.25) / 2)
    assert difference["n"] == 2
    assert ("auroc_difference", 0.0, None) not in by


def test_a_run_is_trained_once_and_refuses_other_settings(tmp_path: Path) -> None:
    run = Run(2.0, 0.5, 0)
    first = execute(run, tmp_path, **TINY)
    assert (tmp_path / run.file).is_file()
    assert len(first["test"]["scores"]) == TINY["test"]
    assert set(measure(first)) >= {"auroc", "ece_shifted"}
    before = (tmp_path / run.file).stat().st_mtime_ns
    assert execute(run, tmp_path, **TINY) == first
    assert (tmp_path / run.file).stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="other settings"):
        execute(run, tmp_path, **{**TINY, "epochs": 2})


def test_figures_are_found_and_a_missing_study_says_how_to_make_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [
        record(gamma, seed, [0.9, 0.4, 0.1, 0.3], [0.9, 0.1, 0.1, 0.5])
        for gamma in (0.0, 2.0)
        for seed in (0, 1)
    ]
    path = tmp_path / "study.json"
    facts = {"duration_s": 1.0}
    settings = {**focal_study.SETTINGS, "seeds": [0, 1]}
    runs.write_results(
        path, notebook=focal_study.NAME, parameters=settings, provenance=facts,
        rows=study_rows(records),
    )  # fmt: skip
    monkeypatch.setattr(runs, "reference", lambda name: runs.read_results(path))
    rows, note = focal_study.stored_study()
    assert rows is not None
    assert "seeds: 0, 1" in note
    assert focal_study.study_value(rows, "auroc", 2.0, 0.25).value == 1
    assert focal_study.study_value(rows, "auroc_difference", 2.0, 0.25).value == 0
    with pytest.raises(LookupError):
        focal_study.study_value(rows, "auroc_difference", 0.0, 0.25)

    def missing(name: str) -> None:
        raise FileNotFoundError(name)

    monkeypatch.setattr(runs, "reference", missing)
    rows, note = focal_study.stored_study()
    assert rows is None
    assert "tools/focal_study.py" in note


@pytest.mark.parametrize(
    ("ends", "verdict"),
    [((0.01, 0.1), "confirmed"), ((-0.1, 0.1), "refined"), ((-0.1, -0.01), "refuted")],
)
def test_the_verdict_follows_the_criterion(ends: tuple[float, float], verdict: str) -> None:
    assert focal_study.judge_focal(Value(sum(ends) / 2, *ends, 5)) == verdict
    assert focal_study.judge_focal(Value(0.0, *ends, 5), gamma=1.0) == "refuted"
