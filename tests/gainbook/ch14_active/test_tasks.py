"""The real sets: parts that share no board and no tile."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from gainbook.chapters.ch14_active import tasks
from gainbook.chapters.ch14_active.tasks import Split, draw


def test_draw_keeps_the_quota() -> None:
    labels = np.array(["a"] * 9 + ["b"] * 3 + ["mixed"] * 4)
    rows = draw(labels, {"a": 4, "b": 5}, np.random.default_rng(0))
    assert (np.diff(rows) > 0).all()
    assert sorted(labels[rows].tolist()) == ["a"] * 4 + ["b"] * 3


def groups(split: Split) -> list[set[str]]:
    return [
        {part.dataset.groups[i] for i in part.rows.tolist()}
        for part in (split.pool, split.val, split.test)
    ]


@pytest.mark.real_data
@pytest.mark.skipif("GAINMTL_DATA" not in os.environ, reason="needs GAINMTL_DATA")
def test_boards_of_the_test_are_in_no_other_part() -> None:
    split = tasks.pcb(Path(os.environ["GAINMTL_DATA"]) / "deep-pcb", 32)
    assert len(split.pool.rows) == sum(tasks.PCB_POOL.values()) == 6100
    pool, val, test = groups(split)
    assert not pool & val
    designs = [{name.split("/")[0] for name in part} for part in (pool | val, test)]
    assert designs[1] == set(tasks.PCB_TEST)
    assert not designs[0] & designs[1]
    assert np.bincount(split.pool.labels).tolist() == list(tasks.PCB_POOL.values())
    for row, label in zip(split.pool.rows[:50], split.pool.labels[:50], strict=True):
        assert split.pool.dataset.defect_types[row] == split.classes[label]


@pytest.mark.real_data
@pytest.mark.skipif("GAINMTL_DATA" not in os.environ, reason="needs GAINMTL_DATA")
def test_magnetic_tiles_are_in_one_part_each() -> None:
    pool, val, test = groups(tasks.tiles(Path(os.environ["GAINMTL_DATA"]) / "magnetic-tile", 32))
    assert len(pool | val | test) == len(pool) + len(val) + len(test)
