"""Answers of folds' models are kept, and asked again only where something is another."""

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
from gainbook.lab import folds as fold_questions
from gainbook.lab.folds import FOLDER, kept_answers, name_of


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
    about = {"question": name_of(answer), "fold": 0}
    first = kept_answers(tmp_path, paths, about, answer)
    again = kept_answers(tmp_path, paths, about, lambda: pytest.fail("kept answers are read"))
    assert list(again) == list(first)
    for name, table in first.items():
        pd.testing.assert_frame_equal(table, again[name], check_exact=True)


@pytest.mark.parametrize("what", ["fold", "model", "threshold", "code"])
def test_another_fold_model_or_code_is_asked_anew(
    what: str, paths: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept_answers(tmp_path, paths, {"fold": 0}, answer)
    if what == "model":
        paths["S5"].write_text("trained on")
    elif what == "threshold":  # bit for bit the same weights
        paths["S5"].with_suffix(".json").write_text('{"threshold": 0.9}')
    elif what == "code":
        monkeypatch.setattr(fold_questions, "CODE", "another")
    asked = []

    def ask() -> dict[str, pd.DataFrame]:
        asked.append(1)
        return answer()

    kept_answers(tmp_path, paths, {"fold": 1 if what == "fold" else 0}, ask)
    assert asked
    assert len(list((tmp_path / FOLDER).iterdir())) == 2


ASKED: list[tuple[list[str], str]] = []


def which(models: Mapping[str, Any], test: Any) -> dict[str, pd.DataFrame]:
    """What every model is, about one part."""
    ASKED.append((list(models.values()), test))
    return {
        name: pd.DataFrame({"name": [test], "group": [test], "model": [model]})
        for name, model in models.items()
    }


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_every_folds_models_are_asked_about_their_own_part_once(
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
    monkeypatch.setattr(
        fold_questions, "load_fold", lambda p, seed: functools.partial(fold_of, seed)
    )
    monkeypatch.setattr(fold_questions, "load", lambda path: path.read_text())
    p: Any = SimpleNamespace(output_dir=str(tmp_path / "out"), seeds=seeds, folds=2)
    ASKED.clear()
    first = fold_questions.ask_folds(p, pooled, which)
    assert len(ASKED) == 2 * len(seeds)
    for system, table in first.items():
        wanted = [f"{system}-{seed}{fold}" for seed in seeds for fold in range(2)]
        assert list(table["model"]) == wanted
        assert table["name"].is_unique
        parts = [f"part {seed}{fold}" for seed in seeds for fold in range(2)]
        assert list(table["group"]) == parts
    again = fold_questions.ask_folds(p, pooled, which)
    assert len(ASKED) == 2 * len(seeds)
    for system, table in first.items():
        pd.testing.assert_frame_equal(table, again[system])
