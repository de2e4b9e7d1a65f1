"""Training time of folds, from their checkpoints."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from gainbook.lab.protocol import FACTS
from safetensors.torch import save_file

from gainmtl.files import read_json, write_json
from gainmtl.training.checkpoint import CHECKPOINT

ROOT = Path(__file__).resolve().parents[2]


def write_fold(folder: Path, seconds: list[float], scoring: float) -> None:
    folder.mkdir(parents=True)
    rows = ", ".join(f'{{"seconds": {one}}}' for one in seconds)
    save_file({"w": torch.zeros(1)}, folder / CHECKPOINT, {"run": f'{{"history": [{rows}]}}'})
    write_json(folder / FACTS, {"scoring_seconds": scoring})


def load_tool() -> Any:
    spec = importlib.util.spec_from_file_location("costs", ROOT / "tools" / "training_costs.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool


def test_costs_are_added_up_over_finished_folds(tmp_path: Path) -> None:
    for fold in range(2):
        write_fold(tmp_path / "S1" / "seed0" / f"fold{fold}", [1.0, 2.0], 0.5)
    write_fold(tmp_path / "S5" / "seed0" / "fold0", [1.0], 0.5)  # one fold of two
    assert load_tool().costs(tmp_path, folds=2) == {"S1": 7.0}


def test_entries_of_other_systems_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = load_tool()
    for fold in range(5):
        write_fold(tmp_path / "runs" / "S1" / "seed0" / f"fold{fold}", [2.0], 0.0)
    output = tmp_path / "costs.json"
    write_json(output, {tool.SECONDS: {"runs": {"S1": 1.0, "S5": 2.0}, "others": {"S1": 3.0}}})
    given = ["tool", str(tmp_path / "runs"), "--output", str(output)]
    monkeypatch.setattr("sys.argv", given)
    tool.main()
    assert read_json(output)[tool.SECONDS] == {
        "runs": {"S1": 10.0, "S5": 2.0},
        "others": {"S1": 3.0},
    }
