"""`fit`: the staged training loop on Lightning Fabric, resumable after every epoch."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm.auto import tqdm

from gainmtl.datasets import Data
from gainmtl.files import claimed, output_folder, user_path
from gainmtl.interface import DefectModel, check_model
from gainmtl.precision import check_precision
from gainmtl.training.inner_folds import InnerRun, choose
from gainmtl.training.recipe import Recipe
from gainmtl.training.run import DeadNetworkError, TrainingRun


def fit(
    model: DefectModel,
    data: Data,
    epochs: int = 12,
    output_dir: str | Path | None = None,
    accelerator: str = "auto",
    devices: int | str = 1,
    precision: Any = "32-true",
    seed: int = 0,
    num_nodes: int = 1,
    fabric_strategy: str = "auto",
    progress: bool = True,
    probe: int = 0,
    **recipe: Any,
) -> pd.DataFrame:
    """Train `model` in place on `data.train` and store its threshold from `data.val`.

    With an `output_dir` a checkpoint is written atomically after every epoch, and the finished
    model as `model.safetensors`. A call with the same arguments continues an interrupted run, from
    its checkpoint, whatever weights `model` has; on a CPU the result is bit for bit that of an
    uninterrupted run. With "16-mixed" the loss scale
    starts again from its initial value, so a few steps may be skipped until it fits.

    A network whose deep channels die (see `gainmtl.training.watch`) is reported within the first
    steps, and the run starts again with a quarter of the learning rates.

    Args:
        output_dir: folder of the run; `None` writes nothing.
        accelerator, devices, precision, num_nodes: as in `lightning_fabric.Fabric`.
        fabric_strategy: its `strategy`.
        progress: show a progress bar.
        probe: number of training images on which the cosines between the terms' gradients are
            measured after every epoch; see `gainmtl.training.gradient_conflict`. 0: none. The
            trained weights do not depend on it.
        recipe: fields of `Recipe`, for example `learning_rate=3e-4`.

    Returns:
        One row per epoch: `epoch`, `seconds`, `learning_rate`, the mean of each active loss term as
        `<term>`, its weight as `weight_<term>` (the mean over the epoch's steps), the validation
        `auroc`, `dead_channels` (their share in the deeper half of the backbone, at the last look),
        `restarts`, and the columns of `model.epoch_metrics`. With inner folds `inner_auroc`, that
        of their held-out images. With a probe `cosine.<a>.<b>` and
        `pull.<a>`, where defined.

    Raises:
        TypeError: a model that is no `DefectModel`, or one part of the data instead of all.
        ValueError: an impossible recipe, a training set of one class, a validation set without
            normal images, or an `output_dir` with a run of other settings.
        DeadNetworkError: the network died at every learning rate that was tried.
        FloatingPointError: a loss, a weight or a score became NaN or infinite; the last checkpoint
            is kept.
        NotADirectoryError, PermissionError: `output_dir` can't be written to.
        RuntimeError: another run is writing to `output_dir`.
    """
    check_model("fit", model, (DefectModel,), "an anomaly detector is fitted by fit_detector")
    check_data("fit", data)
    names = {field.name for field in dataclasses.fields(Recipe)}
    if unknown := sorted(set(recipe) - names):
        raise ValueError(f"fit: unknown arguments {unknown}; a recipe has {sorted(names)}")
    settings = Recipe(epochs=epochs, seed=seed, **recipe)
    check_precision(precision)
    _check_classes(data)
    fabric = start_fabric(
        accelerator=accelerator,
        devices=devices,
        precision=precision,
        num_nodes=num_nodes,
        strategy=fabric_strategy,
    )
    folder = None if output_dir is None else user_path(output_dir)
    name = model.strategy.name
    choice = None
    if settings.inner_folds:
        first = copy.deepcopy(model)

        def inner_run(inner: Data, inner_folder: Path | None) -> InnerRun:
            plain = dataclasses.replace(settings, inner_folds=0, keep="last")
            found = InnerRun(copy.deepcopy(first), inner, plain, fabric, inner_folder, precision)
            complete(found, f"{name}, inner fold {inner.fold + 1} of {inner.folds}", progress)
            return found

        choice = choose(data, settings, inner_run, folder)
    run = TrainingRun(model, data, settings, fabric, folder, precision, probe, choice)
    history = complete(run, name, progress)
    return history if choice is None else history.assign(inner_auroc=choice.auroc)


def check_data(function: str, data: Any) -> None:
    """Raise a `TypeError` for data that are not in three parts."""
    if not isinstance(data, Data):
        raise TypeError(
            f"{function}: expected a Data with its parts train, val and test, got "
            f"{type(data).__name__}; give the whole of what gainmtl.datasets.load returns"
        )


def start_fabric(**arguments: Any) -> Any:
    """A launched `Fabric`; `arguments` are its.

    Raises:
        ValueError: devices that don't exist here, or that this process can't start.
    """
    from lightning_fabric import Fabric  # on demand: it takes a second

    try:
        fabric = Fabric(**arguments)
        fabric.launch()
    # An accelerator may need a package of its own.
    except (ImportError, RuntimeError, TypeError, ValueError) as error:
        named = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
        raise ValueError(
            f"fit: expected devices that can be used here, got {named}: {str(error).rstrip('.')}. "
            "Several devices need a process each, which a script can start, but a notebook or an "
            "interactive session can't: use devices=1 there"
        ) from error
    return fabric


def complete(run: TrainingRun, name: str, progress: bool) -> pd.DataFrame:
    """Resume a run, train it to its end, and return its history."""
    epochs = run.settings.epochs
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: run.watch.close())  # its hooks don't stay on the model
        run.resume()
        if run.output_dir is not None and run.epoch < epochs:
            output_folder(run.output_dir)  # now, not after the first epoch
            if run.fabric.is_global_zero:  # the other processes of a run share its folder
                stack.enter_context(claimed(run.output_dir))
        bar = tqdm(total=epochs, initial=run.epoch, desc=name, disable=not progress)
        while run.epoch < epochs:
            try:
                bar.set_postfix(run.train_epoch())
            except DeadNetworkError as died:
                run.start_again(died)
            bar.n = run.epoch
            bar.refresh()
        bar.close()
        run.finish()
    return pd.DataFrame(run.history)


def _check_classes(data: Data) -> None:
    count = data.counts["train"]
    if len(data.classes_in_train()) < 2:
        raise ValueError(
            f"fit: {data.name}: the training set holds {count['defective']} defective and "
            f"{count['normal']} normal images; a classifier needs both. Add the missing class, "
            "or load with split='folds' if only the official test set contains it."
        )
    # Checked here, because the threshold is set after hours of training.
    if not data.counts["val"]["normal"]:
        raise ValueError(
            f"fit: {data.name}: the validation set holds no normal image; the threshold, which "
            "limits false alarms, needs some. Use another seed, or a larger share for validation."
        )
