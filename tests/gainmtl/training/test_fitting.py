"""Training: resumed runs equal uninterrupted ones, schedules apply, errors are clear."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from lightning_fabric import Fabric
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import Dataset

import gainmtl
from gainmtl import datasets, losses, metrics
from gainmtl.datasets import Data, load
from gainmtl.evaluation.scoring import defect_scores
from gainmtl.model import GAINMTL
from gainmtl.training.checkpoint import CHECKPOINT, read_checkpoint
from gainmtl.training.fitting import fit
from gainmtl.training.recipe import Recipe
from gainmtl.training.run import MODEL, TrainingRun
from gainmtl.types import Sample

EPOCHS, IMAGES, BATCH = 3, 20, 8  # three steps an epoch
STEPS = 3


def make_data(**settings: Any) -> Data:
    return load("synthetic", image_size=64, train=IMAGES, val=12, test=4, **settings)


def build(strategy: str = "S5") -> GAINMTL:
    torch.manual_seed(0)
    return GAINMTL("test_efficientnet", strategy, width=16)


def run(
    model: GAINMTL, data: Data, output_dir: Path | None = None, **arguments: Any
) -> pd.DataFrame:
    recipe: dict[str, Any] = {
        "epochs": EPOCHS,
        "batch_size": BATCH,
        "seed": 3,
        "accelerator": "cpu",
        "progress": False,
    }
    return fit(model, data, output_dir=output_dir, **recipe | arguments)


class Watched(Dataset[Sample]):
    """A dataset that calls `event` at its n-th read, and may change samples."""

    def __init__(self, dataset: Any, after: int, event: Callable[[Sample], Sample]) -> None:
        self.dataset, self.after, self.event, self.reads = dataset, after, event, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.dataset, name)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        self.reads += 1
        sample = self.dataset[index]
        return self.event(sample) if self.reads > self.after else sample


def watched(data: Data, after: int, event: Callable[[Sample], Sample]) -> Data:
    return dataclasses.replace(data, train=Watched(data.train, after, event))


def interrupt(sample: Sample) -> Sample:
    raise KeyboardInterrupt


def kill(*_: Any) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


class Run(NamedTuple):
    model: GAINMTL
    history: pd.DataFrame
    folder: Path


def assert_same(model: GAINMTL, history: pd.DataFrame, expected: Run) -> None:
    for name, value in expected.model.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    assert model.threshold == expected.model.threshold
    columns = [c for c in expected.history.columns if c != "seconds"]
    pd.testing.assert_frame_equal(history[columns], expected.history[columns], check_exact=True)


@pytest.fixture(scope="module")
def data() -> Data:
    return make_data()


@pytest.fixture(scope="module")
def whole(data: Data, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """An uninterrupted run."""
    folder, model = tmp_path_factory.mktemp("whole"), build()
    return Run(model, run(model, data, folder), folder)


def test_a_run_writes_the_model_and_a_checkpoint(data: Data, whole: Run) -> None:
    assert sorted(p.name for p in whole.folder.iterdir()) == [
        ".lock",
        CHECKPOINT,
        "model.json",
        MODEL,
    ]
    stored = gainmtl.load(whole.folder / MODEL)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(stored.state_dict()[name], value), name
    assert (stored.threshold, stored.image_size) == (whole.model.threshold, 64)
    assert not whole.model.training
    moved = [
        not torch.equal(a, b)
        for a, b in zip(whole.model.parameters(), build().parameters(), strict=True)
    ]
    assert all(moved)


@pytest.mark.parametrize("reads", [5, IMAGES, IMAGES + 13, 2 * IMAGES, 3 * IMAGES - 1])
def test_an_interrupted_run_continues(reads: int, data: Data, whole: Run, tmp_path: Path) -> None:
    """Interrupted in each epoch, and between two epochs."""
    with pytest.raises(KeyboardInterrupt):
        run(build(), watched(data, reads, interrupt), tmp_path)
    done = min(reads // IMAGES, EPOCHS)
    assert (tmp_path / CHECKPOINT).is_file() is (done > 0)
    torch.manual_seed(999)  # where the global random state stands is no part of a run
    model, counted = build(), Watched(data.train, 10**9, interrupt)
    torch.rand(7)
    history = run(model, dataclasses.replace(data, train=counted), tmp_path)
    assert counted.reads == (EPOCHS - done) * IMAGES
    assert_same(model, history, whole)


KILLED = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("killed_run", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
module.run_until_killed(*sys.argv[2:])
"""


