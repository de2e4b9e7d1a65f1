"""Fitting and scoring detectors: only normal images, resumable, thresholds from validation."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from gainbook.lab.comparison import compare
from gainbook.lab.protocol import cross_validate, detector

from gainmtl import datasets, metrics
from gainmtl.anomaly.feature_cache import FeatureCache, cache_features
from gainmtl.anomaly.fitting import RECIPES, DistillationRecipe, DistillationRun, fit_detector
from gainmtl.anomaly.memory_bank import MemoryBank
from gainmtl.anomaly.reverse_distillation import ReverseDistillation
from gainmtl.anomaly.scores import anomaly_scores, score_detector
from gainmtl.datasets import Data
from gainmtl.evaluation.tidy import tidy_rows
from gainmtl.io import load, save


@pytest.fixture(scope="module")
def data() -> Data:
    return datasets.load("synthetic", image_size=32, train=24, val=20, test=20, seed=3)


def student(seed: int = 0, **options: Any) -> ReverseDistillation:
    torch.manual_seed(seed)
    return ReverseDistillation("test_efficientnet", **options)


FAST: dict[str, Any] = {"accelerator": "cpu", "progress": False, "batch_size": 8}


def test_a_run_learns_sets_its_threshold_and_keeps_the_teacher(data: Data, tmp_path: Path) -> None:
    model = student(features="standardized")
    history = fit_detector(model, data, epochs=3, output_dir=tmp_path, **FAST)
    assert list(history["epoch"]) == [0, 1, 2]
    assert history["distillation"].iloc[-1] < history["distillation"].iloc[0]
    assert history["val_distillation"].notna().all()
    scores = anomaly_scores(model, datasets.normal_only(data).val)
    assert (scores >= model.threshold).mean() <= 0.05
    assert model.spread == pytest.approx(scores.std(ddof=1))
    again = load(tmp_path / "model.safetensors")
    for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert (again.threshold, again.spread) == (model.threshold, model.spread)
    assert (again.image_size, again.config) == (32, model.config)
    assert np.array_equal(anomaly_scores(again, data.test), anomaly_scores(model, data.test))


@pytest.mark.parametrize("options", [{}, {"denoise": 0.8, "dropout": 0.3}])
def test_an_interrupted_run_ends_with_the_same_bits(
    options: dict[str, Any], data: Data, tmp_path: Path
) -> None:
    whole = student(**options)
    fit_detector(whole, data, epochs=2, output_dir=tmp_path / "whole", **FAST)
    parts = student(**options)

    class StopError(Exception):
        pass

    def stop(self: Any) -> Any:
        row = original(self)
        if self.epoch == 1:
            raise StopError
        return row

    original = DistillationRun.train_epoch
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DistillationRun, "train_epoch", stop)
        with pytest.raises(StopError):
            fit_detector(parts, data, epochs=2, output_dir=tmp_path / "parts", **FAST)
    resumed = student(seed=5, **options)
    resumed.teacher.load_state_dict(whole.teacher.state_dict())
    fit_detector(resumed, data, epochs=2, output_dir=tmp_path / "parts", **FAST)
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert whole.threshold == resumed.threshold
    with pytest.raises(ValueError, match="another recipe"):
        fit_detector(student(**options), data, epochs=3, output_dir=tmp_path / "parts", **FAST)


def test_defective_training_images_change_nothing(data: Data) -> None:
    first, second = student(), student()
    fit_detector(first, data, epochs=1, **FAST)
    fit_detector(second, datasets.normal_only(data), epochs=1, **FAST)
    assert torch.equal(
        first.student.decoder.stages[0].layers[0].weight,  # type: ignore[union-attr,index]
        second.student.decoder.stages[0].layers[0].weight,  # type: ignore[union-attr,index]
    )
    assert first.threshold == second.threshold


@pytest.fixture(scope="module")
def bank(data: Data) -> MemoryBank:
    torch.manual_seed(3)
    model = MemoryBank("test_efficientnet", size=200)
    fit_detector(model, data, **FAST)
    return model


def test_masks_and_labels_of_the_test_change_no_score(data: Data, bank: MemoryBank) -> None:
    class Swapped(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return len(data.test)  # type: ignore[arg-type]

        def __getitem__(self, index: int) -> Any:
            sample = data.test[index]
            return sample._replace(mask=1 - sample.mask, is_defective=not sample.is_defective)

    true, swapped = score_detector(bank, data.test), score_detector(bank, Swapped())
    for column in ("anomaly_score", "defect_probability", "is_flagged"):
        assert true.images[column].equals(swapped.images[column])


def test_scores_equal_the_metrics_of_all_images_together(data: Data, bank: MemoryBank) -> None:
    scores = score_detector(bank, data.test, batch_size=7)
    images = torch.stack([data.test[i].image for i in range(20)])
    masks = torch.stack([data.test[i].mask for i in range(20)])
    with torch.no_grad():
        out = bank(bank.preprocess(images))
    labels = scores.images["is_defective"].to_numpy()
    rows = tidy_rows(scores, "synthetic", "test", bank.name, resamples=0)
    values = {
        (r.metric, r.map if isinstance(r.map, str) else None): r.value
        for r in rows.itertuples()
        if r.condition == {}
    }
    assert values["auroc", None] == pytest.approx(
        metrics.auroc(out.anomaly_score.double().numpy(), labels)
    )
    for metric, function in (
        ("pixel_auroc", metrics.pixel_auroc),
        ("pixel_ap", metrics.pooled_pixel_ap),
        ("aupro", metrics.aupro),
    ):
        exact = function(out.anomaly_map, masks)
        assert values[metric, "defect_map"] == pytest.approx(exact, abs=5e-3)
    flagged = out.anomaly_score.double().numpy() >= bank.threshold
    assert scores.images["is_flagged"].tolist() == flagged.tolist()


def test_folds_are_kept_read_again_and_compared(tmp_path: Path) -> None:
    def load_fold(fold: int) -> Data:
        return datasets.load(
            "synthetic", image_size=32, train=16, val=12, test=12, fold=fold, folds=2
        )

    arguments: dict[str, Any] = {"folds": 2, "kind": detector(), "epochs": 1, **FAST}
    bank = cross_validate(
        lambda: MemoryBank("test_efficientnet", size=30), load_fold, tmp_path / "bank", **arguments
    )
    rd = cross_validate(student, load_fold, tmp_path / "rd", **arguments)
    assert (bank.system, rd.system) == (
        "memory-bank-test_efficientnet", "rd-test_efficientnet",
    )  # fmt: skip
    assert len(rd.scores.images) == 24
    again = cross_validate(student, load_fold, tmp_path / "rd", **arguments)
    pd.testing.assert_frame_equal(again.scores.images, rd.scores.images)
    before, after = (r.scores.histograms["defect_map"] for r in (rd, again))
    assert float(before.aupro()) == float(after.aupro())
    rows = compare(rd, bank, "synthetic", resamples=20)
    assert {"auroc_difference", "point_game_difference"} <= set(rows["metric"])
    cross_validate(
        lambda: MemoryBank("test_efficientnet", size=30), load_fold, tmp_path / "bank", **arguments
    )
    with pytest.raises(ValueError, match=r"another config\.size \(30, here 31\)"):
        cross_validate(
            lambda: MemoryBank("test_efficientnet", size=31), load_fold, tmp_path / "bank",
            **arguments,
        )  # fmt: skip


@pytest.mark.parametrize("name", list(RECIPES))
def test_named_recipes_are_recipes(name: str) -> None:
    DistillationRecipe(**RECIPES[name])


def test_the_paper_recipe_is_plain_adam(data: Data) -> None:
    optimizers = []
    original = DistillationRun._new_optimizer

    def record(self: Any) -> Any:
        optimizers.append(original(self))
        return optimizers[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DistillationRun, "_new_optimizer", record)
        fit_detector(student(), data, epochs=1, **{**FAST, **RECIPES["paper"]})
    assert type(optimizers[0]) is torch.optim.Adam
    assert {g["lr"] for g in optimizers[0].param_groups} == {5e-3}
    assert {g["betas"] for g in optimizers[0].param_groups} == {(0.5, 0.999)}


@pytest.mark.parametrize(
    "wrong", [{"optimizer": "sgd"}, {"schedule": "steps"}, {"betas": (1.0, 0.9)},
              {"average_decay": 0.9}],
)  # fmt: skip
def test_impossible_recipes_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="fit_detector: .*: expected .*, got"):
        DistillationRecipe(**wrong)


def test_unknown_arguments_are_named(data: Data) -> None:
    with pytest.raises(ValueError, match="unknown arguments"):
        fit_detector(student(), data, epochs=1, lr=1.0)


@pytest.mark.parametrize("wrong", ["0.05", 1.5, None])
def test_an_impossible_limit_of_false_alarms(wrong: Any, data: Data) -> None:
    with pytest.raises(ValueError, match="max_false_alarms"):
        fit_detector(MemoryBank("test_efficientnet", size=20), data, max_false_alarms=wrong)


def test_files_that_are_no_detector(tmp_path: Path, data: Data) -> None:
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.safetensors")
    path = save(student(), tmp_path / "one.safetensors")
    path.with_suffix(".json").write_text("{}")
    with pytest.raises(ValueError, match="expected a model description"):
        load(path)


def test_a_whole_recipe_is_read() -> None:
    import inspect

    from gainmtl.anomaly import fitting
    from gainmtl.training import run

    source = inspect.getsource(fitting) + inspect.getsource(run)
    for field in dataclasses.fields(DistillationRecipe):
        assert f".{field.name}" in source, field.name


@pytest.mark.parametrize("options", [{}, {"denoise": 0.8, "features": "scaled"}])
def test_the_teacher_runs_once_on_each_image(options: dict[str, Any], data: Data) -> None:
    normal, counts, losses = datasets.normal_only(data), [], []
    for keep in (4.0, 0.0):
        model = student(**options)
        sizes: list[int] = []
        handle = model.teacher.register_forward_pre_hook(
            lambda _, args, sizes=sizes: sizes.append(len(args[0]))
        )
        history = fit_detector(model, data, epochs=2, keep_features=keep, **FAST)
        handle.remove()
        assert model.cache is None
        counts.append(sum(sizes))
        losses.append(history[["distillation", "val_distillation"]].to_numpy())
    train, val = len(normal.train), len(normal.val)  # type: ignore[arg-type]
    # In both runs the teacher also gets the disturbed images of every step. Of two epochs the cache
    # saves one on the undisturbed images.
    assert counts[1] - counts[0] == train + val
    np.testing.assert_allclose(losses[0], losses[1], rtol=2e-3)


def test_features_are_cached_if_they_fit(data: Data) -> None:
    def levels_of(images: torch.Tensor) -> list[torch.Tensor]:
        return [images, images[:, :1, ::2, ::2]]

    part = data.test
    # 20 images of (3 · 32² + 16²) numbers of four bytes
    exactly = 20 * (3 * 1024 + 256) * 4 / 2**30
    assert cache_features(levels_of, part, 8, exactly * 0.999) is None
    kept = cache_features(levels_of, part, 8, exactly)
    assert kept is not None
    assert kept.gib == exactly
    samples = [part[i] for i in (13, 2, 7)]
    fine, coarse = kept.levels([sample.name for sample in samples])
    assert torch.equal(fine, torch.stack([sample.image for sample in samples]))
    assert torch.equal(coarse, fine[:, :1, ::2, ::2])
    assert fine.is_contiguous(memory_format=torch.channels_last)
    with pytest.raises(KeyError):
        kept.levels(["unknown"])
    twice = torch.utils.data.Subset(part, [1, 1])  # type: ignore[arg-type]
    assert cache_features(levels_of, twice, 8, 1.0) is None
    with pytest.raises(ValueError, match="2 images have 1 names"):
        FeatureCache(["a", "a"], [torch.zeros(2, 1, 1, 1)])


@pytest.mark.parametrize("left", [None, 0, 500])
def test_a_bank_whose_file_is_damaged_is_filled_again(
    left: int | None, data: Data, tmp_path: Path
) -> None:
    def fill() -> MemoryBank:
        torch.manual_seed(3)
        model = MemoryBank("test_efficientnet", size=20)
        fit_detector(model, data, output_dir=tmp_path, **FAST)
        return model

    whole, path = fill(), tmp_path / "model.safetensors"
    if left is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:left])
    with pytest.warns(UserWarning, match="fit_detector: the bank is filled again: load: "):
        again = fill()
    assert torch.equal(again.bank, whole.bank)
    assert again.threshold == whole.threshold
    assert torch.equal(load(path).bank, whole.bank)


def test_a_student_that_explodes_in_the_last_step(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(self: Any, step: int) -> None:
        if step + 1 == 2 * self.steps:
            with torch.no_grad():
                for parameter in self.model.student.parameters():
                    parameter.fill_(torch.nan)

    monkeypatch.setattr(DistillationRun, "_update_average", explode)
    with pytest.raises(
        FloatingPointError, match=r"epoch 2, step .* \(terms: distillation\); the c"
    ):
        fit_detector(student(), data, epochs=2, output_dir=tmp_path, **FAST)


def test_an_output_dir_that_is_a_file(data: Data, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for model in (student(), MemoryBank("test_efficientnet", size=20)):
        with pytest.raises(NotADirectoryError, match="is a file; give another output_dir"):
            fit_detector(model, data, output_dir=tmp_path / "file", epochs=1, **FAST)


@pytest.mark.parametrize("kind", [MemoryBank, ReverseDistillation])
def test_an_image_size_that_the_teacher_can_not_take(kind: type[Any]) -> None:
    data = datasets.load("synthetic", image_size=100, train=8, val=4, test=4)
    with pytest.raises(ValueError, match=r"can't take images of 100 x 100 .*image_size=96 or 128"):
        fit_detector(kind("hrnet_w18_small"), data, epochs=1, **FAST)
