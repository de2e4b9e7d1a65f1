"""Trials before the reference run use one fold's training part and no test images."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from gainbook.lab import tables
from gainbook.lab.catalogue import S1_FINE, S5
from PIL import Image

from gainmtl import datasets

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def tune():
    spec = importlib.util.spec_from_file_location("tune", ROOT / "tools/tune.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """20 normal and 12 defective images, each a group."""
    for kind, count, grey in (("normal", 20, 40), ("defective", 12, 80)):
        for i in range(count):
            path = tmp_path / "images" / kind / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((16, 16), grey + i, np.uint8)).save(path)
    return tmp_path


def test_inner_folds_leave_the_test_part_alone(tune, root: Path) -> None:
    outer = datasets.load("folder", root, image_size=16, fold=0, folds=4)
    inner = [tune.inner_fold(outer, k, 3, seed=0) for k in range(3)]
    left_out = [name for data in inner for name in data.test.names]
    assert sorted(left_out) == sorted([*outer.train.names, *outer.val.names])
    for data in inner:
        assert not set(data.train.groups) & set(data.test.groups)
        assert data.counts["train"]["images"] + data.counts["test"]["images"] == len(left_out)
        assert data.classes_in_train() == ("normal", "defective")
    assert len({data.fingerprint for data in inner}) == 1
    assert inner[0].fingerprint != outer.fingerprint


def test_every_system_has_the_same_trials(tune) -> None:
    assert next(iter(tune.TRIALS)) == "reference"
    figures = {key: [0.5, 0.25, 0.75] for key in tables.TRIAL_COLUMNS.values()}
    entries = [
        {"system": s.tag, "change": change, "figures": figures}
        for s in (S5, S1_FINE)
        for change in tune.TRIALS.values()
    ]
    table = tables.trials(entries, {S5.tag: "five", S1_FINE.tag: "one"})
    assert table.count("0.50 [0.25, 0.75]") == 3 * len(entries)
    assert table.count("| five |") == table.count("| one |") == len(tune.TRIALS)
    assert "as in the reference run" in table
