"""The command line of studies: over seeds, and a chapter's on tiles of boards."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from gainbook.chapters import studies
from gainbook.lab import run_system
from gainbook.lab.catalogue import PLAIN, S5
from gainbook.lab.judge import NOT_RUN
from gainbook.lab.results_file import check_rows
from gainbook.lab.seed_study import Cell, SeedStudy, figure, run_cell
from gainbook.lab.study import judge
from PIL import Image

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


def test_a_chapters_study_on_boards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "deep-pcb"
    (root / "group1").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(20):
        template = rng.random((256, 256)) < 0.5
        tested = template.copy()
        tested[40:70, 40:70] ^= True
        for kind, bits in (("test", tested), ("temp", template)):
            Image.fromarray(bits).save(root / f"group1/{number}_{kind}.png")
        (root / f"group1/{number}.txt").write_text("38,38,72,72,1")
    monkeypatch.setattr(run_system, "BOARD_TILES", {"defective": 8, "normal": 8, "test_tiles": 8})
    # In this process, which has the small sizes.
    monkeypatch.setattr(tool, "worker_pool", ThreadPoolExecutor)
    name, out = "06_guided_attention_boards", tmp_path / "out"
    words = [
        name, "--data-root", str(root), "--output-dir", str(out), "--seeds", "0",
        "--image-size", "32", "--backbone", "test_efficientnet", "--epochs", "1",
        "--weights", run_system.WEIGHTS, "--results", str(tmp_path / "kept.json"),
    ]  # fmt: skip
    tool.main(words)
    kept = read_json(tmp_path / "kept.json")
    rows = check_rows(kept["rows"])
    study = studies()[name]
    assert {r["system"] for r in rows} == {s.name for s in study.systems}
    assert {r["dataset"] for r in rows} == {"deep-pcb"}
    assert str(tmp_path) not in kept["provenance"]["command"]
    for claim in study.claims:
        assert judge(claim, pd.DataFrame(rows)).verdict != NOT_RUN
