"""The failed swap, taken apart: which of its parts makes a ConvNeXt teacher worse than a ResNet?"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

from gainbook.chapters.ch13_distillation.detector_systems import (
    SURFACE,
    DetectorSystem,
    build,
    run_detector,
)
from gainbook.lab.chapter_results import merge
from gainbook.lab.protocol import Pooled
from gainmtl import metrics
from gainmtl.anomaly.reverse_distillation import ReverseDistillation

RATES = (5e-3, 1e-3, 2e-4)
"""Of the plain swap: its failure counts only if it persists at the best of these."""
STUDY_FOLD = 0
"""The fold that the factors are told apart on; winners are judged on the others."""
CLEAR = 0.02
"""How far below the ResNet a swap must stay, in image AUROC, to count as a failure."""


OF_PAIR = ("resnet", "convnext")
"""Names of the two families that are compared."""


class Family(NamedTuple):
    """A teacher of the compared pair, or one beside it."""

    name: str
    """One of `OF_PAIR`; any other name for a teacher beside the pair."""
    backbone: str
    weights: str | None
    flat_field: float = 0.0
    """Of the pictures that it is shown, see `shading.flat_field`; 0: as they are."""


EVEN: float = dict[str, Any](SURFACE)["flat_field"]
"""`Family.flat_field` of the reference study, the chapter's: without it the published detector was
near chance on the fold that chooses."""
PAIR = ("resnet18", "convnext_atto")
"""The backbones of the reference study."""


def reference_pair() -> list[Family]:
    """The families of the reference study, without weights."""
    return [
        Family(name, backbone, None, EVEN) for name, backbone in zip(OF_PAIR, PAIR, strict=True)
    ]


def system(family: Family, features: str, fusion: bool, recipe: str, **more: Any) -> DetectorSystem:
    """One cell of the grid; `more` are further arguments of the detector."""
    options = {"features": features, "fusion": fusion, **more}
    words = [features, "fusion" if fusion else "no-fusion", recipe, *map(str, more.values())]
    even = ["even"] if family.flat_field else []
    if family.flat_field:
        options["flat_field"] = family.flat_field
    return DetectorSystem(
        "-".join(["swap", family.backbone, *words, *even]), ReverseDistillation.kind,
        f"{family.backbone}: {', '.join(words)}", tuple(options.items()), recipe,
        (), family.backbone, family.weights,
    )  # fmt: skip


def plain(family: Family) -> DetectorSystem:
    """The ResNet as published, but for the light its pictures are seen under."""
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


def taken(family: Family) -> tuple[str, ...]:
    """The ways to take this family's features that are compared."""
    return ("raw", "standardized", "scaled") + (("norm",) if family.name == "convnext" else ())


def grid(family: Family) -> list[DetectorSystem]:
    """{features} x {fusion} x {recipe}, with a trained embedding."""
    return [
        system(family, *cell)
        for cell in itertools.product(taken(family), (True, False), ("paper", "modern"))
    ]


def layers_kept(family: Family, features: str, recipe: str) -> DetectorSystem:
    """The swap with every layer kept; raw and as published, it is the swap at the first rate."""
    if (features, recipe) == ("raw", "paper"):
        return swap(family, RATES[0])
    return system(family, features, False, recipe, embedding="stage4")


def same_structure(family: Family) -> list[DetectorSystem]:
    """{features} x {recipe} of the swap, with every layer kept."""
    cells = itertools.product(taken(family), ("paper", "modern"))
    return [layers_kept(family, *cell) for cell in cells]


ONE_MORE: tuple[dict[str, Any], ...] = (
    {"decoder": "light"},
    {"code_channels": 64},
    {"dropout": 0.3},
    {"loss": "flat"},
    {"strides": (4, 8)},
)
"""What else was suspected, one at a time: that the student's upsampling leaves a checkerboard, too
roomy a code (the second and the third), places with strong features that outweigh the rest, a third
stage that is too abstract. A decoder brings its own normalisation, fusion and embedding."""
OWN_MORE: dict[str, tuple[dict[str, Any], ...]] = {
    "resnet": ({"decoder": "convnext"},),
    "convnext": ({"decoder": "resnet"}, {"layer_scale": 1.0}),
}
"""Likewise, by family: that the student lacks the batch normalisation which the other family's has,
and, of a ConvNeXt's student alone, that its layer scale starts at almost nothing; here at 1."""


