"""The failed swap, taken apart: which of its parts makes a ConvNeXt teacher worse than a ResNet?"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import pandas as pd

from gainmtl.detector_systems import DetectorSystem, build, compare_detectors, run_detector
from gainmtl.distillation import ReverseDistillation
from gainmtl.findings import merge
from gainmtl.protocol import Pooled
from gainmtl.tables import Value

RATES = (5e-3, 1e-3, 2e-4)
"""Of the plain swap: its failure counts only if it persists at the best of these."""
STUDY_SEEDS = (0, 1, 2)
STUDY_FOLD = 0
"""The fold that the factors are told apart on; winners are judged on the others."""
CLEAR = 0.02
"""How far below the ResNet a swap must stay, in image AUROC, to count as a failure."""


class Family(NamedTuple):
    """A teacher of the compared pair."""

    name: str
    """"resnet" or "convnext"."""
    backbone: str
    weights: str | None


def system(family: Family, features: str, fusion: bool, recipe: str, **more: Any) -> DetectorSystem:
    """One cell of the grid; `more` are further arguments of the detector."""
    options = {"features": features, "fusion": fusion, **more}
    words = [features, "fusion" if fusion else "no-fusion", recipe, *map(str, more.values())]
    return DetectorSystem(
        "-".join(["swap", family.backbone, *words]), ReverseDistillation.kind,
        f"{family.backbone}: {', '.join(words)}", tuple(options.items()), recipe,
        (), family.backbone, family.weights,
    )  # fmt: skip


def plain(family: Family) -> DetectorSystem:
    """The ResNet as published."""
    return system(family, "raw", True, "paper")


def swap(family: Family, rate: float) -> DetectorSystem:
    """The ConvNeXt in the ResNet's place: stage 4 as the embedding, nothing fused, same optimiser.

    The best reading of a swap that was described in a few lines.
    """
    one = system(family, "raw", False, "paper", embedding="stage4")
    return one._replace(
        tag=f"{one.tag}-rate{rate:g}", label=f"{family.backbone} swapped in, rate {rate:g}",
        changes=(("learning_rate", rate),),
    )  # fmt: skip


def grid(family: Family) -> list[DetectorSystem]:
    """{features} x {fusion} x {recipe}, with a trained embedding."""
    features = ("raw", "standardized") + (("norm",) if family.name == "convnext" else ())
    return [
        system(family, *cell)
        for cell in itertools.product(features, (True, False), ("paper", "modern"))
    ]


def executed_parameters(one: DetectorSystem, backbone: str = "") -> int:
    """Parameters that a pass of the detector uses, teacher included."""
    model = build(one._replace(weights=None), one.backbone or backbone, None)
    return sum(parameter.numel() for parameter in model.parameters())


def run_study(
    parameters: Any, families: Sequence[Family], seeds: Sequence[int] = STUDY_SEEDS
) -> dict[str, list[Pooled]]:
    """The plain pair at every rate and both grids, on one fold, one `Pooled` per seed."""
    p = SimpleNamespace(**{**vars(parameters), "seeds": tuple(seeds)})
    return {
        one.tag: run_detector(p, one, one.weights, [STUDY_FOLD], progress=False, data_seed=0)
        for one in study_systems(families)
    }


def study_systems(families: Sequence[Family]) -> list[DetectorSystem]:
    """Everything that `run_study` runs, each once."""
    resnet, convnext = (next(f for f in families if f.name == n) for n in ("resnet", "convnext"))
    found = [
        plain(resnet), *(swap(convnext, rate) for rate in RATES), *grid(resnet), *grid(convnext)
    ]  # fmt: skip
    return list({one.tag: one for one in found}.values())


def best_of(pooled: Mapping[str, Sequence[Pooled]], systems: Sequence[DetectorSystem]) -> str:
    """The tag with the highest image AUROC over the seeds."""
    from gainmtl.metrics import auroc

    def worth(tag: str) -> float:
        images = merge(list(pooled[tag]), range(len(pooled[tag]))).scores.images
        return float(
            auroc(images["defect_probability"].to_numpy(), images["is_defective"].to_numpy(bool))
        )

    return max((one.tag for one in systems), key=worth)


def difference(
    pooled: Mapping[str, Sequence[Pooled]], a: DetectorSystem, b: DetectorSystem, dataset: str
) -> pd.DataFrame:
    """Paired differences a - b over all seeds, as result rows without the p-value."""
    first, second = (merge(list(pooled[s.tag]), range(len(pooled[s.tag]))) for s in (a, b))
    return compare_detectors(first, second, dataset).drop(columns="p_value")


class Judged(NamedTuple):
    """A claim's verdict and the figures it rests on."""

    verdict: str
    figures: dict[str, Value]


def judge_structure(
    swapped: Value, same_structure: Value, other_structure: Value, by_type: Mapping[str, Value]
) -> Judged:
    """D2, *it got worse on every class, and the structure is to blame*.

    All are image AUROC minus that of the ResNet as published, on the same images. `swapped`: the
    swap at its best rate; `same_structure`: the best ConvNeXt that differs from it in features and
    recipe only; `other_structure`: the best one whose fusion or embedding differs too; `by_type`:
    `swapped` by defect type.

    "not reproduced" unless the swap's upper end is below -CLEAR. Else "refuted" if the same
    structure reaches a difference whose lower end is above -CLEAR; "confirmed" if only another
    structure does and the swap is worse on every type; "refined" in every other case.
    """
    figures = {
        "swap": swapped, "same structure": same_structure, "other structure": other_structure,
    }  # fmt: skip
    if math.isnan(swapped.high) or swapped.high > -CLEAR:
        verdict = "not reproduced"
    elif same_structure.low > -CLEAR:
        verdict = "refuted"
    elif other_structure.low > -CLEAR and all(v.value < 0 for v in by_type.values()):
        verdict = "confirmed"
    else:
        verdict = "refined"
    return Judged(verdict, figures)


def judge_teacher(accuracy: Value, detection: Value, repaired: Value) -> Judged:
    """D1, *a better classifier as the teacher makes reverse distillation better*.

    All are ConvNeXt minus ResNet, both pretrained alike. `accuracy`: of the classifiers on held-out
    pictures of their pretraining; `detection`: image AUROC as swapped in; `repaired`: of the best
    of each, on folds that chose neither.

    "out of reach" unless the ConvNeXt is the better classifier. Else "confirmed" if it detects
    better as it is, its interval above zero; "refined" if it does so only repaired; "refuted"
    if the repaired one is not better, its interval reaching zero or below.
    """
    figures = {"accuracy": accuracy, "as swapped in": detection, "repaired": repaired}
    if not accuracy.value > 0:
        verdict = "out of reach"
    elif detection.low > 0:
        verdict = "confirmed"
    elif repaired.low > 0:
        verdict = "refined"
    else:
        verdict = "refuted"
    return Judged(verdict, figures)
