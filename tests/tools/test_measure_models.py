"""The command line that times chapter 01's networks: resumed, and written once all are there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from gainbook.chapters.ch01_models import analysis, measure, study
from gainbook.lab.results_file import read_results
from gainbook.lab.study import own_rows

from tools import measure_models


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two networks at one small side, no blocks, and rows of few resamples."""
    kept = {tag: measure.SUBJECTS[tag] for tag in ("mobilenetv2_100", "stfpm-resnet18")}
    monkeypatch.setattr(measure_models, "SUBJECTS", kept)
    monkeypatch.setattr(measure_models, "SIDES", (64,))
    monkeypatch.setattr(measure, "PLACES", ())
    monkeypatch.setattr(measure_models, "all_rows", lambda rows: rows)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_part_first_then_all(
    small: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--output-dir", str(tmp_path), "--turns", "1"]
    measure_models.main([*words, "--only", "stfpm-resnet18"])
    assert not (tmp_path / "results.json").exists()
    assert "no results without all networks" in capsys.readouterr().out
    measure_models.main(words)
    printed = capsys.readouterr().out
    assert "mobilenetv2_100-64: " in printed
    assert "stfpm-resnet18-64: " not in printed  # it was there
    results = read_results(tmp_path / "results.json")
    assert results.notebook == study.NOTEBOOK
    assert results.parameters["networks"] == ["mobilenetv2_100", "stfpm-resnet18"]
    assert results.provenance["command"] == study.RUN_COMMAND
    assert len(own_rows(results)) == len(results.rows) == 2 * len(measure.METRICS)
    assert set(results.rows["dataset"]) == {analysis.DATASET}
