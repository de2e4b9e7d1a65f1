"""The systems of the reference run and how they are run: one recipe for all, every chapter alike.

A system has a folder of its own, `output_dir/<tag>/seed<k>/fold<j>`, so that chapters share what is
already there: a fold trained for one chapter is read by the next.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gainbook import ROOT
from gainbook.lab.parameters import Parameters
from gainbook.lab.protocol import FACTS, REFERENCE, Pooled, cross_validate
from gainmtl import datasets
from gainmtl.baselines.readout import DETECTION, SEGMENTATION
from gainmtl.datasets import Data
from gainmtl.interface import Inspector
from gainmtl.io import class_of
from gainmtl.model import GAINMTL
from gainmtl.strategies import Strategy, get_strategy

HELD_OUT_FOLDS = 5
"""With `folds=1` and no official split, one part of this many is held out."""


def find_weights(weights: str | None) -> str | None:
    """A relative path is looked for in the working directory, then in the checkout's root.

    So that a notebook finds the book's own weights wherever it was started.
    """
    if weights is None or Path(weights).exists():
        return weights
    inside = ROOT / weights
    return str(inside) if inside.is_file() else weights


class System(NamedTuple):
    """A strategy on an evidence grid."""

    tag: str
    """Its folder, unless `trained_as` says otherwise."""
    strategy: str | Strategy
    output_stride: int
    label: str
    """For readers."""
    recipe: str | None = None
    """The name of its recipe, for the result rows, where it is not the one of all."""
    changes: tuple[tuple[str, Any], ...] = ()
    """What its recipe has instead of `protocol.REFERENCE`'s; chosen by `tools/tune.py`."""
    options: tuple[tuple[str, Any], ...] = ()
    """Further arguments of `GAINMTL`."""
    masks: tuple[tuple[str, Any], ...] = ()
    """Arguments of `datasets.limit_masks` where training has fewer or coarser masks."""
    about: tuple[tuple[str, Any], ...] = ()
    """What else its result rows carry: the value of what its strategy varies."""
    exposures: tuple[int, ...] = ()
    """Argument of `datasets.limit_exposures` where training has only some of the light."""
    kind: str = ""
    """What it is if no `GAINMTL`; see `persistence.class_of`."""
    probe: int = 0
    """Training images on which the conflict of its terms is measured after every epoch."""
    classes: tuple[str, ...] = ()
    """Where it tells defect types apart: "normal" and their names; else it knows two classes."""
    split: str = ""
    """Argument of `datasets.load` where its folds are not those of all: `"leaking"`."""
    trained_as: System | None = None
    """The same under another name, term for term: its folds are read, and trained, as this one."""

    @property
    def folder(self) -> str:
        """Where its folds lie under `output_dir`."""
        return self.tag if self.trained_as is None else self.trained_as.folder

    @property
    def name(self) -> str:
        """Its strategy's, which its result rows carry."""
        return get_strategy(self.strategy).name

    @property
    def condition(self) -> dict[str, Any]:
        """What its result rows carry."""
        own = {} if self.recipe is None else {"recipe": self.recipe}
        masks = {f"mask_{name}": value for name, value in self.masks}
        light = {"exposures": list(self.exposures)} if self.exposures else {}
        classes = {"num_classes": len(self.classes)} if self.classes else {}
        split = {"split": self.split} if self.split else {}
        return {
            "output_stride": self.output_stride,
            **own,
            **classes,
            **dict(self.options),
            **masks,
            **light,
            **split,
            **dict(self.about),
        }

    @property
    def as_other(self) -> dict[str, Any]:
        """What rows of a paired difference carry when this is the one subtracted."""
        return {"against": self.name, **{f"against_{k}": v for k, v in self.condition.items()}}


