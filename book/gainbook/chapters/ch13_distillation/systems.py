"""Detectors as systems: named ones, their runs by folds, their result rows."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from gainbook.lab.comparison import compare, merge, pooled_rows
from gainbook.lab.protocol import Pooled, cross_validate, detector
from gainbook.lab.run_system import find_weights, load_fold
from gainmtl import metrics
from gainmtl.anomaly.base import Detector
from gainmtl.anomaly.fitting import KEEP_FEATURES, RECIPES
from gainmtl.anomaly.memory_bank import MemoryBank
from gainmtl.anomaly.reverse_distillation import ReverseDistillation
from gainmtl.evaluation.scoring import Scores
from gainmtl.evaluation.stats import paired_interval, percentile_interval, resample_weights
from gainmtl.files import plain
from gainmtl.types import NORMAL


class DetectorSystem(NamedTuple):
    """A detector on a teacher, with its recipe."""

    tag: str
    """Its folder below `output_dir`."""
    kind: str
    """`ReverseDistillation.kind` or `MemoryBank.kind`."""
    label: str
    """For readers."""
    options: tuple[tuple[str, Any], ...] = ()
    """Further arguments of the detector."""
    recipe: str = "modern"
    """A name of `RECIPES`; unused by a memory bank."""
    changes: tuple[tuple[str, Any], ...] = ()
    """Fields that replace those of the recipe."""
    backbone: str = ""
    """The teacher; see `on`."""
    weights: str | None = None
    """The teacher's weights; not part of the result rows."""
    split: str = ""
    """Argument of `datasets.load` where its folds are not the common ones: `"leaking"`."""

    @property
    def condition(self) -> dict[str, Any]:
        """The condition of its result rows."""
        recipe = {"recipe": self.recipe} if self.kind == ReverseDistillation.kind else {}
        split = {"split": self.split} if self.split else {}
        every = {**recipe, **dict(self.changes), **split, **dict(self.options)}
        return dict(plain(every))  # lists, as in a results file

    @property
    def name(self) -> str:
        """The `system` of its result rows."""
        return f"{self.kind}-{self.backbone}"

    @property
    def as_other(self) -> dict[str, Any]:
        """Condition entries of a paired difference from which it is subtracted."""
        return {"against": self.name, **{f"against_{k}": v for k, v in self.condition.items()}}


def on(system: DetectorSystem, backbone: str, weights: str | None = None) -> DetectorSystem:
    """`system` with this teacher."""
    return system._replace(backbone=backbone, weights=weights)


SURFACE = (
    ("features", "scaled"), ("strides", (8, 16, 32)), ("neighborhood", 3), ("flat_field", 3 / 32),
)  # fmt: skip
"""Features for a surface with grain. Scaled channels keep the mean that defines a cosine's
directions; no level is as fine as the grain, and cells are averaged with their neighbours; the
flat-field filter makes changes of exposure no anomaly."""
RD = DetectorSystem(
    "rd", "rd", "reverse distillation",
    (*SURFACE, ("balanced", True), ("code_channels", 64), ("denoise", 0.8)),
)  # fmt: skip
"""`SURFACE`, balanced levels, a code of 64 channels (without this option 640 on mobilenetv2_100),
and a student that reconstructs undisturbed features from disturbed images."""
RD_CENTERED = DetectorSystem(
    "rd-centered", "rd", "reverse distillation, standardized features",
    (("features", "standardized"),),
)  # fmt: skip
"""Shows the effect of centring on a cosine: average features are near zero, without direction."""
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


def build(system: DetectorSystem) -> Detector:
    """An unfitted detector on the system's teacher."""
    kinds: dict[str, Any] = {
        ReverseDistillation.kind: ReverseDistillation,
        MemoryBank.kind: MemoryBank,
    }
    weights = find_weights(system.weights)
    model: Detector = kinds[system.kind](system.backbone, weights, **dict(system.options))
    return model


def recipe_of(system: DetectorSystem, parameters: Any) -> dict[str, Any]:
    """Arguments of `fit_detector`: the named recipe, the notebook's sizes, the system's changes."""
    sizes: dict[str, Any] = {"epochs": parameters.epochs, "batch_size": parameters.batch_size}
    if system.recipe == "modern":
        sizes["learning_rate"] = parameters.learning_rate
    return {**RECIPES[system.recipe], **sizes, **dict(system.changes)}