def base(family: Family) -> DetectorSystem:
    """What `one_more` changes one thing of: raw, fused, a trained embedding, the modern recipe."""
    return system(family, "raw", True, "modern")


def one_more(family: Family) -> list[DetectorSystem]:
    """`base` with one more thing changed."""
    found = []
    for change in (*OWN_MORE[family.name], *ONE_MORE):
        one = system(family, "raw", True, "modern", **change)
        [(name, value)] = change.items()
        word = "-".join(map(str, value)) if isinstance(value, tuple) else str(value)
        found.append(
            one._replace(
                tag=f"{base(family).tag}-{name}-{word}",
                label=f"{family.backbone}: raw, fusion, modern, {name.replace('_', ' ')} {value}",
            )
        )
    return found


def executed_parameters(one: DetectorSystem) -> int:
    """Parameters that a pass of the detector uses, teacher included; `one` has a backbone."""
    model = build(one._replace(weights=None), "", None)
    return sum(parameter.numel() for parameter in model.parameters())


def run_study(parameters: Any, families: Sequence[Family]) -> dict[str, list[Pooled]]:
    """All of `study_systems` on one fold, one `Pooled` per seed, by tag.

    Factors with every seed, `one_more` with those that judge, see `study_parameters`.
    """
    every, few = (study_parameters(parameters, "factors", part) for part in (False, True))
    factors = {one.tag for one in factor_systems(families)}
    return {
        one.tag: run_detector(
            every if one.tag in factors else few, one, one.weights, [STUDY_FOLD],
            progress=False, data_seed=0,
        )
        for one in study_systems(families)
    }  # fmt: skip


def run_teachers(parameters: Any, others: Sequence[Family]) -> dict[str, list[Pooled]]:
    """The published detector on teachers beside the pair, by their names, as `one_more`."""
    p = study_parameters(parameters, "factors", True)
    return {
        family.name: run_detector(
            p, beside(family), family.weights, [STUDY_FOLD], progress=False, data_seed=0
        )
        for family in others
    }


def beside(family: Family) -> DetectorSystem:
    """The published detector on a teacher beside the pair, which may share its backbone."""
    one = plain(family)
    return one._replace(tag=f"{one.tag}-{family.name}", label=f"as published, {family.name}")


def judging_seeds(parameters: Any) -> tuple[int, ...]:
    """The first `judging_seeds` of `study_seeds`: of what is tried beside the factors, and of the
    folds that judge."""
    return tuple(parameters.study_seeds)[: parameters.judging_seeds]


def study_parameters(parameters: Any, part: str, judging: bool) -> Any:
    """`parameters` with the study's size, epochs and seeds, and a folder of its own for a part.

    `judging`: with `judging_seeds`; else with all of `study_seeds`.
    """
    p = parameters
    own = {
        "seeds": judging_seeds(p) if judging else tuple(p.study_seeds),
        "image_size": p.study_size, "epochs": p.study_epochs,
        "output_dir": f"{p.output_dir}/{part}",
    }  # fmt: skip
    return SimpleNamespace(**{**vars(p), **own})


def factor_systems(families: Sequence[Family]) -> list[DetectorSystem]:
    """The grids, the swap at each rate, and the swap with every layer kept, each once."""
    resnet, convnext = (next(f for f in families if f.name == n) for n in OF_PAIR)
    found = [
        plain(resnet), *(swap(convnext, rate) for rate in RATES), *same_structure(convnext),
        *grid(resnet), *grid(convnext),
    ]  # fmt: skip
    return list({one.tag: one for one in found}.values())


def study_systems(families: Sequence[Family]) -> list[DetectorSystem]:
    """Everything that `run_study` runs, each once."""
    return factor_systems(families) + [one for family in families for one in one_more(family)]


def worth(pooled: Sequence[Pooled]) -> float:
    """The image AUROC over the seeds, which the study chooses by."""
    images = merge(list(pooled), range(len(pooled))).scores.images
    labels = images["is_defective"].to_numpy(bool)
    return float(metrics.auroc(images["defect_probability"].to_numpy(), labels))


def best_of(pooled: Mapping[str, Sequence[Pooled]], systems: Sequence[DetectorSystem]) -> str:
    """The tag that is worth most."""
    return max((one.tag for one in systems), key=lambda tag: worth(pooled[tag]))
