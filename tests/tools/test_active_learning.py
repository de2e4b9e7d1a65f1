"""The command line of chapter 14's comparison on a tiny set: runs, resumed, results, page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from gainbook.chapters.ch14_active import page, study, tasks
from gainbook.chapters.ch14_active.methods import METHODS
from gainbook.chapters.ch14_active.tasks import Setting
from gainbook.lab.judge import NOT_RUN
from gainbook.lab.results_file import read_results
from gainbook.lab.study import judge_stored

from tools import active_learning

WEIGHTS = Path(__file__).parents[2] / "book/weights/test_efficientnet_synthetic.safetensors"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """15 classes of few small parts, two rounds, a small backbone."""
    setting = Setting(first=1, batch=8, rounds=2, image_size=32)
    monkeypatch.setattr(active_learning, "SETTINGS", {"synthetic": setting})
    monkeypatch.setattr(active_learning, "split_of", lambda *_: tasks.synthetic(32, 2))
    monkeypatch.setattr(active_learning, "BACKBONE", "test_efficientnet")
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_a_whole_run(small: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["synthetic", "--output-dir", str(tmp_path), "--weights", str(WEIGHTS), "--seeds", "0"]
    active_learning.main([*words, "--tune"])
    assert "15 labels, decay 0.003: " in capsys.readouterr().out
    assert not (tmp_path / "synthetic").exists()
    active_learning.main([*words, "1"])
    path = tmp_path / "synthetic" / "results.json"
    results = read_results(path)
    runs = {p: p.stat().st_mtime_ns for p in path.parent.glob("*-?.json")}
    assert len(runs) == 2 * 14
    active_learning.main([*words, "1"])
    assert {p: p.stat().st_mtime_ns for p in runs} == runs  # nothing ran again
    assert str(tmp_path) not in path.read_text("utf-8")
    assert results.provenance["command"] == study.SYNTHETIC.made_by.splitlines()[0]
    for claim in study.SYNTHETIC.claims:
        assert judge_stored(claim, results).verdict != NOT_RUN
    rows = {"synthetic": results.rows}
    table = page.methods_table(results.rows)
    assert table.count("\n") == len(METHODS) + 1
    assert table.count("–") == 1  # the reference saves nothing against itself
    for text in (
        page.map_table(rows), page.duplication_table(rows), page.exclusion_table(rows),
        page.headline_table(rows), page.target_text(rows), page.leaking_text(rows),
        *page.answer(rows), page.claims_text(rows, "E1", "words"),
    ):  # fmt: skip
        assert "fifteen classes" in text
        assert "nan" not in text
    wins = page.wins_table(results.rows)
    assert wins.shape == (11, 11)
    assert len(page.curve_table(rows)) == 3 * len(page.SHOWN)
