"""The protocol: folds pooled, a finished fold read and not run, systems compared in pairs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from gainbook.lab import protocol
from gainbook.lab.comparison import compare, pooled_rows
from gainbook.lab.protocol import Pooled, cross_validate, pool
from gainbook.lab.results_file import check_rows
from PIL import Image

from gainmtl import metrics
from gainmtl.datasets import Data, load
from gainmtl.model import GAINMTL

FOLDS = 2


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grey noise, defective parts with a bright square; one type has an unlucky name."""
    folder = tmp_path_factory.mktemp("set")
    generator = np.random.default_rng(0)
    for index in range(24):
        kind = ("normal", "defective/spot", "normal", "defective/None")[index % 4]
        path = folder / "images" / kind / f"{index:02d}.png"
        pixels = generator.integers(90, 120, (64, 64), dtype=np.uint8)
        mask = np.zeros((64, 64), dtype=np.uint8)
        if kind != "normal":
            row, column = generator.integers(4, 44, 2)
            pixels[row : row + 14, column : column + 14] += 90
            mask[row : row + 14, column : column + 14] = 255
            mask_path = folder / "masks" / kind / f"{index:02d}.png"
            mask_path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(mask_path)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return folder


@pytest.fixture(scope="module")
def load_fold(root: Path) -> Callable[[int], Data]:
    def load_one(fold: int) -> Data:
        return load("folder", root, image_size=64, fold=fold, folds=FOLDS, validation=0.3)

    return load_one