def run_until_killed(folder: str, moment: str, threads: str) -> None:
    """The code of the killed process in `test_killed`."""
    torch.set_num_threads(int(threads))
    data = make_data()
    if moment == "in an epoch":
        data = watched(data, IMAGES + 13, kill)
    else:
        replace, calls = os.replace, []

        def replace_or_kill(source: Any, target: Any) -> None:
            calls.append(target)
            if len(calls) == 2:
                kill()
            replace(source, target)

        os.replace = replace_or_kill
    run(build(), data, Path(folder))


def test_a_second_run_in_the_folder_of_a_first_is_refused(
    data: Data, whole: Run, tmp_path: Path
) -> None:
    refused: list[str] = []

    def second(sample: Sample) -> Sample:
        if not refused:
            with torch.random.fork_rng(), pytest.raises(RuntimeError) as error:
                run(build(), data, tmp_path)
            refused.append(str(error.value))
        return sample

    model = build()
    assert_same(model, run(model, watched(data, IMAGES + 13, second), tmp_path), whole)
    assert "no other run writes to, but a run is writing to" in refused[0]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
@pytest.mark.parametrize("moment", ["in an epoch", "while it writes a checkpoint"])
def test_killed(moment: str, data: Data, whole: Run, tmp_path: Path) -> None:
    root = Path(importlib.util.find_spec("gainmtl").origin).parents[1]  # type: ignore[union-attr, arg-type]
    command = [sys.executable, "-c", KILLED, __file__, str(tmp_path), moment]
    ended = subprocess.run([*command, str(torch.get_num_threads())], cwd=root, check=False)
    assert ended.returncode == -signal.SIGKILL
    model = build()
    assert_same(model, run(model, data, tmp_path), whole)


def test_a_finished_run_is_read_from_its_file(
    data: Data, whole: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GAINMTL, "training_step", interrupt)

    def score(*_: Any) -> None:
        raise AssertionError("scored again")

    monkeypatch.setattr("gainmtl.training.run.defect_scores", score)
    model = build()
    assert_same(model, run(model, data, whole.folder), whole)


def test_a_run_whose_model_was_not_written_is_finished(
    data: Data, whole: Run, tmp_path: Path
) -> None:
    for name in (CHECKPOINT, MODEL):
        shutil.copy(whole.folder / name, tmp_path)
    model = build()
    assert_same(model, run(model, data, tmp_path), whole)
    assert (tmp_path / "model.json").read_bytes() == (whole.folder / "model.json").read_bytes()


def test_another_seed_is_another_run(data: Data, whole: Run) -> None:
    model = build()
    run(model, data, epochs=1, seed=4)
    other = build()
    run(other, data, epochs=1, seed=3)
    assert not torch.equal(model.head.weight, other.head.weight)


@pytest.mark.parametrize(
    ("strategy", "changed", "named"),
    [
        ("S5", {"epochs": 4}, r"recipe\.epochs \(3, here 4\)"),
        ("S5", {"learning_rate": 1e-4}, r"recipe\.learning_rate \(0\.004, here 0\.0001\)"),
        ("S5", {"seed": 4}, r"recipe\.seed \(3, here 4\)"),
        ("S5-no-mining", {}, r"strategy\.name \('S5', here 'S5-no-mining'\), .*"),
        ("S1", {}, r"model\.pooling \('lse', here 'mean'\), .*"),
    ],
)
def test_another_run_in_the_same_folder(
    strategy: str, changed: dict[str, Any], named: str, data: Data, whole: Run
) -> None:
    before = (whole.folder / CHECKPOINT).read_bytes()
    with pytest.raises(ValueError, match=f"holds a run with another {named}; give another outp"):
        run(build(strategy), data, whole.folder, **changed)
    assert (whole.folder / CHECKPOINT).read_bytes() == before


