"""What a run on somebody's own images asks for: its parameters, its data, its threshold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from lightning_fabric import Fabric

from gainbook.lab.parameters import Parameters, Rule
from gainmtl import metrics
from gainmtl.datasets import Data, ImageDataset, load
from gainmtl.datasets.layouts import LAYOUTS, read_records
from gainmtl.evaluation.scoring import defect_scores
from gainmtl.model import GAINMTL
from gainmtl.strategies import get_strategy

TEST_PARTS = 5
"""A set without a split of its own is tested on one of so many parts, or on one of as many as it
has defective groups where those are fewer."""

SYNTHETIC: dict[str, Any] = {"train": 160, "val": 48, "test": 80}
"""Images of the built-in set, when the notebook is only looked at."""

RULES: dict[str, Any] = {
    "batch_size": Rule(int, 2, 100_000),
    "strategy": Rule(str),
    "checkpoint": Rule(str, optional=True),
    "predict_root": Rule(str, optional=True),
    "category": Rule(str, optional=True),
    "split": ["auto", "official", "folds"],
    "resize": ["squash", "pad"],
    "validation": Rule(float, 0.01, 0.9),
    "max_false_alarms": Rule(float, 0.0, 0.99),
    "map_limit": Rule(int, 0, 10_000_000),
    "examples": Rule(int, 0, 1000),
}
"""The parameters that only this notebook has; and no step is possible on a batch of one."""


def is_labelled(chosen: Parameters) -> bool:
    """Whether there is a labelled set to test on, beside a folder that is only judged."""
    only_judges = chosen.checkpoint and chosen.predict_root and chosen.data_root is None
    return not only_judges


def check_choices(chosen: Parameters) -> None:
    """Raise one `ValueError` for parameters that are fine each by itself but not together."""
    problems = []
    get_strategy(chosen.strategy)
    if len(chosen.seeds) > 1:
        problems.append(
            f"seeds: this notebook leaves one model, so it takes one seed, found "
            f"{list(chosen.seeds)}; add -p seeds {chosen.seeds[0]}"
        )
    if chosen.dataset == "synthetic" and chosen.data_root is not None:
        problems.append(
            "data_root: given, but dataset is 'synthetic', which is built in; add the layout of "
            f"your folder, -p dataset {' or '.join(LAYOUTS)}"
        )
    if chosen.predict_root is not None and not chosen.checkpoint and chosen.dataset == "synthetic":
        problems.append(
            "predict_root: a model of synthetic parts can't judge real ones; add -p checkpoint "
            "with a saved model, or a labelled set to train on (dataset and data_root)"
        )
    if chosen.checkpoint and chosen.folds > 1:
        problems.append(
            f"folds: a checkpoint is one model, so nothing is trained on {chosen.folds} folds; "
            "leave folds at 1"
        )
    if chosen.checkpoint and Path(chosen.checkpoint).suffix != ".safetensors":
        problems.append(
            f"checkpoint: expected the .safetensors file of a saved model, found "
            f"{Path(chosen.checkpoint).name!r}; pickled files are never opened, for they can run "
            "code. Save a model with gainmtl.save."
        )
    output = Path(chosen.output_dir).resolve()
    images = None if chosen.data_root is None else Path(chosen.data_root) / "images"
    for name, folder in (("predict_root", chosen.predict_root), ("data_root", images)):
        if folder is not None and output.is_relative_to(Path(folder).resolve()):
            problems.append(
                f"output_dir: lies in the images of {name}, so that the next run would take the "
                "maps for images; choose a folder outside"
            )
    if problems:
        raise ValueError(
            f"the parameters of notebook {chosen.notebook} don't go together:\n  "
            + "\n  ".join(problems)
        )


def parts_of(chosen: Parameters) -> int:
    """How many parts a set is cut into: `folds`, or for a single one by the defects it has."""
    if chosen.folds > 1:
        return int(chosen.folds)
    if chosen.dataset not in LAYOUTS or chosen.data_root is None:
        return TEST_PARTS  # built in, or `load` says what is missing
    records = read_records(chosen.dataset, chosen.data_root, chosen.category)
    return max(2, min(TEST_PARTS, len({r.group for r in records if r.is_defective})))


def load_fold(chosen: Parameters, fold: int = 0, model: GAINMTL | None = None) -> Data:
    """The labelled data of one fold, every image decoded once where memory allows.

    Size and resizing are those of `model`, where a trained one is given.

    Raises:
        ValueError, FileNotFoundError: as `datasets.load`; and a validation part without a normal
            image, on which no threshold can be chosen.
    """
    split = "folds" if chosen.folds > 1 and chosen.split == "auto" else chosen.split
    data = load(
        chosen.dataset,
        chosen.data_root,
        image_size=(model and model.image_size) or chosen.image_size,
        fold=fold,
        folds=parts_of(chosen),
        seed=chosen.seeds[0],
        resize=chosen.resize if model is None else model.resize,
        validation=chosen.validation,
        category=chosen.category,
        split="auto" if chosen.dataset == "synthetic" else split,
        **(SYNTHETIC if chosen.dataset == "synthetic" else {}),
    )
    if not data.counts["val"]["normal"]:
        raise ValueError(
            "the threshold is chosen on normal images of the validation part, which has "
            f"{data.counts['val']['images']} images and no normal one: {data.report()} Add normal "
            "images of at least two groups, or raise validation."
        )
    for part in (data.train, data.val, data.test):
        if isinstance(part, ImageDataset):
            part.preload()  # a damaged file ends the run now, not in the middle of training
    return data


def choose_threshold(model: GAINMTL, data: Data, max_false_alarms: float = 0.05) -> float:
    """Set `model.threshold` by the rule of `fit`, on the validation part of `data`."""
    scores, labels = defect_scores(model, data.val)
    model.threshold = metrics.threshold_at_fpr(scores, np.asarray(labels), max_false_alarms)
    return model.threshold


def device_of(accelerator: str) -> Any:
    """The torch device that an accelerator's name means on this machine."""
    return Fabric(accelerator=accelerator, devices=1).device
