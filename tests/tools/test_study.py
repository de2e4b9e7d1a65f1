"""The command line of studies over seeds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from gainbook.lab.catalogue import PLAIN, S5
from gainbook.lab.seed_study import Cell, SeedStudy, figure, run_cell

from gainmtl.files import read_json
from tools import study as tool


def measured(settings: Mapping[str, Any], cell: Cell) -> dict[str, Any]:
    """The content of one run."""
    return {
        "settings": dict(settings), "figures": [figure("auroc", 0.5 + cell["seed"] / 10)],
        "seconds": 1.0, "commit": "abc",
    }  # fmt: skip


STUDY = SeedStudy(
    name="99_study",
    notebook="99",
    title="A study",
    axes={"system": (PLAIN.tag, S5.tag), "seed": (0, 1)},
    train_and_measure=measured,
    subject=lambda cell: (cell["system"], {}),
    file=lambda cell: f"{cell['system']}/{cell['seed']}.json",
    settings={"epochs": 3},
    systems=(PLAIN, S5),
)


def test_finished_runs_alone_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool, "studies", lambda: {STUDY.name: STUDY})
    words = [STUDY.name, "--finished", "--output-dir", str(tmp_path)]
    with pytest.raises(SystemExit):  # there are none
        tool.main(words)
    for cell in (STUDY.cells()[0], STUDY.cells()[-1]):
        run_cell(STUDY, tmp_path, STUDY.settings, cell)
    tool.main(words)
    written = read_json(tmp_path / "results.json")
    assert written["provenance"]["runs"] == [f"{PLAIN.tag}/0.json", f"{S5.tag}/1.json"]
    assert [(r["system"], r["seed"]) for r in written["rows"] if r["seed"] is not None] == [
        (PLAIN.tag, 0), (S5.tag, 1),
    ]  # fmt: skip
    assert not (tmp_path / PLAIN.tag / "1.json").exists()