def test_other_data_in_the_same_folder(whole: Run) -> None:
    with pytest.raises(ValueError, match="holds a run with another data"):
        run(build(), make_data(seed=1), whole.folder)


# What is applied


def test_history_has_the_applied_weights(whole: Run) -> None:
    strategy, history = whole.model.strategy, whole.history
    assert history["epoch"].tolist() == [0, 1, 2]
    for epoch in range(EPOCHS):
        steps = [strategy.weights_at((epoch * STEPS + i) / (EPOCHS * STEPS)) for i in range(STEPS)]
        for term in strategy.weights.active():
            applied = [getattr(step, term) for step in steps]
            value, loss = history.at[epoch, f"weight_{term}"], history.at[epoch, term]
            if any(applied):
                assert value == pytest.approx(sum(applied) / STEPS), (epoch, term)
                assert np.isfinite(loss)
            else:
                assert np.isnan(value), (epoch, term)
                assert np.isnan(loss)


@pytest.mark.parametrize("strategy", ["S5", "S5-no-localization"])
def test_the_loss_is_the_scheduled_sum(
    strategy: str, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build(strategy)
    step, backward = GAINMTL.training_step, Fabric.backward
    seen: list[tuple[float, dict[str, Tensor]]] = []
    summed: list[float] = []

    def record(self: GAINMTL, batch: Any, progress: float = 1.0) -> dict[str, Tensor]:
        terms = step(self, batch, progress)
        seen.append((progress, {name: value.detach() for name, value in terms.items()}))
        return terms

    def add(self: Fabric, tensor: Tensor, *rest: Any, **more: Any) -> None:
        summed.append(float(tensor.detach()))
        backward(self, tensor, *rest, **more)

    monkeypatch.setattr(GAINMTL, "training_step", record)
    monkeypatch.setattr(Fabric, "backward", add)
    run(model, data)
    assert [progress for progress, _ in seen] == pytest.approx([i / 9 for i in range(9)])
    for (progress, terms), total in zip(seen, summed, strict=True):
        weights = model.strategy.weights_at(progress)
        assert set(terms) == set(weights.active())
        expected = sum(getattr(weights, name) * float(value) for name, value in terms.items())
        assert total == pytest.approx(expected, rel=1e-5)


def test_threshold_is_the_smallest_with_few_false_alarms(data: Data) -> None:
    model = build("S1")
    run(model, data, epochs=1, max_false_alarms=0.2)
    scores, labels = defect_scores(model, data.val)
    normal = scores[~labels]
    assert (normal >= model.threshold).mean() <= 0.2
    below = normal[normal < model.threshold].max()
    assert (normal >= below).mean() > 0.2
    assert model.threshold == metrics.threshold_at_fpr(scores, labels, 0.2)


def test_frozen_layers_do_not_change(data: Data) -> None:
    model = build("S1")
    before = {k: v.clone() for k, v in model.backbone.timm.state_dict().items()}
    run(model, data, epochs=1, freeze_stride=4)
    after = model.backbone.timm.state_dict()
    for name, value in before.items():
        early = name.startswith(("conv_stem", "bn1", "blocks.0.", "blocks.1."))
        if value.dtype.is_floating_point:
            assert torch.equal(value, after[name]) is early, name


def test_without_averaging_the_last_weights_are_the_result(data: Data, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    model = build("S1")
    run(model, data, tmp_path, epochs=1, average_decay=0.0)
    stored = load_file(tmp_path / CHECKPOINT)
    for name, value in model.state_dict().items():
        assert torch.equal(value, stored[f"model.{name}"]), name


def test_mixed_precision(data: Data) -> None:
    history = run(build("S6"), data, epochs=2, precision="bf16-mixed")
    assert np.isfinite(history["attended_classification"]).all()


def test_precision_is_part_of_the_identity(data: Data, tmp_path: Path) -> None:
    run(build(), data, tmp_path, epochs=1)
    with pytest.raises(ValueError, match="holds a run with another precision"):
        run(build(), data, tmp_path, epochs=1, precision="bf16-mixed")


def test_initial_weights_are_part_of_the_identity(data: Data, tmp_path: Path) -> None:
    model = build()
    run(model, data, tmp_path, epochs=1)
    run(model, data, tmp_path, epochs=1)  # trained meanwhile, but begun from the same
    other = build()
    other.backbone.initial_weights = "sha256:0"
    with pytest.raises(ValueError, match="holds a run with another initial_weights"):
        run(other, data, tmp_path, epochs=1)


# Bad input


def test_half_precision_weights(data: Data) -> None:
    with pytest.raises(ValueError, match="one of 32-true, 16-mixed, bf16-mixed, got 'bf16-true'"):
        run(build(), data, epochs=1, precision="bf16-true")


def test_one_class_only() -> None:
    with pytest.raises(ValueError, match="training set holds 0 defective and 20 normal images"):
        run(build(), make_data(train_defect_rate=0.0))


def test_validation_without_normal_images(data: Data) -> None:
    counts = data.counts | {"val": data.counts["val"] | {"normal": 0}}
    with pytest.raises(ValueError, match="validation set holds no normal image; the threshold"):
        run(build(), dataclasses.replace(data, counts=counts))


def test_unknown_arguments(data: Data) -> None:
    with pytest.raises(ValueError, match=r"unknown arguments \['learning_rat'\]; a recipe has"):
        run(build(), data, learning_rat=1.0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"batch_size": 1},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"backbone_rate": -1.0},
        {"average_decay": 1.0},
        {"clip_norm": 0.0},
        {"max_false_alarms": 1.0},
        {"seed": -1},
        {"seed": 2**70},
    ],
)
def test_impossible_values(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"fit: {next(iter(wrong))}: expected .*, got"):
        Recipe(**wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"learning_rate": "1e-3"}, r"learning_rate: expected a number, got '1e-3' \(without quot"),
        ({"epochs": 2.5}, "epochs: expected a whole number, got 2.5$"),
        ({"batch_size": True}, "batch_size: expected a whole number, got True$"),
        ({"backbone_rate": "0.2"}, "backbone_rate: expected a number or None, got '0.2'"),
        ({"keep": None, "seed": "0"}, "keep: expected a text, got None; seed: expected a whole"),
        ({"freeze_statistics": 1}, "freeze_statistics: expected True or False or None, got 1"),
    ],
)
def test_values_of_another_type(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recipe(**wrong)


def test_numpy_numbers_are_numbers() -> None:
    recipe = Recipe(epochs=np.int64(2), learning_rate=np.float32(0.5), backbone_rate=1)
    assert (recipe.epochs, recipe.learning_rate) == (2, 0.5)


def test_an_image_size_that_the_backbone_can_not_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tried before training, on one image; the error names sizes that work."""
    monkeypatch.setattr(GAINMTL, "training_step", interrupt)
    torch.manual_seed(0)
    model = GAINMTL("hrnet_w18_small", "S1")
    data = load("synthetic", image_size=100, train=IMAGES, val=12, test=4)
    with pytest.raises(ValueError, match=r"can't take images of 100 x 100 .* or 128 .*works"):
        run(model, data)


def test_several_devices_in_a_notebook(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    """There Fabric would start processes from a function, which it is not given."""
    monkeypatch.setattr("lightning_fabric.connector._IS_INTERACTIVE", True)
    arguments: dict[str, Any] = {"epochs": 1, "accelerator": "cpu", "devices": 2}
    with pytest.raises(ValueError, match=r"devices=2.*: use devices=1 there"):
        fit(build("S1"), data, **arguments)
    detector = gainmtl.ReverseDistillation("test_efficientnet")
    with pytest.raises(ValueError, match=r"devices=2.*: use devices=1 there"):
        gainmtl.fit_detector(detector, data, **arguments)


@pytest.mark.parametrize(
    "given", [{"accelerator": "tpu"}, {"accelerator": "abacus"}, {"devices": 0}, {"devices": "x"},
              {"num_nodes": 0}, {"fabric_strategy": "deepspeed"}],
)  # fmt: skip
def test_devices_that_are_not_there(given: dict[str, Any], data: Data) -> None:
    with pytest.raises(ValueError, match="fit: expected devices that can be used here, got"):
        fit(build("S1"), data, **{"accelerator": "cpu", "progress": False, **given})


def test_a_memory_bank_is_filled_on_the_given_device(data: Data) -> None:
    bank = gainmtl.MemoryBank("test_efficientnet")
    with pytest.raises(ValueError, match="expected devices that can be used here, got"):
        gainmtl.fit_detector(bank, data, accelerator="abacus")
    with pytest.raises(ValueError, match="filled on one device, got devices=2"):
        gainmtl.fit_detector(bank, data, accelerator="cpu", devices=2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda data, model: gainmtl.GAINMTL("test_efficientnet", strategy=7), "strategy: .*got 7"),
        (lambda data, model: gainmtl.GAINMTL("test_efficientnet", pooling=3), "pooling: .*got 3"),
        (lambda data, model: fit(model, data, probe="x"), "probe: expected a whole number"),
        (lambda data, model: fit(model, data, output_dir=3), "expected a path, .*got 3"),
        (lambda data, model: gainmtl.save(model, 3), "expected a path, .*got 3"),
        (lambda data, model: gainmtl.load(None), "expected a path, .*got None"),
    ],
)
def test_values_of_another_kind_are_named(call: Any, message: str, data: Data) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        call(data, build("S1"))


def test_unknown_augmentation(data: Data) -> None:
    with pytest.raises(ValueError, match=r"augmentation to be one of .*'wild'"):
        run(build(), data, augmentation="wild")


def test_a_term_that_is_not_finite(
    data: Data, whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(losses, "mining_loss", lambda logits: logits.sum() * torch.nan)
        with pytest.raises(FloatingPointError) as caught:
            run(build(), data, tmp_path)
    message = str(caught.value)
    assert "in epoch 2, step 1 (terms: mining)" in message
    assert f"the checkpoint after epoch 1 is kept in {tmp_path / CHECKPOINT}" in message
    model = build()
    assert_same(model, run(model, data, tmp_path), whole)


def test_images_that_are_not_finite(data: Data) -> None:
    broken = watched(data, 0, lambda sample: sample._replace(image=sample.image * torch.nan))
    with pytest.raises(FloatingPointError, match="no checkpoint was written yet") as caught:
        run(build("S2"), broken)
    assert "(terms: classification, cam_guidance)" in str(caught.value)


# What it is for


def test_s5_does_not_collapse() -> None:
    """It separates the classes, predicts both, and its threshold is between their scores."""
    settings = {"textures": ("ceramic",), "defect_size": 1.5, "defect_contrast": 2.0}
    data = load("synthetic", image_size=64, train=128, val=48, test=96, **settings)
    model = build("S5")
    fit(
        model,
        data,
        epochs=6,
        batch_size=8,
        learning_rate=5e-3,
        backbone_rate=1.0,
        average_decay=0.9,
        augmentation="light",
        accelerator="cpu",
        progress=False,
    )
    scores, labels = defect_scores(model, data.test)
    assert metrics.auroc(scores, labels) > 0.8
    assert scores.std() > 0.05
    assert 0.4 < metrics.recall(scores, labels, model.threshold)
    assert 0.2 < np.mean(scores >= model.threshold) < 0.8


# Files of a run that are damaged or gone


def copied(whole: Run, folder: Path) -> Path:
    """A finished run's files, to be damaged."""
    for path in whole.folder.iterdir():
        shutil.copy(path, folder)
    return folder


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / MODEL).unlink(),
        lambda folder: (folder / MODEL).write_bytes(b""),
        lambda folder: (folder / "model.json").write_text('{"format": 3, "model": {"ba'),
        lambda folder: (folder / "model.json").write_text("{}"),
        lambda folder: shutil.copy(folder / CHECKPOINT, folder / MODEL),
    ],
)
def test_a_finished_run_whose_model_is_damaged(
    damage: Callable[[Path], Any], data: Data, whole: Run, tmp_path: Path
) -> None:
    """The checkpoint is whole, so the model is written again."""
    damage(copied(whole, tmp_path))
    model = build()
    with pytest.warns(UserWarning, match="is written again from the checkpoint: "):
        history = run(model, data, tmp_path)
    assert_same(model, history, whole)
    for name in (MODEL, "model.json"):
        assert (tmp_path / name).read_bytes() == (whole.folder / name).read_bytes()


