"""The sweep by fold: trained, read again, and compared with further systems in pairs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from gainbook.chapters.ch12_fostering import study
from gainbook.chapters.ch12_fostering.branch_rounds import Rounds
from gainbook.chapters.ch12_fostering.study import fostering_results
from gainbook.chapters.ch12_fostering.systems import BRANCH, fostered, paper_sweep
from gainbook.lab import results_file as runs
from gainbook.lab import tables
from gainbook.lab.catalogue import PLAIN
from gainbook.lab.parameters import Parameters
from gainbook.lab.systems import System

SWEEP = {0.0: PLAIN, 0.3: fostered(0.3)}
ROUNDS = Rounds(1, {}, [], 1)


def parameters(**changes: Any) -> Parameters:
    given = {
        "notebook": "99_none", "dataset": "synthetic", "data_root": None, "image_size": 64,
        "backbone": "test_efficientnet", "weights": None, "epochs": 1, "batch_size": 16,
        "learning_rate": 1e-3, "folds": 2, "seeds": (0,), "accelerator": "cpu", "devices": 1,
        "precision": "32-true", "output_dir": "runs",
    }  # fmt: skip
    return Parameters(**{**given, **changes})


def test_the_papers_data_set_has_its_own_sweep() -> None:
    assert study.sweep_of(parameters(dataset="voc2012", image_size=192)) == paper_sweep(192)
    assert study.sweep_of(parameters()) is study.SWEEP


def test_a_file_keeps_single_folds_of_the_sweep_alone() -> None:
    conditions = [
        PLAIN.condition,
        {**PLAIN.condition, "intervention": "removed"},
        {**PLAIN.condition, "oracle": True},
        {**PLAIN.condition, "defect_type": "crack"},
        {**PLAIN.condition, "num_classes": 6},
    ]
    rows = pd.DataFrame(
        [{"system": "S1", "fold": k, "condition": c} for k in (None, 0.0) for c in conditions]
    )
    kept = study._kept(rows, SWEEP)
    assert rows.index[kept].tolist() == [0, 1, 2, 4, 5, 6]


@pytest.mark.slow
def test_systems_are_compared_and_others_trained_on_request(
    tmp_path: Path, folder_of_parts: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def pairs(beta: float, *more: Any) -> list[tuple[System, System]]:
        assert beta in SWEEP
        return [(BRANCH, PLAIN)]

    monkeypatch.setattr(study, "sweep_of", lambda p: SWEEP)
    monkeypatch.setattr(study, "extras", pairs)
    root = str(folder_of_parts(tmp_path))
    p = parameters(dataset="folder", data_root=root, output_dir=str(tmp_path / "out"))
    alone = fostering_results(p, ROUNDS, faithful=1)
    assert set(alone.pooled) == {system.tag for system in SWEEP.values()}
    measured = fostering_results(p, ROUNDS, more=True, faithful=1)
    assert measured.rows is not None
    assert runs.check_rows(measured.rows.to_dict("records"))
    assert BRANCH.tag in measured.pooled
    assert not any("defect_type" in condition for condition in measured.rows["condition"])
    for first in (SWEEP[0.3], BRANCH):
        for metric, name in (
            ("auroc", None), ("pixel_ap", "cam"), ("point_game", "cam"), ("positive_energy", "cam")
        ):  # fmt: skip
            tables.find(measured.rows, first, f"{metric}_difference", name, **PLAIN.as_other)
    # What is finished is read from now on, without `more`.
    assert BRANCH.tag in fostering_results(p, ROUNDS, faithful=1).pooled
