"""The detectors of the reference run and of the swap, and how they are run: by folds, resumable.

As `reference` for classifiers: a detector has a folder of its own, `output_dir/<tag>/seed<k>/
fold<j>`, and what is done there is read.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from gainbook.lab.comparison import compare
from gainbook.lab.protocol import Pooled, cross_validate, detector
from gainbook.lab.reference import HELD_OUT_FOLDS, find_weights
from gainmtl import datasets
from gainmtl.anomaly.base import Detector
from gainmtl.anomaly.fitting import KEEP_FEATURES, RECIPES
from gainmtl.anomaly.memory_bank import MemoryBank
from gainmtl.anomaly.reverse_distillation import ReverseDistillation
from gainmtl.datasets import Data
from gainmtl.evaluation.stats import paired_interval, percentile_interval, resample_weights
from gainmtl.files import plain
from gainmtl.metrics import recall_at_fpr


class DetectorSystem(NamedTuple):
    """A detector on a teacher, with a recipe."""

    tag: str
    """Its folder."""
    kind: str
    """`ReverseDistillation.kind` or `MemoryBank.kind`."""
    label: str
    """For readers."""
    options: tuple[tuple[str, Any], ...] = ()
    """Further arguments of the detector."""
    recipe: str = "modern"
    """A name of `RECIPES`; of no meaning for a memory bank."""
    changes: tuple[tuple[str, Any], ...] = ()
    """What its recipe has instead of the named one's."""
    backbone: str | None = None
    """Its teacher's, where it is not the notebook's `backbone`; see `on`."""
    weights: str | None = None
    """Likewise; no part of the result rows."""
    split: str = "auto"
    """"leaking": folds by image, to show what that does."""

    @property
    def condition(self) -> dict[str, Any]:
        """What its result rows carry."""
        trained = {"recipe": self.recipe} if self.kind == ReverseDistillation.kind else {}
        own = {"split": self.split} if self.split != "auto" else {}
        every = {**trained, **dict(self.changes), **own, **dict(self.options)}
        return dict(plain(every))  # lists, as a results file gives them back

    @property
    def name(self) -> str:
        """Its system's, for result rows."""
        return f"{self.kind}-{self.backbone}"

    @property
    def as_other(self) -> dict[str, Any]:
        """What rows of a paired difference carry when this is the one subtracted."""
        return {"against": self.name, **{f"against_{k}": v for k, v in self.condition.items()}}


def on(system: DetectorSystem, backbone: str) -> DetectorSystem:
    """`system` on the notebook's backbone, unless it has its own."""
    return system if system.backbone else system._replace(backbone=backbone)


SURFACE = (
    ("features", "scaled"), ("strides", (8, 16, 32)), ("neighborhood", 3), ("flat_field", 3 / 32),
)  # fmt: skip
"""How a teacher's features are taken where a surface has grain: loud channels quieted, the mean
that a cosine needs kept, no level as fine as the grain, each place averaged with its neighbours,
and pictures with their shading taken out, so that no exposure is an anomaly."""
RD = DetectorSystem(
    "rd", "rd", "reverse distillation",
    (*SURFACE, ("balanced", True), ("code_channels", 64), ("denoise", 0.8)),
)  # fmt: skip
"""`SURFACE`, levels on one scale, a code of 64 channels (640 of mobilenetv2_100 otherwise), and a
student that learns to give back undisturbed features."""
RD_CENTERED = DetectorSystem(
    "rd-centered", "rd", "reverse distillation, standardized features",
    (("features", "standardized"),),
)  # fmt: skip
"""To show what centring does to a cosine: the most ordinary place is near zero and points
anywhere."""
RD_RAW = DetectorSystem("rd-raw", "rd", "reverse distillation, raw features")
RD_PAPER = DetectorSystem("rd-paper", "rd", "reverse distillation as published", (), "paper")
BANK = DetectorSystem("memory-bank", "memory-bank", "memory bank")
BANK_SAME = DetectorSystem(
    "memory-bank-same", "memory-bank", "memory bank, the same features", SURFACE
)
RD_LEAKING = RD._replace(
    tag="rd-leaking", label="reverse distillation, leaking split", split="leaking"
)
BANK_LEAKING = BANK._replace(
    tag="memory-bank-leaking", label="memory bank, leaking split", split="leaking"
)
REFERENCE_TEACHER = "mobilenetv2_100"
"""The teacher of the reference run's detectors."""
SYSTEMS = (RD, RD_CENTERED, RD_RAW, RD_PAPER, BANK, BANK_SAME, RD_LEAKING, BANK_LEAKING)