@pytest.mark.parametrize("left", [0, 100, -1])
def test_a_damaged_checkpoint(left: int, data: Data, whole: Run, tmp_path: Path) -> None:
    path = copied(whole, tmp_path) / CHECKPOINT
    path.write_bytes(path.read_bytes()[: left if left >= 0 else -3])
    with pytest.raises(ValueError, match=f"whole safetensors file, but {path} .* remove it and"):
        run(build(), data, tmp_path)


def test_other_tensors_in_the_checkpoint(data: Data, whole: Run, tmp_path: Path) -> None:
    shutil.copy(whole.folder / MODEL, tmp_path / CHECKPOINT)
    with pytest.raises(ValueError, match="expected the checkpoint of a run in .*start over"):
        run(build(), data, tmp_path)
    stored = read_checkpoint(whole.folder / CHECKPOINT)
    tensors = {k: v for k, v in stored.tensors.items() if not k.startswith("average.head")}
    save_file(tensors, tmp_path / CHECKPOINT, {"run": json.dumps(stored.meta)})
    with pytest.raises(ValueError, match="that holds the tensors of this run, found others"):
        run(build(), data, tmp_path)


def test_undefined_figures_of_a_finished_run_stay_undefined(data: Data, tmp_path: Path) -> None:
    """A validation part of one class has no AUROC."""
    normal = dataclasses.replace(data, val=datasets.normal_only(data).val)
    first, again = (run(build("S1"), normal, tmp_path, epochs=1) for _ in range(2))
    assert np.isnan(first["auroc"]).all()
    pd.testing.assert_frame_equal(first, again)
    assert again["auroc"].dtype == np.float64


