"""Answers of folds' models are kept, and computed again where anything they depend on changed."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from gainbook.lab import folds
from gainbook.lab.folds import FOLDER, Question, ask_folds, kept_answers, of_each
from gainbook.lab.measures import Measure
from gainbook.lab.systems import System


def answer() -> dict[str, pd.DataFrame]:
    table = pd.DataFrame(
        {
            "name": ["a", "b", "None"],
            "value": [0.1 + 0.2, math.nan, 1e-300],
            "single": np.array([0.1, 2, 3], dtype=np.float32),
            "is_defective": [True, False, True],
            "count": [1, 2, 3],
        }
    )
    return {"S1": table, "S5": table.iloc[:1]}


@pytest.fixture
def paths(tmp_path: Path) -> dict[str, Path]:
    found = {}
    for name in ("S1", "S5"):
        found[name] = tmp_path / f"{name}.bin"
        found[name].write_text(name)
    return found


def test_kept_answers_are_the_same_and_nobody_is_asked_twice(
    paths: dict[str, Path], tmp_path: Path
) -> None:
    about = {"question": "answer", "fold": 0}
    first = kept_answers(tmp_path, paths, about, answer)
    again = kept_answers(tmp_path, paths, about, lambda: pytest.fail("kept answers are read"))
    assert list(again) == list(first)
    for name, table in first.items():
        pd.testing.assert_frame_equal(table, again[name], check_exact=True)


@pytest.mark.parametrize("what", ["fold", "model", "threshold"])
def test_another_fold_or_model_is_computed_anew(
    what: str, paths: dict[str, Path], tmp_path: Path
) -> None:
    kept_answers(tmp_path, paths, {"fold": 0}, answer)
    if what == "model":
        paths["S5"].write_text("trained on")
    elif what == "threshold":  # bit for bit the same weights
        paths["S5"].with_suffix(".json").write_text('{"threshold": 0.9}')
    called = []

    def ask() -> dict[str, pd.DataFrame]:
        called.append(1)
        return answer()

    kept_answers(tmp_path, paths, {"fold": 1 if what == "fold" else 0}, ask)
    assert called
    assert len(list((tmp_path / FOLDER).iterdir())) == 2


CALLS: list[tuple[list[str], str]] = []


def which(models: Mapping[str, Any], test: Any, suffix: str = "") -> dict[str, pd.DataFrame]:
    """One row per model and test part."""
    CALLS.append((list(models.values()), test))
    return {
        name: pd.DataFrame({"name": [test], "group": [test], "model": [model + suffix], "x": 1.0})
        for name, model in models.items()
    }


QUESTION = Question(which, (Measure("x", "x"),))


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_every_fold_s_models_meet_their_own_part_once(
    seeds: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fold_of(seed: int, fold: int) -> Any:
        name = f"part {seed}{fold}"
        return SimpleNamespace(test=name, fingerprint=name, image_size=8)

    pooled: dict[str, Any] = {}
    for system in ("S1", "S5"):
        runs = []
        for seed in seeds:
            paths = [tmp_path / f"{system}-{seed}{fold}.safetensors" for fold in range(2)]
            for path in paths:
                path.write_text(path.stem)
            runs.append(SimpleNamespace(model_paths=paths))
        pooled[system] = runs
    monkeypatch.setattr(folds, "load_fold", lambda p, seed: functools.partial(fold_of, seed))
    monkeypatch.setattr(folds, "load", lambda path: path.read_text())
    p: Any = SimpleNamespace(output_dir=str(tmp_path / "out"), seeds=seeds, folds=2)
    CALLS.clear()
    first = ask_folds(p, pooled, QUESTION)
    assert len(CALLS) == 2 * len(seeds)
    for system, table in first.items():
        places = [(seed, fold) for seed in seeds for fold in range(2)]
        assert list(table["model"]) == [f"{system}-{seed}{fold}" for seed, fold in places]
        assert table["name"].is_unique
        assert list(table["group"]) == [f"part {seed}{fold}" for seed, fold in places]
        assert list(zip(table["seed"], table["fold"], strict=True)) == places
    again = ask_folds(p, pooled, QUESTION)
    assert len(CALLS) == 2 * len(seeds)
    for system, table in first.items():
        pd.testing.assert_frame_equal(table, again[system])
    other = ask_folds(p, pooled, Question(which, (), {"suffix": "!"}))
    assert len(CALLS) == 4 * len(seeds)
    assert other["S1"]["model"].str.endswith("!").all()
    one = Question(which, (), {"suffix": "?"}, systems=(System("S1", "S1", 4, "one"),))
    assert set(ask_folds(p, pooled, one)) == {"S1"}


def test_answers_depend_on_the_core_and_the_question_s_module_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code = QUESTION.identity["code"]
    assert Question(which, ()).identity["code"] == code
    assert Question(answer_of_each, ()).identity["code"] == code  # the same module
    assert Question(kept_answers, ()).identity["code"] != code  # type: ignore[arg-type]
    monkeypatch.setattr(folds, "CORE", "another")
    assert Question(which, ()).identity["code"] != code


@of_each
def answer_of_each(model: float, dataset: Any) -> pd.DataFrame:
    """One row: the model times the part."""
    return pd.DataFrame({"name": ["a"], "group": ["g"], "x": [model * dataset]})


def test_a_question_about_one_model_becomes_one_about_several() -> None:
    tables = answer_of_each({"S1": 2, "S5": 3}, 10)
    assert {name: table["x"].item() for name, table in tables.items()} == {"S1": 20, "S5": 30}
    assert Question(answer_of_each, ()).name.endswith("answer_of_each")


def test_rows_by_fold_pooled_and_paired() -> None:
    a, b = System("a", "S1", 4, "a"), System("b", "S5", 4, "b")
    table = pd.DataFrame(
        {"name": list("pqrs"), "group": list("pqrs"), "x": [1.0, 2, 3, 4], "seed": 0,
         "fold": [0, 0, 1, 1]}
    )  # fmt: skip
    twice = table.assign(x=2 * table["x"])
    extra = {"metric": "more"}
    question = Question(
        which, lambda t: [Measure("x", "x")], by_fold=True, more=lambda *given: [extra]
    )
    rows = question.rows({"a": table, "b": twice}, (a, b), [(b, a)], "set", resamples=50)
    values = [(r["system"], r["fold"], r["metric"], r["value"]) for r in rows[:-1]]
    assert values == [
        ("S1", 0, "x", 1.5), ("S1", 1, "x", 3.5), ("S1", None, "x", 2.5),
        ("S5", 0, "x", 3.0), ("S5", 1, "x", 7.0), ("S5", None, "x", 5.0),
        ("S5", None, "x_difference", 2.5),
    ]  # fmt: skip
    assert rows[-1] is extra
    alone = question.rows({"a": table}, (a, b), [(b, a)], "set", resamples=50)
    assert {r["system"] for r in alone} == {"S1"}


def test_a_question_about_validation_images_with_the_run_s_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def score(models: Mapping[str, Any], images: str, seed: int) -> dict[str, pd.DataFrame]:
        CALLS.append((list(models.values()), images))
        return {
            name: pd.DataFrame({"name": [images], "group": [images], "drawn": [seed]})
            for name in models
        }

    def fold_of(seed: int, fold: int) -> Any:
        return SimpleNamespace(test=None, val=f"val {seed}", fingerprint="same", image_size=8)

    (tmp_path / "model.bin").write_text("S1")
    runs = [SimpleNamespace(model_paths=[tmp_path / "model.bin"]) for _ in range(2)]
    monkeypatch.setattr(folds, "load_fold", lambda p, seed: functools.partial(fold_of, seed))
    monkeypatch.setattr(folds, "load", lambda path: path.read_text())
    p: Any = SimpleNamespace(output_dir=str(tmp_path / "out"), seeds=(3, 7), folds=1)
    CALLS.clear()
    for _ in range(2):
        table = ask_folds(p, {"S1": runs}, Question(score, (), part="val", seeded=True))["S1"]  # type: ignore[dict-item]
        assert table["drawn"].tolist() == [3, 7]
        assert table["group"].tolist() == ["val 3", "val 7"]
    assert len(CALLS) == 2  # kept by seed, although model and data are the same
    assert Question(which, ()).identity != Question(which, (), part="val").identity
