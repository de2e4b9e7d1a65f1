"""What the studies share: files that are read again, and where a tool's rows go."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
from gainbook.lab import study_runs

from gainmtl.files import read_json

AXES = {"gammas": (0.0, 2.0), "kinds": ("plain", "marked"), "seeds": (0, 1)}
STORED = Path("book/results/study.json")


def asked(*words: str) -> study_runs.Asked:
    settings = {"epochs": 3, "learning_rate": 0.1}
    return study_runs.asked("A study.", "runs/study", AXES, settings, STORED, words)


class Cell(NamedTuple):
    file: str


def test_the_whole_grid_goes_to_the_stored_file() -> None:
    found = asked()
    assert found.axes == {"gammas": [0.0, 2.0], "kinds": ["plain", "marked"], "seeds": [0, 1]}
    assert found.settings == {"epochs": 3, "learning_rate": 0.1}
    assert (found.folder, found.workers, found.results) == (Path("runs/study"), 1, STORED)
    assert asked("--seeds", "1", "0", "--workers", "2").results == STORED


@pytest.mark.parametrize(
    "words", [("--seeds", "0"), ("--gammas", "2"), ("--kinds", "plain"), ("--epochs", "1")]
)
def test_a_part_of_the_grid_leaves_the_stored_file_alone(words: tuple[str, ...]) -> None:
    assert asked(*words).results == Path("runs/study/results.json")
    assert asked(*words, "--output-dir", "here").results == Path("here/results.json")
    assert asked(*words, "--results", str(STORED)).results == STORED


def test_a_name_that_no_axis_has_is_refused() -> None:
    with pytest.raises(SystemExit):
        asked("--kinds", "other")


def test_one_run_is_written_once_and_refuses_other_settings(tmp_path: Path) -> None:
    calls = []

    def execute(settings: dict[str, Any], cell: Cell) -> dict[str, Any]:
        calls.append(cell)
        return {"settings": settings, "value": (1, 2)}

    cell = Cell("a/seed0.json")
    first = study_runs.read_or_run(tmp_path, {"epochs": 1}, cell, execute)
    assert first == read_json(tmp_path / cell.file) == {"settings": {"epochs": 1}, "value": [1, 2]}
    assert study_runs.read_or_run(tmp_path, {"epochs": 1}, cell, execute) == first
    assert calls == [cell]
    for wanted in (study_runs.read_or_run, study_runs.run):
        cells: Any = cell if wanted is study_runs.read_or_run else [cell]
        with pytest.raises(ValueError, match=r"settings \(epochs\); expected \{'epochs': 2\}"):
            wanted(tmp_path, {"epochs": 2}, cells, execute)
