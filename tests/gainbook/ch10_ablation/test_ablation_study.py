"""The synthetic study of the ladder: its grid, its rows, and one run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from gainbook.chapters.ch10_ablation.ablation_results import difference
from gainbook.chapters.ch10_ablation.ablation_study import (
    Settings,
    Task,
    run_task,
    stored_study,
    study_rows,
    tasks,
)
from gainbook.chapters.ch10_ablation.ladder import S1, S2, SIX
from gainbook.lab import results_file as runs
from gainbook.lab import study_runs
from gainbook.lab.tables import find

TINY = Settings(image_size=32, train=16, val=8, test=12, epochs=1, weights=None)


def content(auroc: float, selectivity: float | None = 0.5) -> dict[str, Any]:
    figures = [
        {"metric": "auroc", "map": None, "condition": {}, "value": auroc},
        {"metric": "selectivity", "map": None, "condition": {"level": "image"},
         "value": selectivity},
    ]  # fmt: skip
    return {"figures": figures}


def test_the_grid_is_whole_seed_by_seed() -> None:
    every = tasks()
    assert len(every) == len(set(every)) == 60
    assert [task.system for task in every[:6]] == list(SIX)
    assert {task.seed for task in every[:12]} == {0}
    assert len({task.file for task in every}) == 60


def test_rows_are_by_seed_over_seeds_and_in_pairs() -> None:
    wanted = tasks((S1, S2), ("plain",), (0, 1))
    worth = {("S1", 0): 0.6, ("S1", 1): 0.8, ("S2", 0): 0.7, ("S2", 1): 0.9}
    contents = [
        content(worth[t.system.name, t.seed], None if t.system is S2 and t.seed else 0.5)
        for t in wanted
    ]
    rows = pd.DataFrame(runs.check_rows(study_rows(contents, wanted)))
    assert find(rows, S1, "auroc", setting="plain").value == pytest.approx(0.7)
    gain = difference(rows, S2, S1, ("auroc", None, {}), setting="plain")
    assert gain[:3] == pytest.approx((0.1, 0.1, 0.1))  # seed by seed, always the same
    assert gain.n == 2
    one = difference(rows, S2, S1, ("selectivity", None, {"level": "image"}), setting="plain")
    assert one.value == 0
    assert math.isnan(one.low)
    assert np.isnan(difference(rows, S1, S2, ("auroc", None, {}), setting="plain").value)


def test_a_missing_study_names_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise FileNotFoundError(name)

    monkeypatch.setattr(runs, "reference", missing)
    found = stored_study()
    assert found.rows is None
    assert "tools/ablation_study.py" in found.note


def test_a_run_measures_verdict_map_and_reasons() -> None:
    made = run_task(TINY, Task(S2, "shortcut", 0))
    metrics = {figure["metric"] for figure in made["figures"]}
    assert {"auroc", "iou", "flip_rate", "selectivity", "cpu_seconds_per_epoch"} <= metrics
    runs.check_rows(study_rows([made], [Task(S2, "shortcut", 0)]))


@pytest.mark.slow
def test_a_study_goes_on_where_it_was_and_refuses_other_settings(tmp_path: Path) -> None:
    wanted = tasks((S1,), ("plain",), (0, 1))
    first = study_runs.run(tmp_path, TINY, wanted, run_task)
    (tmp_path / wanted[1].file).unlink()
    again = study_runs.run(tmp_path, TINY, wanted, run_task)
    assert first[0] == again[0]
    assert [c["figures"][0] for c in first] == [c["figures"][0] for c in again]
    with pytest.raises(ValueError, match="other settings"):
        study_runs.run(tmp_path, Settings(), wanted, run_task)
