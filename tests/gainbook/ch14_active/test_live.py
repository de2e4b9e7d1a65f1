"""The notebook's runs: parameters, the small comparison, and rounds on own images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from gainbook.chapters.ch14_active import live, page, study
from gainbook.chapters.ch14_active.tasks import TIERS, split_of, synthetic
from gainbook.lab.parameters import Parameters
from gainbook.lab.results_file import check_rows
from PIL import Image


def parameters(output: Path, **values: Any) -> Parameters:
    given = {
        "notebook": study.NOTEBOOK, "dataset": "synthetic", "data_root": None, "image_size": 32,
        "backbone": "test_efficientnet", "weights": None, "seeds": (0,),
        "output_dir": str(output), "labels": None, "classes": (None,), "method": "margin",
        "budget": 5,
    }  # fmt: skip
    return Parameters(**{**given, **values})


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"dataset": "mvtec"}, "dataset: expected synthetic, folder"),
        ({"dataset": "folder", "labels": "l.csv"}, "data_root: the dataset 'folder' needs"),
        ({"dataset": "folder", "data_root": "x"}, "-p labels labels.csv"),
        ({"labels": "l.csv"}, "add -p dataset folder"),
        ({"image_size": 100}, "image_size: expected a multiple of 32"),
    ],
)
def test_impossible_choices(values: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        live.check_choices(parameters(tmp_path, **values))
    live.check_choices(parameters(tmp_path))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> live.Comparison:
    return live.compare(parameters(tmp_path_factory.mktemp("live")))


def test_the_small_comparison(found: live.Comparison) -> None:
    assert set(found.runs) == set(live.LIVE_METHODS)
    table = live.curve_table(found)
    assert len(table) == len(live.LIVE_METHODS) * (live.LIVE.rounds + 1)
    assert table.groupby("x")["value"].nunique()[30] == 1  # all start equal
    assert len(check_rows(live.live_rows(found))) == 7 * len(table)


def test_pictures_of_what_was_chosen(found: live.Comparison) -> None:
    rounds = live.chosen(found)
    assert [one.value for one in rounds] == [f"round {i}" for i in range(1, 6)]
    first = rounds[0]
    rows = found.runs["activation"][1]["rows"]
    assert first.names == ["margin", "activation"]
    own = found.split.pool.dataset[int(found.split.pool.rows[rows[0]])].image
    assert (first.pictures[1][0] == own).all()
    assert len(first.notes[0]) == live.SHOWN


def test_scored_images_are_sorted(found: live.Comparison) -> None:
    shown = live.scored(found, 0)
    scores = [float(note.split(";")[0]) for note in shown.notes[1]]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= m.min() <= m.max() <= 1 for m in shown.pictures[1])


def test_synthetic_classes_are_imbalanced_in_the_pool_only() -> None:
    split = synthetic(32, 2)
    assert len(split.classes) == 15
    assert sorted(np.bincount(split.pool.labels).tolist()) == sorted(2 * n for n in TIERS * 5)
    assert np.bincount(split.test.labels).tolist() == [4] * 15
    sample = split.pool.dataset[int(split.pool.rows[0])]
    assert split.classes[split.pool.labels[0]].startswith(sample.defect_type)


def test_unknown_sets_are_refused() -> None:
    with pytest.raises(ValueError, match="dataset: expected one of"):
        split_of("visa", None)
    with pytest.raises(ValueError, match="needs the folder"):
        split_of("deep-pcb", None)


def test_rounds_on_own_images(tmp_path: Path) -> None:
    root, file, out = tmp_path / "parts", tmp_path / "labels.csv", tmp_path / "out"
    root.mkdir()
    for i in range(12):
        pixels = np.random.default_rng(i).integers(0, 90, (32, 32, 3)) + 160 * (i % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(root / f"{i}.png")
    p = parameters(
        out, dataset="folder", data_root=str(root), labels=str(file), classes=("dark", "light")
    )
    own = live.play_own(p)
    table = pd.read_csv(file, dtype=str)
    assert table["image"].tolist() == list(own.round.batch)
    assert (out / "next_batch.html").read_text("utf-8").count("<img ") == 5
    assert not (out / "predictions.csv").exists()
    table["label"] = [("dark", "light")[int(Path(i).stem) % 2] for i in table["image"]]
    table.to_csv(file, index=False)
    second = live.play_own(p)
    assert len(pd.read_csv(file)) == 10
    predictions = pd.read_csv(out / "predictions.csv")
    assert len(predictions) == 7
    assert predictions["probability"].between(0.5, 1).all()
    rows = {one["metric"]: one["value"] for one in check_rows(live.own_rows(second))}
    assert rows["labels"] == 5
    before = file.read_bytes()
    with pytest.raises(ValueError, match="is none of the classes bright, dim"):
        live.play_own(p.with_values(classes=("bright", "dim")))
    assert file.read_bytes() == before
    for i in range(9):
        (root / f"{i}.png").unlink()
    with pytest.raises(ValueError, match="at least 4 images"):
        live.play_own(p)


def test_pages_without_results() -> None:
    assert page.answer({}) == ["There are no reference results yet."]
    assert "**not run**" in page.claims_text({}, "E4", "words")
    assert page.claims_text({}, "E4", "words").count("- ") == 1