def build(system: DetectorSystem, backbone: str, weights: str | None) -> Detector:
    """An unfitted detector; `backbone` and `weights` where the system has none of its own."""
    kinds: dict[str, Any] = {
        ReverseDistillation.kind: ReverseDistillation,
        MemoryBank.kind: MemoryBank,
    }
    chosen = system.backbone or backbone
    given = find_weights(system.weights if system.backbone and system.weights else weights)
    found: Detector = kinds[system.kind](chosen, given, **dict(system.options))
    return found


def recipe_of(system: DetectorSystem, parameters: Any) -> dict[str, Any]:
    """What `fit_detector` gets: the named recipe, the notebook's sizes, the system's changes."""
    own: dict[str, Any] = {"epochs": parameters.epochs, "batch_size": parameters.batch_size}
    if system.recipe == "modern":
        own["learning_rate"] = parameters.learning_rate
    return {**RECIPES[system.recipe], **own, **dict(system.changes)}


def load_detector_fold(parameters: Any, seed: int, split: str) -> Any:
    """As `reference.load_fold`, with a split of one's own."""
    p = parameters
    folds = p.folds if p.folds > 1 else HELD_OUT_FOLDS
    used = "folds" if split == "auto" and p.folds > 1 and p.dataset != "synthetic" else split

    def load(fold: int) -> Data:
        return datasets.load(
            p.dataset, p.data_root, image_size=p.image_size, fold=fold, folds=folds, split=used,
            seed=seed, category=getattr(p, "category", None),
        )  # fmt: skip

    return load


def run_detector(
    parameters: Any,
    system: DetectorSystem,
    weights: str | None,
    only: Sequence[int] | None = None,
    progress: bool = True,
    data_seed: int | None = None,
) -> list[Pooled]:
    """Run `system` on the folds of a notebook's parameters, one `Pooled` per seed.

    `data_seed` deals the folds alike for all seeds; `None`: each seed deals its own.
    """
    p = parameters
    fold_0 = functools.partial(load_detector_fold, p, split=system.split)
    return [
        cross_validate(
            functools.partial(build, system, p.backbone, weights),
            fold_0(seed if data_seed is None else data_seed),
            Path(p.output_dir) / system.tag / f"seed{seed}",
            folds=p.folds,
            seed=seed,
            condition=system.condition,
            only=only,
            kind=detector(),
            accelerator=p.accelerator,
            devices=p.devices,
            precision=p.precision,
            progress=progress,
            keep_features=getattr(p, "keep_features", KEEP_FEATURES),
            **recipe_of(system, p),
        )
        for seed in p.seeds
    ]


def compare_detectors(a: Pooled, b: Pooled, dataset: str, resamples: int = 2000) -> pd.DataFrame:
    """Paired differences a - b as `comparison.compare`, with those of pixels and regions too.

    `pixel_auroc_difference`, `pixel_ap_difference`, `aupro_difference`,
    `recall_at_fpr01_difference`: the same resampled groups for both.
    """
    rows = compare(a, b, dataset, resamples)
    orders = [np.argsort(p.scores.images["name"].to_numpy(str)) for p in (a, b)]
    first, second = (p.scores.histograms["defect_map"] for p in (a, b))
    images = a.scores.images.iloc[orders[0]]
    groups = images["group"].to_numpy(str)
    weights = resample_weights(groups, resamples)
    template = rows.iloc[0].to_dict()
    extra = []

    def add(metric: str, map_name: str | None, interval: Any, p_value: float) -> None:
        extra.append(
            {
                **template,
                "map": map_name,
                "metric": f"{metric}_difference",
                "value": interval.value,
                **interval.ends,
                "p_value": p_value,
            }
        )

    for metric, name in (
        ("pixel_auroc", "auroc"), ("pixel_ap", "average_precision"), ("aupro", "aupro"),
    ):  # fmt: skip
        values = []
        for histogram, order in ((first, orders[0]), (second, orders[1])):
            back = np.empty_like(order)
            back[order] = np.arange(len(order))
            measure = getattr(histogram, name)
            values.append((float(measure()), measure(weights[:, back])))
        (x, drawn_x), (y, drawn_y) = values
        drawn = drawn_x - drawn_y
        interval = percentile_interval(x - y, drawn, groups)
        fewer = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
        add(metric, "defect_map", interval, min(1.0, 2 * (fewer + 1) / (len(drawn) + 1)))
    labels = images["is_defective"].to_numpy(bool)
    x, y = (
        p.scores.images.iloc[order]["defect_probability"].to_numpy(float)
        for p, order in zip((a, b), orders, strict=True)
    )
    found = paired_interval(
        lambda s, bad: recall_at_fpr(s, bad, 0.01), groups, x, y, [labels], resamples=resamples
    )
    add("recall_at_fpr01", None, found, found.p_value)
    return pd.concat([rows, pd.DataFrame(extra)], ignore_index=True)
