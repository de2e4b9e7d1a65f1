"""Studies over seeds: the grid, one file per run, and rows against values worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from gainbook.lab.results_file import check_rows
from gainbook.lab.seed_study import (
    Cell,
    SeedStudy,
    difference_by_seed,
    figure,
    interval_over_seeds,
    run_cell,
    run_cells,
    seed_rows,
)

from gainmtl.evaluation.stats import student_interval
from gainmtl.files import read_json

CALLS: list[Cell] = []
SETTINGS = {"epochs": 3}
VALUES = {(0.0, 0): 0.5, (0.0, 1): 0.7, (2.0, 0): 0.6, (2.0, 1): 1.0}


def measured(settings: Mapping[str, Any], cell: Cell) -> dict[str, Any]:
    """The content of one run."""
    CALLS.append(cell)
    value = VALUES[cell["gamma"], cell["seed"]]
    figures = [figure("auroc", value, n=7), figure("gap", math.nan, "cam", shown="both")]
    return {
        "settings": dict(settings), "figures": figures, "seconds": 1.0, "commit": "abc",
    }  # fmt: skip


def study(**changes: Any) -> SeedStudy:
    given: dict[str, Any] = {
        "name": "99_study",
        "notebook": "99",
        "title": "A study",
        "axes": {"gamma": (0.0, 2.0), "seed": (0, 1)},
        "train_and_measure": measured,
        "subject": lambda cell: ("focal", {"gamma": cell["gamma"]}),
        "file": lambda cell: f"gamma{cell['gamma']:g}/seed{cell['seed']}.json",
        "settings": SETTINGS,
        "against": lambda cell: (
            [(cell.at(gamma=0.0), {"against_gamma": 0.0})] if cell["gamma"] else []
        ),
    }
    return SeedStudy(**{**given, **changes})


def test_the_grid_goes_seed_by_seed() -> None:
    places = [dict(cell.places) for cell in study().cells()]
    assert places == [
        {"gamma": 0.0, "seed": 0}, {"gamma": 2.0, "seed": 0},
        {"gamma": 0.0, "seed": 1}, {"gamma": 2.0, "seed": 1},
    ]  # fmt: skip
    assert [c["gamma"] for c in study().cells(seed=[1], gamma=[2.0])] == [2.0]
    assert study().cells()[0].at(gamma=2.0) == study().cells()[1]


def test_parameters_name_settings_and_places() -> None:
    axes = {"gamma": [0.0], "seed": [0, 1]}
    assert study().parameters(axes, SETTINGS) == {
        "epochs": 3, "dataset": "synthetic", "gammas": [0.0], "seeds": [0, 1],
    }  # fmt: skip


def test_runs_are_kept_and_other_settings_refused(tmp_path: Path) -> None:
    CALLS.clear()
    cell = study().cells()[0]
    first = run_cell(study(), tmp_path, SETTINGS, cell)
    assert first == read_json(tmp_path / "gamma0/seed0.json")
    assert run_cell(study(), tmp_path, SETTINGS, cell) == first
    assert CALLS == [cell]
    assert run_cells(study(), tmp_path, SETTINGS, [cell]) == [first]
    for again in (run_cell, run_cells):
        wanted: Any = cell if again is run_cell else [cell]
        with pytest.raises(ValueError, match=r"settings \(epochs\); expected \{'epochs': 4\}"):
            again(study(), tmp_path, {"epochs": 4}, wanted)


def test_missing_runs_are_run_in_other_processes(tmp_path: Path) -> None:
    lines: list[tuple[str, int]] = []
    cells = study().cells()
    run_cell(study(), tmp_path, SETTINGS, cells[0])
    contents = run_cells(
        study(), tmp_path, SETTINGS, cells[:2], done=lambda file, left: lines.append((file, left))
    )
    assert lines == [("gamma2/seed0.json", 0)]
    assert [content["figures"][0]["value"] for content in contents] == [0.5, 0.6]


def test_rows_are_figures_means_and_differences_seed_by_seed() -> None:
    cells = study().cells()
    rows = check_rows(seed_rows(study(), cells, [measured(SETTINGS, c) for c in cells]))
    single = [r for r in rows if r["seed"] is not None and r["metric"] == "auroc"]
    assert [r["value"] for r in single] == [0.5, 0.6, 0.7, 1.0]
    assert {(r["fold"], r["n"]) for r in single} == {(0, 7)}
    pooled = {(r["metric"], r["condition"]["gamma"]): r for r in rows if r["seed"] is None}
    assert pooled["auroc", 2.0]["value"] == pytest.approx(0.8)
    assert pooled["auroc", 2.0]["ci_high"] == 1.0  # Student's interval would leave [0, 1]
    difference = pooled["auroc_difference", 2.0]
    oracle = student_interval([0.1, 0.3])
    assert difference["value"] == pytest.approx(0.2)
    assert difference["ci_low"] == pytest.approx(oracle.low)
    assert difference["condition"] == {"gamma": 2.0, "against_gamma": 0.0}
    assert ("auroc_difference", 0.0) not in pooled
    assert ("gap", 0.0) not in pooled  # undefined for every seed
    gaps = [r for r in rows if r["metric"] == "gap"]
    assert {(r["value"], r["seed"]) for r in gaps} == {(None, 0), (None, 1)}
    assert gaps[0]["condition"] == {"gamma": 0.0, "shown": "both"}


def test_an_unbounded_metric_keeps_its_interval() -> None:
    cells = study().cells()
    free = study(unbounded=("auroc",))
    rows = seed_rows(free, cells, [measured(SETTINGS, c) for c in cells])
    high = [r["ci_high"] for r in rows if r["seed"] is None and r["metric"] == "auroc"]
    oracle = student_interval([0.6, 1.0]).high
    assert max(high) == pytest.approx(oracle)
    assert oracle > 1


def test_the_command_names_the_study_and_its_files() -> None:
    block = study(folder="runs/x", also_written=("maps.json",)).command
    assert "python tools/study.py 99_study --output-dir runs/x --workers 2" in block
    assert "cp runs/x/results.json book/results/99_study.json" in block
    assert "cp runs/x/maps.json book/results/99_study_maps.json" in block


def test_seeds_that_share_their_test_parts_are_averaged_first() -> None:
    values = {0: 0.1, 1: 0.4, 2: 0.3, 3: 0.8, 4: 0.5}  # blocks 0, 2, 4 and 1, 3 modulo 2
    found = interval_over_seeds(values, 2)
    assert found[:3] == pytest.approx(student_interval([0.3, 0.6])[:3])
    assert found.n == 2
    every = student_interval(list(values.values()))
    assert interval_over_seeds(values) == interval_over_seeds(values, 5) == every
    gap = difference_by_seed(values, {seed: 0.1 * seed for seed in (1, 2, 3, 9)}, 2)
    assert gap[:3] == pytest.approx(student_interval([0.1, 0.4])[:3])