# Divergence that shows after the last step of an epoch


@pytest.mark.parametrize("value", [1e30, torch.nan])
def test_weights_that_explode_in_the_last_step(
    value: float, data: Data, whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss of the step itself is finite, so no check of a loss shows it."""
    original, steps = TrainingRun._update_average, []

    def explode(self: Any, step: int) -> None:
        """In place of the optimizer's last step."""
        steps.append(step)
        if step == 2 * STEPS - 1:
            with torch.no_grad():
                for parameter in self.model.parameters():
                    parameter.fill_(value)
        original(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingRun, "_update_average", explode)
        with pytest.raises(FloatingPointError) as caught:
            run(build(), data, tmp_path, average_decay=0.0)
    message = str(caught.value)
    assert f"in epoch 2, step {STEPS} (terms: " in message
    assert "attended_classification" in message
    assert f"the checkpoint after epoch 1 is kept in {tmp_path / CHECKPOINT}" in message
    assert len(steps) == 2 * STEPS


# The output folder


@pytest.mark.parametrize("below", ["", "run"])
def test_an_output_dir_that_is_a_file(
    below: str, data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GAINMTL, "training_step", interrupt)
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="expected a folder, but .* is a file; give anot"):
        run(build(), data, tmp_path / "file" / below)


def test_an_output_dir_that_is_read_only(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, *_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(GAINMTL, "training_step", interrupt)
    monkeypatch.setattr(Path, "touch", refuse)  # the tests may run as root, who may write anywhere
    with pytest.raises(PermissionError, match=r"output_dir: .* can be written to.*denied\. Give"):
        run(build(), data, tmp_path)


def test_an_output_dir_in_the_home_folder(
    data: Data, whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copytree(whole.folder, tmp_path / "runs")
    model = build()
    assert_same(model, run(model, data, Path("~/runs")), whole)
    assert not Path("~").exists()


def test_an_interrupted_run_leaves_no_hook_on_the_model(data: Data) -> None:
    model = build()
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run(model, watched(data, 4, interrupt))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
