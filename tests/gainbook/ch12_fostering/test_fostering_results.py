"""A chapter's fostered systems by fold: trained, read again, compared in pairs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gainbook.chapters.ch12_fostering.fostered import BRANCH, fostered
from gainbook.chapters.ch12_fostering.fostering_results import fostering_results
from gainbook.lab import results_file as runs
from gainbook.lab import tables
from gainbook.lab.components import PLAIN
from gainbook.lab.parameters import Parameters
from gainbook.lab.reference import System

SWEEP = {0.0: PLAIN, 0.3: fostered(0.3)}


def parameters(**changes: Any) -> Parameters:
    given = {
        "notebook": "99_none", "dataset": "synthetic", "data_root": None, "image_size": 64,
        "backbone": "test_efficientnet", "weights": None, "epochs": 1, "batch_size": 16,
        "learning_rate": 1e-3, "folds": 2, "seeds": (0,), "accelerator": "cpu", "devices": 1,
        "precision": "32-true", "output_dir": "runs",
    }  # fmt: skip
    return Parameters(**{**given, **changes})


def pairs(beta: float) -> list[tuple[System, System]]:
    assert beta in SWEEP
    return [(BRANCH, PLAIN)]


def test_without_stored_results_there_are_no_rows() -> None:
    found = fostering_results(parameters(), SWEEP, pairs)
    assert (found.rows, found.pooled) == (None, {})


@pytest.mark.slow
def test_systems_are_compared_and_others_wait_to_be_asked_for(
    tmp_path: Path, folder_of_parts: Callable[[Path], Path]
) -> None:
    root = str(folder_of_parts(tmp_path))
    p = parameters(dataset="folder", data_root=root, output_dir=str(tmp_path / "out"))
    alone = fostering_results(p, SWEEP, pairs, faithful=1)
    assert set(alone.pooled) == {system.tag for system in SWEEP.values()}
    found = fostering_results(p, SWEEP, pairs, more=True, faithful=1)
    assert found.rows is not None
    assert runs.check_rows(found.rows.to_dict("records"))
    assert BRANCH.tag in found.pooled
    assert not any("defect_type" in condition for condition in found.rows["condition"])
    for first in (SWEEP[0.3], BRANCH):
        for metric, name in (
            ("auroc", None), ("pixel_ap", "cam"), ("point_game", "cam"), ("positive_energy", "cam")
        ):  # fmt: skip
            tables.find(found.rows, first, f"{metric}_difference", name, **PLAIN.as_other)
    # What is there is read from now on, without being asked for.
    assert BRANCH.tag in fostering_results(p, SWEEP, pairs, faithful=1).pooled
