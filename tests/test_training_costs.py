"""What folds took, from the checkpoints that they left."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from safetensors.torch import save_file

from gainmtl.checkpoints import CHECKPOINT
from gainmtl.files import write_json
from gainmtl.protocol import FACTS

ROOT = Path(__file__).resolve().parents[1]


def leave(folder: Path, seconds: list[float], scoring: float) -> None:
    folder.mkdir(parents=True)
    rows = ", ".join(f'{{"seconds": {one}}}' for one in seconds)
    save_file({"w": torch.zeros(1)}, folder / CHECKPOINT, {"run": f'{{"history": [{rows}]}}'})
    write_json(folder / FACTS, {"scoring_seconds": scoring})


def test_costs_are_added_up_over_finished_folds(tmp_path: Path) -> None:
    for fold in range(2):
        leave(tmp_path / "S1" / "seed0" / f"fold{fold}", [1.0, 2.0], 0.5)
    leave(tmp_path / "S5" / "seed0" / "fold0", [1.0], 0.5)  # one fold of two
    spec = importlib.util.spec_from_file_location("costs", ROOT / "tools" / "training_costs.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert tool.costs(tmp_path, folds=2) == {"S1": 7.0}
