"""The stop rule: one more round until level, by validation data, and no training on its own."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from gainbook.chapters.ch12_fostering import branch_rounds
from gainbook.chapters.ch12_fostering.branch_rounds import (
    Rounds,
    first_round_rows,
    is_level,
    run_rounds,
    stored_rounds,
    validation_difference,
)
from gainbook.chapters.ch12_fostering.systems import branch
from gainbook.lab import folds
from gainbook.lab import results_file as runs
from gainbook.lab.catalogue import PLAIN
from gainbook.lab.parameters import Parameters

from gainmtl import metrics
from gainmtl.evaluation.stats import PairedInterval


def parameters(**changes: Any) -> Parameters:
    given = {
        "notebook": "99_none", "dataset": "folder", "data_root": None, "image_size": 64,
        "backbone": "test_efficientnet", "weights": None, "epochs": 10, "batch_size": 16,
        "learning_rate": 1e-3, "folds": 2, "seeds": (0, 1), "accelerator": "cpu", "devices": 1,
        "precision": "32-true", "output_dir": "runs",
    }  # fmt: skip
    return Parameters(**{**given, **changes})


def gap(middle: float) -> PairedInterval:
    return PairedInterval(middle, middle - 0.02, middle + 0.02, 50, 0.5)


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Rounds lose 0.1, 0.03, 0.01; what was run is listed."""
    ran: list[str] = []
    lost = {branch(k).tag: value for k, value in ((1, -0.1), (2, -0.03), (3, -0.01))}

    def run(p: Parameters, system: Any) -> Any:
        ran.append(system.tag)
        return system

    def difference(p: Parameters, first: Any, second: Any) -> PairedInterval:
        assert second is PLAIN
        return gap(lost[first.tag])

    monkeypatch.setattr(branch_rounds, "run", run)
    monkeypatch.setattr(branch_rounds, "validation_difference", difference)
    monkeypatch.setattr(branch_rounds, "is_finished", lambda p, system: False)
    return ran


def test_level_is_not_below() -> None:
    assert is_level(gap(0.0))
    assert is_level(gap(0.5))
    assert not is_level(gap(-0.03))
    assert not Rounds(1, {}, [], 10).level


def test_rounds_go_on_until_level_or_the_cap(rounds: list[str]) -> None:
    result = run_rounds(parameters(), PLAIN, 5, more=True)
    assert (result.number, result.level, list(result.differences)) == (3, True, [1, 2, 3])
    assert branch(4).tag not in rounds
    capped = run_rounds(parameters(), PLAIN, 2, more=True)
    assert (capped.number, capped.level) == (2, False)


def test_without_more_nothing_is_trained(rounds: list[str]) -> None:
    assert run_rounds(parameters(), PLAIN, 3) == Rounds(1, {}, [], 10)
    assert rounds == []


def test_stored_rows_give_the_same(rounds: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    result = run_rounds(parameters(), PLAIN, 5, more=True)
    kept = SimpleNamespace(
        rows=pd.DataFrame(runs.check_rows(result.rows)), parameters={"epochs": 7}
    )
    monkeypatch.setattr(branch_rounds, "reference", lambda name: kept)
    again = run_rounds(parameters(dataset="synthetic"), PLAIN, 1)
    assert again == Rounds(3, result.differences, [], 7)

    def missing(name: str) -> Any:
        raise FileNotFoundError(name)

    monkeypatch.setattr(branch_rounds, "reference", missing)
    assert run_rounds(parameters(dataset="synthetic"), PLAIN, 3) == Rounds(1, {}, [], 10)


def test_the_difference_is_of_validation_images_of_all_folds_and_seeds(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Against the pooled AUROC computed apart; the fold has no test part with images."""
    rng = np.random.default_rng(0)
    scores: dict[str, Any] = {}
    labels = {}
    for seed in (0, 1):
        for fold in (0, 1):
            labels[seed, fold] = np.arange(12) < 6
            for system in "ab":
                scores[f"{system}{seed}{fold}"] = rng.random(12) + 0.3 * labels[seed, fold]

    def load_fold(p: Parameters, seed: int) -> Any:
        def data(fold: int) -> Any:
            groups = [f"part{k // 2}" for k in range(12)]
            names = [f"{seed}{fold}{k}" for k in range(12)]
            val = SimpleNamespace(key=(seed, fold), groups=groups, names=names)
            return SimpleNamespace(val=val, test=None, fingerprint=f"{seed}{fold}", image_size=8)

        return data

    def defect_scores(model: str, val: Any) -> Any:
        return scores[model], labels[val.key]

    monkeypatch.setattr(folds, "load_fold", load_fold)
    monkeypatch.setattr(folds, "load", lambda path: path.name)
    monkeypatch.setattr(folds, "defect_scores", defect_scores)
    pair: list[Any] = [
        [SimpleNamespace(model_paths=tuple(tmp_path / f"{s}{seed}{fold}" for fold in (0, 1)))
         for seed in (0, 1)]
        for s in "ab"
    ]  # fmt: skip
    p = parameters(output_dir=str(tmp_path / "out"))
    result = validation_difference(p, pair[0], pair[1], resamples=50)
    true = np.concatenate(list(labels.values()))
    whole = [np.concatenate([scores[f"{s}{a}{b}"] for a, b in labels]) for s in "ab"]
    assert result.value == metrics.auroc(whole[0], true) - metrics.auroc(whole[1], true)
    assert result.n == 48
    assert result.low < result.value < result.high


def test_a_study_that_trains_the_network_once_has_its_first_round(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared = []

    def difference(p: Parameters, first: Any, second: Any) -> PairedInterval:
        compared.append((first, second))
        return gap(-0.01)

    monkeypatch.setattr(branch_rounds, "validation_difference", difference)
    run: Any = SimpleNamespace(
        parameters=parameters(), pooled={branch().tag: "network", PLAIN.tag: "plain"}
    )
    rows = pd.DataFrame(first_round_rows(run, PLAIN))
    assert compared == [("network", "plain")]
    (one,) = stored_rounds(rows)
    assert (one.number, one.epochs, one.difference.value) == (1, None, -0.01)
