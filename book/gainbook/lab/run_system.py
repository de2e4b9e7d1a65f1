"""Running a system by the reference protocol: one recipe for all, every chapter alike.

A system has a folder of its own, `output_dir/<tag>/seed<k>/fold<j>`, so that chapters share what is
finished: a fold trained for one chapter is read by the next.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gainbook import ROOT
from gainbook.lab.parameters import Parameters
from gainbook.lab.protocol import FACTS, REFERENCE, Pooled, cross_validate
from gainbook.lab.systems import System
from gainmtl import datasets
from gainmtl.datasets import Data
from gainmtl.interface import DefectModel
from gainmtl.io import class_of
from gainmtl.strategies import get_strategy

HELD_OUT_FOLDS = 5
"""With `folds=1` and no official split, one of this many parts is held out."""


def find_weights(weights: str | None) -> str | None:
    """A relative path is looked for in the working directory, then in the checkout's root.

    So a notebook can be started in any folder and still use the book's weights.
    """
    if weights is None or Path(weights).exists():
        return weights
    inside = ROOT / weights
    return str(inside) if inside.is_file() else weights


WEIGHTS = "book/weights/test_efficientnet_synthetic.safetensors"
"""A small backbone that the project trained on synthetic parts; see `tools/make_checkpoint.py`."""
SMALL: dict[str, Any] = {"backbone": "test_efficientnet", "weights": WEIGHTS}
"""The backbone of the chapters' live parts."""


def live(parameters: Parameters, quick: Mapping[str, Any]) -> Parameters:
    """The parameters of a chapter's live part, which is always about synthetic parts.

    With `dataset="synthetic"` they are the notebook's own. With another data set those belong to
    it, and the live part runs with the `quick` ones, as in the book.
    """
    if parameters.dataset == "synthetic":
        return parameters
    own = {"dataset": "synthetic", "data_root": None, **quick}
    return Parameters(**{**vars(parameters), **own})


def build(system: System, backbone: str, weights: str | None) -> DefectModel:
    """An untrained model of a system."""
    options = dict(system.options)
    if system.classes:
        options |= {"num_classes": len(system.classes), "classes": system.classes}
    if not system.kind:
        options["output_stride"] = system.output_stride
    strategy = get_strategy(system.strategy)
    return class_of(system.kind, strategy)(backbone, strategy, weights, **options)


BOARD_TILES: dict[str, int] = {"defective": 300, "normal": 300, "test_tiles": 1000}
"""Of DeepPCB's 25,000 tiles, those of a fold: for training and validation, and tested ones."""


def load_fold(parameters: Parameters, seed: int, split: str = "") -> Callable[[int], Data]:
    """The data of a notebook's parameters, by fold; `split` where a system has its own.

    Of DeepPCB so many tiles as `BOARD_TILES`, drawn by the seed.
    """
    p = parameters
    sizes: dict[str, Any] = {**BOARD_TILES, "draw": seed} if p.dataset == "deep-pcb" else {}

    def load(fold: int) -> Data:
        return datasets.load(
            p.dataset,
            p.data_root,
            image_size=p.image_size,
            fold=fold,
            folds=p.folds if p.folds > 1 else HELD_OUT_FOLDS,
            category=getattr(p, "category", None) if p.dataset != "synthetic" else None,
            split=split or ("folds" if p.folds > 1 and p.dataset != "synthetic" else "auto"),
            seed=seed,
            **sizes,
        )

    return load


def recipe(parameters: Parameters, system: System) -> dict[str, Any]:
    """`protocol.REFERENCE` with the sizes of the notebook and the changes of the system."""
    p = parameters
    return {
        **REFERENCE,
        "epochs": p.epochs,
        "batch_size": p.batch_size,
        "learning_rate": p.learning_rate,
        **dict(system.changes),
    }


def is_finished(parameters: Parameters, system: System) -> bool:
    """Whether all folds of all seeds of `system` are finished, so that `run` only reads them."""
    p = parameters
    folders = [Path(p.output_dir) / system.folder / f"seed{seed}" for seed in p.seeds]
    return all(
        (folder / f"fold{k}" / FACTS).is_file() for folder in folders for k in range(p.folds)
    )


def run(parameters: Parameters, system: System, only: Sequence[int] | None = None) -> list[Pooled]:
    """Run `system` by the reference protocol, one `Pooled` per seed; finished folds are read.

    `only` names the folds to run, where other processes run the others.
    """
    p = parameters
    if system.trained_as is not None:
        runs = run(p, system.trained_as, only)
        return [one._replace(system=system.name, condition=system.condition) for one in runs]

    def fresh() -> DefectModel:
        return build(system, p.backbone, find_weights(p.weights))

    def load(fold: int, seed: int) -> Data:
        own = {"split": system.split} if system.split else {}
        data = datasets.limit_masks(load_fold(p, seed, **own)(fold), **dict(system.masks))
        return datasets.limit_exposures(data, system.exposures)

    probe: dict[str, Any] = {"probe": system.probe} if system.probe else {}
    return [
        cross_validate(
            fresh,
            functools.partial(load, seed=seed),
            Path(p.output_dir) / system.folder / f"seed{seed}",
            folds=p.folds,
            seed=seed,
            condition=system.condition,
            only=only,
            accelerator=p.accelerator,
            devices=p.devices,
            precision=p.precision,
            **probe,
            **recipe(p, system),
        )
        for seed in p.seeds
    ]