WEIGHTS = "book/weights/test_efficientnet_synthetic.safetensors"
"""A small backbone that the project trained on synthetic parts; see `tools/make_checkpoint.py`."""
_SMALL: dict[str, Any] = {"backbone": "test_efficientnet", "weights": WEIGHTS}
QUICK: dict[str, dict[str, Any]] = {
    "03_right_answer_wrong_reason": _SMALL
    | {"image_size": 96, "epochs": 10, "batch_size": 16, "learning_rate": 3e-3},
    "04_class_activation_maps": _SMALL
    | {"image_size": 96, "epochs": 10, "batch_size": 16, "learning_rate": 3e-3},
    "05_attention": _SMALL
    | {"image_size": 64, "epochs": 7, "batch_size": 8, "learning_rate": 4e-3},
    "06_guided_attention": _SMALL
    | {"image_size": 64, "epochs": 6, "batch_size": 8, "learning_rate": 4e-3},
    "07_localization": _SMALL
    | {"image_size": 64, "epochs": 11, "batch_size": 8, "learning_rate": 4e-3},
    "08_counterfactual": _SMALL
    | {"image_size": 64, "epochs": 12, "batch_size": 8, "learning_rate": 4e-3},
    # The head after attention needs more steps than a plain one before it says anything.
    "09_staged_training": _SMALL
    | {"image_size": 64, "epochs": 12, "batch_size": 8, "learning_rate": 4e-3},
    "10_ablation": _SMALL
    | {"image_size": 64, "epochs": 10, "batch_size": 8, "learning_rate": 4e-3},
    "11_six_approaches": _SMALL
    | {"image_size": 64, "epochs": 10, "batch_size": 8, "learning_rate": 4e-3},
    # On smaller parts a plain network finds defects without ever pointing at one.
    "12_cam_fostering": _SMALL
    | {"image_size": 96, "epochs": 10, "batch_size": 16, "learning_rate": 3e-3},
    "13_reverse_distillation": {
        "backbone": "test_resnet",
        "weights": "book/weights/test_resnet_formulas.safetensors",
        "image_size": 64,
        "epochs": 16,
        "batch_size": 8,
        "learning_rate": 2e-3,
    },
}
"""What the live part of each chapter runs with unless it is told otherwise."""


def live(parameters: Parameters) -> Parameters:
    """The parameters of a chapter's live part, which is always about synthetic parts.

    With `dataset="synthetic"` they are the notebook's own; otherwise those belong to the data set
    that was asked for, and the live part runs as in the book.
    """
    if parameters.dataset == "synthetic":
        return parameters
    own = {"dataset": "synthetic", "data_root": None, **QUICK[parameters.notebook]}
    return Parameters(**{**vars(parameters), **own})


_SLOW: tuple[tuple[str, Any], ...] = (
    ("augmentation", "standard"),
    ("weight_decay", 1e-2),
    ("batch_size", 16),
    ("learning_rate", 1.5e-3),
)
"""The trial `standard-slow`: at higher rates the backbone's own grid ends with dead features."""
_FAST: tuple[tuple[str, Any], ...] = (
    ("augmentation", "standard"),
    ("weight_decay", 1e-2),
    ("learning_rate", 8e-3),
    ("backbone_rate", 0.1),
)
"""The trial `standard-fast`, the best of S1's own."""
S1_COARSE = System("S1-stride32", "S1", 32, "S1, stride 32", None, _SLOW)
S1_FINE = System("S1-stride4", "S1", 4, "S1, stride 4")
S1_OWN = System("S1-stride4-own", "S1", 4, "S1, stride 4, own recipe", "own", _FAST)
S5 = System("S5-stride4", "S5", 4, "S5, stride 4")
S5_WITHOUT_TERM = System(
    "S5-no-counterfactual-stride4", "S5-no-counterfactual", 4, "S5 without the term, stride 4"
)


UNET = System("U-Net", SEGMENTATION, 1, "U-Net", kind="unet")
"""The stride is that of its map."""
DETECTOR = System("FCOS", DETECTION, 4, "detector", kind="detector")


def build(system: System, backbone: str, weights: str | None) -> Inspector:
    """An untrained model of a system."""
    options = dict(system.options)
    if system.classes:
        options |= {"num_classes": len(system.classes), "classes": system.classes}
    if system.kind:
        return class_of(system.kind)(backbone, system.strategy, weights, **options)
    stride = system.output_stride
    return GAINMTL(backbone, system.strategy, weights, output_stride=stride, **options)


def load_fold(parameters: Parameters, seed: int, split: str = "") -> Callable[[int], Data]:
    """The data of a notebook's parameters, by fold; `split` where a system has its own."""
    p = parameters

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
    """Whether all folds of all seeds of `system` are there, so that `run` only has to read them."""
    p = parameters
    folders = [Path(p.output_dir) / system.folder / f"seed{seed}" for seed in p.seeds]
    return all(
        (folder / f"fold{k}" / FACTS).is_file() for folder in folders for k in range(p.folds)
    )


def run(parameters: Parameters, system: System, only: Sequence[int] | None = None) -> list[Pooled]:
    """Run `system` by the reference protocol, one `Pooled` per seed; what is done is read.

    `only` names the folds to run, where others are run elsewhere.
    """
    p = parameters
    if system.trained_as is not None:
        found = run(p, system.trained_as, only)
        return [one._replace(system=system.name, condition=system.condition) for one in found]

    def fresh() -> Inspector:
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