def run_detector(
    parameters: Any,
    system: DetectorSystem,
    only: Sequence[int] | None = None,
    progress: bool = True,
    data_seed: int | None = None,
) -> list[Pooled]:
    """Run a system on the folds of a notebook's parameters, one `Pooled` per seed.

    Finished folds are read from `output_dir/<tag>/seed<k>/fold<j>`.

    Args:
        only: the folds to run; `None` is all of them.
        data_seed: deals the same folds for all seeds; `None`: each seed deals its own.
    """
    p = parameters
    return [
        cross_validate(
            functools.partial(build, system),
            load_fold(p, seed if data_seed is None else data_seed, system.split),
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


def with_condition(pooled: Pooled, **more: Any) -> Pooled:
    """The same scores with further entries in the condition of their rows."""
    return pooled._replace(condition={**pooled.condition, **more})


def with_scores(pooled: Pooled, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Pooled:
    """The runs with `change` applied to the table of images of each fold and of all."""

    def changed(scores: Scores) -> Scores:
        return scores._replace(images=change(scores.images))

    return pooled._replace(
        folds=[changed(part) for part in pooled.folds], scores=changed(pooled.scores)
    )


def one_type(images: pd.DataFrame) -> pd.DataFrame:
    """A table of images whose defects are of one type, so that no rows by type are computed."""
    return images.assign(defect_type=np.where(images["is_defective"], "defect", NORMAL))


def detector_rows(
    pooled: Sequence[Pooled],
    seeds: Sequence[int],
    dataset: str,
    resamples: int = 2000,
    **more: Any,
) -> pd.DataFrame:
    """One set of rows per seed and fold, and one pooled over both with intervals over groups.

    A fold's rows are of all defect types together, because it has few images of each. There are no
    rows for the calibration error, because a detector's score is no probability. `more` is added to
    the condition of every row.
    """
    pooled = [with_condition(run, **more) for run in pooled]
    parts = []
    for run, seed in zip(pooled, seeds, strict=True):
        rows = pooled_rows(with_scores(run, one_type), dataset, seed, resamples=0)
        parts.append(rows[rows["fold"].notna()])
    whole = pooled_rows(merge(pooled, seeds), dataset, seeds[0], resamples)
    parts.append(whole[whole["fold"].isna()])
    rows = pd.concat(parts, ignore_index=True)
    return rows[rows["metric"] != "ece"].reset_index(drop=True)


PIXEL_MEASURES = {"pixel_auroc": "auroc", "pixel_ap": "average_precision", "aupro": "aupro"}
"""Methods of the histogram by metric."""


def compare_detectors(a: Pooled, b: Pooled, dataset: str, resamples: int = 2000) -> pd.DataFrame:
    """Paired differences a - b: those of `comparison.compare` and the detectors' own measures.

    `pixel_auroc_difference`, `pixel_ap_difference`, `aupro_difference`,
    `recall_at_fpr01_difference`, and `auroc_difference` by defect type. All use the same resampled
    groups.
    """
    rows = compare(a, b, dataset, resamples).drop(columns="p_value")
    more: list[dict[str, Any]] = []

    def add(metric: str, interval: Any, map_name: str | None = None, **condition: Any) -> None:
        about = rows.iloc[0].to_dict()
        more.append(
            about
            | {"condition": {**about["condition"], **condition}, "map": map_name}
            | {"metric": f"{metric}_difference", "value": interval.value, **interval.ends}
        )

    groups = a.scores.images["group"].to_numpy(str)
    for metric, method in PIXEL_MEASURES.items():
        values, draws = [], []
        for scores in (a.scores, b.scores):
            measure = getattr(scores.histograms["defect_map"], method)
            values.append(float(measure()))
            draws.append(measure(resample_weights(scores.images["group"].to_numpy(str), resamples)))
        interval = percentile_interval(values[0] - values[1], draws[0] - draws[1], groups)
        add(metric, interval, "defect_map")
    left, right = (run.scores.images.sort_values("name", ignore_index=True) for run in (a, b))
    kinds = left["defect_type"].to_numpy(str)
    types = sorted(set(kinds) - {NORMAL})

    def paired(statistic: Any, keep: Any) -> Any:
        x, y = (t.loc[keep, "defect_probability"].to_numpy(float) for t in (left, right))
        labels = left.loc[keep, "is_defective"].to_numpy(bool)
        names = left.loc[keep, "group"].to_numpy(str)
        return paired_interval(statistic, names, x, y, [labels], resamples=resamples)

    every = np.ones(len(left), bool)
    add("recall_at_fpr01", paired(lambda s, bad: metrics.recall_at_fpr(s, bad, 0.01), every))
    for kind in types if len(types) > 1 else []:
        keep = (kinds == kind) | (kinds == NORMAL)
        add("auroc", paired(metrics.auroc, keep), defect_type=kind)
    return pd.concat([rows, pd.DataFrame(more)], ignore_index=True)