def run(
    load_fold: Callable[[int], Data], folder: Path, strategy: str = "S2", **more: Any
) -> Pooled:
    return cross_validate(
        lambda: GAINMTL("test_efficientnet", strategy, width=16),
        load_fold,
        folder,
        folds=FOLDS,
        epochs=1,
        batch_size=6,
        accelerator="cpu",
        progress=False,
        **more,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pooled")


@pytest.fixture(scope="module")
def pooled(load_fold: Callable[[int], Data], folder: Path) -> Pooled:
    return run(load_fold, folder)


def assert_same(found: Pooled, expected: Pooled) -> None:
    pd.testing.assert_frame_equal(found.scores.images, expected.scores.images, check_exact=True)
    assert set(found.scores.histograms) == set(expected.scores.histograms)
    for name, histogram in expected.scores.histograms.items():
        np.testing.assert_array_equal(found.scores.histograms[name].positives, histogram.positives)
        np.testing.assert_array_equal(found.scores.histograms[name].negatives, histogram.negatives)
    assert found.system == expected.system


def test_folds_are_pooled(pooled: Pooled, load_fold: Callable[[int], Data]) -> None:
    assert [len(part.images) for part in pooled.folds] == [len(load_fold(k).test) for k in (0, 1)]  # type: ignore[arg-type]
    images = pooled.scores.images
    assert len(images) == 24
    assert images["name"].is_unique
    assert len(pooled.scores.histograms["cam"]) == 24
    assert sorted(pooled.histories["fold"].unique()) == [0, 1]
    assert pooled.seconds > 0
    assert all(path.is_file() for path in pooled.model_paths)
    assert pooled.label == "S2"


def test_a_finished_run_is_read_not_run(
    pooled: Pooled,
    folder: Path,
    load_fold: Callable[[int], Data],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("ran again")

    monkeypatch.setattr(protocol, "score", never)
    monkeypatch.setattr(GAINMTL, "training_step", never)
    again = run(load_fold, folder)
    assert_same(again, pooled)
    assert (again.seconds, again.commits) == (pooled.seconds, pooled.commits)


@pytest.mark.parametrize("moment", ["training", "scoring"])
def test_interrupted_in_the_second_fold(
    moment: str,
    pooled: Pooled,
    load_fold: Callable[[int], Data],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    function = "fit" if moment == "training" else "score"
    original, calls = getattr(protocol, function), []

    def interrupted(*arguments: Any, **more: Any) -> Any:
        calls.append(function)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr(protocol, function, interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(load_fold, tmp_path)
    assert (tmp_path / "fold0" / "scores.json").is_file()
    assert not (tmp_path / "fold1" / "scores.json").exists()
    first = (tmp_path / "fold0" / "checkpoint.safetensors").stat().st_mtime_ns
    assert_same(run(load_fold, tmp_path), pooled)
    assert (tmp_path / "fold0" / "checkpoint.safetensors").stat().st_mtime_ns == first


def test_other_settings_in_the_same_folder(
    pooled: Pooled, folder: Path, load_fold: Callable[[int], Data]
) -> None:
    with pytest.raises(ValueError, match="holds a run with another strategy"):
        run(load_fold, folder, "S2-no-classification")


@pytest.mark.parametrize("name", ["scores.json", "scores.csv", "histograms.npz"])
@pytest.mark.parametrize("left", [0.0, 0.7])
def test_damaged_scores_of_a_fold(
    name: str,
    left: float,
    pooled: Pooled,
    folder: Path,
    load_fold: Callable[[int], Data],
    tmp_path: Path,
) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "fold1" / name
    path.write_bytes(path.read_bytes()[: int(left * path.stat().st_size)])
    with pytest.raises(
        ValueError, match=r"whole scores of a fold in .*fold1, .* Remove scores\.js"
    ):
        run(load_fold, tmp_path)
    (tmp_path / "fold1" / "scores.json").unlink()
    assert_same(run(load_fold, tmp_path), pooled)


def test_rows(pooled: Pooled) -> None:
    table = pooled_rows(pooled, "tiles", seed=7, resamples=50)
    check_rows(table.to_dict("records"))
    assert set(table["fold"].dropna()) == {0, 1}
    assert set(table["seed"].dropna()) == {7}
    whole = table[table["fold"].isna()]
    assert whole["seed"].isna().all()
    assert table[table["fold"].notna()]["ci_low"].isna().all()
    auroc = whole[(whole["metric"] == "auroc") & (whole["condition"] == {})]
    images = pooled.scores.images
    expected = metrics.auroc(images["defect_probability"], images["is_defective"])
    assert float(auroc["value"].iloc[0]) == pytest.approx(expected)
    assert float(auroc["ci_low"].iloc[0]) < float(auroc["ci_high"].iloc[0])


def test_a_system_against_itself(pooled: Pooled) -> None:
    table = compare(pooled, pooled, "tiles", resamples=50)
    assert set(table["metric"]) >= {"auroc_difference", "iou_difference", "recall_difference"}
    for column in ("value", "ci_low", "ci_high"):
        assert (table[column] == 0).all(), column
    assert (table["p_value"] == 1).all()


def test_differences_have_a_sign_and_a_pairing(pooled: Pooled) -> None:
    """A copy that has the truth is better, by exactly what the other lacks of it."""
    images = pooled.scores.images.sample(frac=1, random_state=0, ignore_index=True)
    images["defect_probability"] = images["is_defective"].astype(float)
    best = pooled._replace(system="truth", scores=pooled.scores._replace(images=images))
    table = compare(best, pooled, "tiles", resamples=200)
    row = table[table["metric"] == "auroc_difference"].iloc[0]
    old = pooled.scores.images
    expected = 1 - metrics.auroc(old["defect_probability"], old["is_defective"])
    assert row["value"] == pytest.approx(expected)
    assert row["ci_low"] <= row["value"] <= row["ci_high"]
    assert row["system"] == "truth"
    assert row["condition"] == {"against": "S2"}
    back = compare(pooled, best, "tiles", resamples=200)
    assert back[back["metric"] == "auroc_difference"]["value"].iloc[0] == pytest.approx(-expected)


def test_other_images_can_not_be_compared(pooled: Pooled) -> None:
    fewer = pooled.scores._replace(images=pooled.scores.images.iloc[1:])
    with pytest.raises(ValueError, match="not tested on the same images"):
        compare(pooled, pooled._replace(scores=fewer), "tiles")


def test_an_image_in_two_test_folds(pooled: Pooled) -> None:
    with pytest.raises(ValueError, match="more than one test fold"):
        pool([pooled.folds[0], pooled.folds[0]])


def test_builds_are_seeded_by_fold(load_fold: Callable[[int], Data], tmp_path: Path) -> None:
    seen: list[torch.Tensor] = []

    def build() -> GAINMTL:
        model = GAINMTL("test_efficientnet", "S1")
        seen.append(model.head.weight.detach().clone())
        return model

    for folder in ("a", "b"):
        cross_validate(
            build, load_fold, tmp_path / folder, folds=2, epochs=1, progress=False, batch_size=6
        )
    assert torch.equal(seen[0], seen[2])
    assert torch.equal(seen[1], seen[3])
    assert not torch.equal(seen[0], seen[1])
