"""Scores of gates on a test set, their rows, and the two verdicts at their borders."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from gainbook.chapters.ch05_attention import gate_scores
from gainbook.chapters.ch05_attention.gate_scores import (
    gate_rows,
    judge_refinement,
    judge_temperature,
    score_gates,
    temperature_rows,
    temperatures,
)
from gainbook.chapters.ch05_attention.gates import cell_auroc
from gainbook.lab import components
from gainbook.lab import results_file as runs
from gainbook.lab.chapter_results import Results
from gainbook.lab.parameters import Parameters
from gainbook.lab.protocol import Pooled
from gainbook.lab.tables import Value, find

from gainmtl import datasets
from gainmtl import io as persistence
from gainmtl.evaluation.scoring import Scores
from gainmtl.model import GAINMTL

SYSTEM = components.ATTENTION_CBAM


@pytest.fixture(scope="module")
def parts() -> datasets.Data:
    return datasets.load("synthetic", image_size=32, train=8, val=8, test=12)


@pytest.fixture(scope="module")
def model() -> GAINMTL:
    torch.manual_seed(0)
    return GAINMTL("test_efficientnet", SYSTEM.strategy, output_stride=4).eval()


def test_scores_are_the_measures_of_the_maps(parts: datasets.Data, model: GAINMTL) -> None:
    table = score_gates(model, parts.test, batch_size=5)
    assert len(table) == 12
    whole = [parts.test[i] for i in range(12)]
    images = model.preprocess(torch.stack([sample.image for sample in whole]))
    masks = torch.stack([sample.mask for sample in whole])
    with torch.no_grad():
        out = model(images)
    assert out.attention_logits is not None
    for name, maps in (("attention", out.attention_logits), ("cam", out.cam)):
        np.testing.assert_allclose(
            table[f"{name}.cell_auroc"], cell_auroc(maps, masks).numpy(), atol=0.02
        )
    assert (table["cam.contrast"].notna() == table["is_defective"]).all()
    assert {"spatial.cell_auroc", "spatial.contrast"} <= set(table.columns)
    # at the start T is 1, and setting it to 1 changes nothing
    np.testing.assert_allclose(table["attention.entropy"], table["attention.entropy_at_one"])
    assert table["attention.entropy"].notna().all()


def test_swapped_masks_leave_what_is_read_alone(parts: datasets.Data, model: GAINMTL) -> None:
    class Swapped(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(parts.test)  # type: ignore[arg-type]

        def __getitem__(self, index: int) -> object:
            sample = parts.test[index]
            return sample._replace(mask=1 - sample.mask)

    there = score_gates(model, parts.test)
    swapped = score_gates(model, Swapped())
    assert (there["attention.entropy"] == swapped["attention.entropy"]).all()
    total = there["cam.cell_auroc"] + swapped["cam.cell_auroc"]
    np.testing.assert_allclose(total.dropna(), 1, atol=1e-9)


def test_rows_say_which_gate(parts: datasets.Data, model: GAINMTL) -> None:
    table = score_gates(model, parts.test)
    rows = gate_rows(table, "set", SYSTEM, resamples=50)
    assert runs.check_rows(rows)
    frame = pd.DataFrame(rows)
    gate = find(frame, SYSTEM, "cell_auroc", "attention", gate="spatial")
    assert gate.value == pytest.approx(table["spatial.cell_auroc"].mean())
    assert gate.n == int(table["is_defective"].sum())
    assert find(frame, SYSTEM, "cell_auroc", "cam").n == gate.n
    assert find(frame, SYSTEM, "entropy", "attention", gate="attention").n == 12
    empty = gate_rows(table.assign(**{"cam.contrast": math.nan}), "set", SYSTEM, resamples=50)
    assert len(empty) == len(rows) - 1


def test_folds_are_read_and_their_rows_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: datasets.Data, model: GAINMTL
) -> None:
    p = Parameters(dataset="set", seeds=(0,), folds=2, notebook="none")
    paths = (persistence.save(model, tmp_path / "a"), persistence.save(model, tmp_path / "b"))
    history = pd.DataFrame({"epoch": [0, 0], "fold": [0, 1], "temperature": [0.9, 0.8]})
    empty = Scores(pd.DataFrame(), {})
    pooled = Pooled(SYSTEM.name, SYSTEM.condition, [], empty, history, ("c",), 1.0, paths)
    about: dict[str, Any] = {"condition": SYSTEM.condition, "seed": 0, "fold": 0}
    kept = [runs.row("set", SYSTEM.name, name, 0.5, **about) for name in ("auroc", "recall")]
    found = Results(pd.DataFrame(kept), "a note", {SYSTEM.tag: [pooled]})
    monkeypatch.setattr(gate_scores, "results", lambda *_: found)
    monkeypatch.setattr(gate_scores, "load_fold", lambda *_: lambda fold: parts)
    rows = gate_scores.gate_results(p, [SYSTEM]).rows
    assert rows is not None
    assert runs.check_rows(rows.to_dict("records"))
    assert "recall" not in set(rows["metric"])  # of one fold; only AUROC is kept by fold
    gate = find(rows, SYSTEM, "entropy", "attention", gate="attention")
    assert gate.n == 2 * len(parts.test)  # type: ignore[arg-type]
    assert temperatures(rows, SYSTEM)["temperature"].tolist() == [0.9, 0.8]
    stored = found._replace(pooled={})
    monkeypatch.setattr(gate_scores, "results", lambda *_: stored)
    assert gate_scores.gate_results(p, [SYSTEM]) is stored


def test_temperatures_come_back_as_they_went() -> None:
    history = pd.DataFrame({"epoch": [0, 1, 0, 1], "fold": [0, 0, 1, 1]})
    history["temperature"] = [1.0, 0.9, 1.0, 0.8]
    rows = temperature_rows(history, "set", SYSTEM, seed=3)
    other = temperature_rows(history, "set", components.ATTENTION_BARE, seed=3)
    assert runs.check_rows(rows + other)
    back = temperatures(pd.DataFrame(rows + other), SYSTEM)
    assert back["temperature"].tolist() == [1.0, 0.9, 1.0, 0.8]
    assert back["epoch"].tolist() == [1, 2, 1, 2]
    assert back["fold"].tolist() == [0, 0, 1, 1]
    assert set(back["seed"]) == {3}
    assert temperatures(pd.DataFrame(rows), components.PLAIN).empty


def value(low: float, high: float) -> Value:
    return Value((low + high) / 2, low, high, 10)


ABOVE, ACROSS, BELOW = value(0.01, 0.05), value(-0.01, 0.05), value(-0.05, -0.01)


def exact(figure: float) -> Value:
    return Value(figure, math.nan, math.nan, None)


CHEAP = {"parameters": exact(1.05), "operations": exact(1.01), "seconds": exact(1.10)}


@pytest.mark.parametrize(
    ("cost", "energy", "overlap", "expected"),
    [
        (CHEAP, ABOVE, ABOVE, "confirmed"),
        (CHEAP, ABOVE, ACROSS, "refined"),
        (CHEAP, BELOW, BELOW, "refined"),
        (CHEAP | {"seconds": exact(1.11)}, ABOVE, ABOVE, "refined"),
        (CHEAP | {"seconds": Value(1.2, 1.09, 1.4, 9)}, ABOVE, ABOVE, "confirmed"),  # a busy clock
        (CHEAP | {"seconds": Value(1.2, 1.11, 1.4, 9)}, ABOVE, ABOVE, "refined"),
        (CHEAP | {"parameters": exact(1.06)}, ACROSS, ABOVE, "refuted"),
        (CHEAP | {"operations": exact(1.06)}, BELOW, BELOW, "refuted"),
    ],
)
def test_refinement(cost: dict[str, Value], energy: Value, overlap: Value, expected: str) -> None:
    found = judge_refinement(cost, energy, overlap)
    assert found.verdict == expected
    assert found.figures["IoU"] is overlap


@pytest.mark.parametrize(
    ("ends", "sharper", "expected"),
    [
        ([0.5, 0.94], value(-0.05, -0.02), "confirmed"),
        ([0.5, 0.94], BELOW, "refined"),  # by less than a hundredth of a bit, perhaps
        ([0.5, 0.94], ABOVE, "refined"),
        ([0.5, 0.95], value(-0.05, -0.02), "refuted"),
        ([1.2], ABOVE, "refuted"),
    ],
)
def test_temperature(ends: list[float], sharper: Value, expected: str) -> None:
    found = judge_temperature(ends, sharper)
    assert found.verdict == expected
    assert found.figures["highest temperature at the end"].value == max(ends)


def test_no_run_is_no_verdict() -> None:
    with pytest.raises(ValueError, match="at least one run"):
        judge_temperature([], BELOW)
