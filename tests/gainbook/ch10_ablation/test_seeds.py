"""The study over seeds: its grid, its rows, and one run."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from gainbook.chapters.ch10_ablation.ladder import S1, S2, SIX
from gainbook.chapters.ch10_ablation.page import difference
from gainbook.chapters.ch10_ablation.study import SEEDS
from gainbook.lab import results_file as runs
from gainbook.lab.seed_study import figure, seed_rows
from gainbook.lab.tables import find

TINY = {
    **SEEDS.settings, "image_size": 32, "train": 16, "val": 8, "test": 12, "epochs": 1,
    "weights": None,
}  # fmt: skip


def content(auroc: float, selectivity: float = 0.5) -> dict[str, Any]:
    return {"figures": [figure("auroc", auroc), figure("selectivity", selectivity, level="image")]}


def test_the_grid_is_whole_seed_by_seed() -> None:
    cells = SEEDS.cells()
    assert len(cells) == len(set(cells)) == 60
    assert [SEEDS.system(cell) for cell in cells[:6]] == list(SIX)
    assert {cell["seed"] for cell in cells[:12]} == {0}
    assert SEEDS.file(cells[0]) == "S1-stride4/plain/seed0.json"
    assert len({SEEDS.file(cell) for cell in cells}) == 60


def test_rows_are_by_seed_over_seeds_and_in_pairs() -> None:
    cells = SEEDS.cells(system=[S1.tag, S2.tag], setting=["plain"], seed=[0, 1])
    auroc = {("S1", 0): 0.6, ("S1", 1): 0.8, ("S2", 0): 0.7, ("S2", 1): 0.9}
    contents = [
        content(auroc[name, seed], math.nan if (name, seed) == ("S2", 1) else 0.5)
        for cell in cells
        for name, seed in [(SEEDS.system(cell).name, cell["seed"])]
    ]
    rows = pd.DataFrame(runs.check_rows(seed_rows(SEEDS, cells, contents)))
    assert find(rows, S1, "auroc", setting="plain").value == pytest.approx(0.7)
    gain = difference(rows, S2, S1, ("auroc", None, {}), setting="plain")
    assert gain[:3] == pytest.approx((0.1, 0.1, 0.1))  # seed by seed, always the same
    assert gain.n == 2
    one = difference(rows, S2, S1, ("selectivity", None, {"level": "image"}), setting="plain")
    assert one.value == 0
    assert math.isnan(one.low)
    assert np.isnan(difference(rows, S1, S2, ("auroc", None, {}), setting="plain").value)


def test_the_study_names_its_command() -> None:
    assert "tools/study.py 10_synthetic" in SEEDS.command


def test_a_run_measures_verdict_map_and_reasons() -> None:
    (cell,) = SEEDS.cells(system=[S2.tag], setting=["shortcut"], seed=[0])
    made = SEEDS.train_and_measure(TINY, cell)
    metrics = {one["metric"] for one in made["figures"]}
    assert {"auroc", "iou", "flip_rate", "selectivity", "cpu_seconds_per_epoch"} <= metrics
    runs.check_rows(seed_rows(SEEDS, [cell], [made]))
