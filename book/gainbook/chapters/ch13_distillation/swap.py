"""The swapped teacher: which change makes a ConvNeXt a worse teacher than a ResNet?

Factors are compared on one fold. What is chosen there is tested on the other folds.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from gainbook.chapters.ch13_distillation.pretraining import pretraining_task
from gainbook.chapters.ch13_distillation.systems import (
    SURFACE,
    DetectorSystem,
    build,
    on,
    run_detector,
)
from gainbook.lab.comparison import merge
from gainbook.lab.parameters import Parameters
from gainbook.lab.protocol import Pooled
from gainmtl import metrics
from gainmtl.anomaly.reverse_distillation import ReverseDistillation

RATES = (5e-3, 1e-3, 2e-4)
"""Learning rates of the swap; it counts as a failure only if it fails at the best of them."""
STUDY_FOLD = 0
"""The fold on which factors are compared and systems are chosen; the other folds judge."""
OF_PAIR = ("resnet", "convnext")
"""Names of the two compared families."""


class Family(NamedTuple):
    """A teacher: one of the compared pair, or a further one."""

    name: str
    """One of `OF_PAIR`; any other name for a further teacher."""
    backbone: str
    weights: str | None
    flat_field: float = 0.0
    """Width of the flat-field filter as a share of the side; 0 disables it."""


FLAT_FIELD: float = dict[str, Any](SURFACE)["flat_field"]
"""`Family.flat_field` of the reference study: without it the published detector was near chance on
`STUDY_FOLD`."""
PAIR = ("resnet18", "convnext_atto")
"""The backbones of the reference study."""


def reference_pair() -> list[Family]:
    """The families of the reference study, without weights."""
    pairs = zip(OF_PAIR, PAIR, strict=True)
    return [Family(name, backbone, None, FLAT_FIELD) for name, backbone in pairs]


def variant(
    family: Family, features: str, fusion: bool, recipe: str, **more: Any
) -> DetectorSystem:
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


def published(family: Family) -> DetectorSystem:
    """The published detector, apart from the flat-field filter."""
    return variant(family, "raw", True, "paper")


def swapped(family: Family, rate: float) -> DetectorSystem:
    """The ConvNeXt in place of the ResNet: stage 4 is the embedding, without fusion, by "paper".

    This is our reading of a swap that its authors described in a few lines.
    """
    system = variant(family, "raw", False, "paper", embedding="stage4")
    return system._replace(
        tag=f"{system.tag}-rate{rate:g}", label=f"{family.backbone} swapped in, rate {rate:g}",
        changes=(("learning_rate", rate),),
    )  # fmt: skip


def feature_kinds(family: Family) -> tuple[str, ...]:
    """The kinds of features that are compared; only a ConvNeXt has "norm"."""
    return ("raw", "standardized", "scaled") + (("norm",) if family.name == "convnext" else ())


def grid(family: Family) -> list[DetectorSystem]:
    """{features} x {fusion} x {recipe}, with a trained embedding."""
    cells = itertools.product(feature_kinds(family), (True, False), ("paper", "modern"))
    return [variant(family, *cell) for cell in cells]


def layers_kept(family: Family, features: str, recipe: str) -> DetectorSystem:
    """The swap with all its layers; with raw features and "paper" it is the swap itself."""
    if (features, recipe) == ("raw", "paper"):
        return swapped(family, RATES[0])
    return variant(family, features, False, recipe, embedding="stage4")


def same_structure(family: Family) -> list[DetectorSystem]:
    """{features} x {recipe} of the swap with all its layers."""
    cells = itertools.product(feature_kinds(family), ("paper", "modern"))
    return [layers_kept(family, *cell) for cell in cells]


CHANGES: tuple[dict[str, Any], ...] = (
    {"decoder": "light"},
    {"code_channels": 64},
    {"dropout": 0.3},
    {"loss": "flat"},
    {"strides": (4, 8)},
)
"""Further suspected causes: upsampling that leaves a checkerboard, a code with too much capacity
(the second and the third), locations with strong features that dominate the loss, a third stage
that is too abstract. A decoder includes its own normalisation, fusion and embedding."""
FAMILY_CHANGES: dict[str, tuple[dict[str, Any], ...]] = {
    "resnet": ({"decoder": "convnext"},),
    "convnext": ({"decoder": "resnet"}, {"layer_scale": 1.0}),
}
"""Further causes by family: a student with the other family's layers and batch normalisation, and
the layer scale of a ConvNeXt's student, which starts near zero, set to 1."""


def base(family: Family) -> DetectorSystem:
    """The system of which `single_changes` change one option."""
    return variant(family, "raw", True, "modern")


def single_changes(family: Family) -> list[DetectorSystem]:
    """`base` with one option changed."""
    systems = []
    for change in (*FAMILY_CHANGES[family.name], *CHANGES):
        [(name, value)] = change.items()
        word = "-".join(map(str, value)) if isinstance(value, tuple) else str(value)
        systems.append(
            variant(family, "raw", True, "modern", **change)._replace(
                tag=f"{base(family).tag}-{name}-{word}",
                label=f"{family.backbone}: raw, fusion, modern, {name.replace('_', ' ')} {value}",
            )
        )
    return systems


def factor_systems(families: Sequence[Family]) -> list[DetectorSystem]:
    """Both grids, the swap at each rate, and the swap with all its layers, each once."""
    resnet, convnext = pair_of(families)
    systems = [
        published(resnet), *(swapped(convnext, rate) for rate in RATES), *same_structure(convnext),
        *grid(resnet), *grid(convnext),
    ]  # fmt: skip
    return list({system.tag: system for system in systems}.values())


def study_systems(families: Sequence[Family]) -> list[DetectorSystem]:
    """All systems of the pair, each once."""
    return factor_systems(families) + [s for family in families for s in single_changes(family)]


def pair_of(families: Sequence[Family]) -> tuple[Family, Family]:
    """The ResNet and the ConvNeXt."""
    by_name = {family.name: family for family in families}
    return by_name["resnet"], by_name["convnext"]


def published_on(family: Family) -> DetectorSystem:
    """The published detector on a further teacher, which may have a backbone of the pair."""
    system = published(family)
    return system._replace(tag=f"{system.tag}-{family.name}", label=f"as published, {family.name}")


def executed_parameters(system: DetectorSystem) -> int:
    """Number of parameters that a forward pass uses, teacher included."""
    return sum(p.numel() for p in build(on(system, system.backbone)).parameters())


def judging_seeds(parameters: Any) -> tuple[int, ...]:
    """The first `judging_seeds` of `study_seeds`: for single changes and for the judging folds."""
    return tuple(parameters.study_seeds)[: parameters.judging_seeds]


def part_parameters(parameters: Any, part: str, judging: bool) -> Parameters:
    """`parameters` with the study's size and epochs, and the folder and seeds of a part.

    `judging`: with `judging_seeds`; otherwise with all `study_seeds`.
    """
    p = parameters
    changed = {
        "seeds": judging_seeds(p) if judging else tuple(p.study_seeds),
        "image_size": p.study_size, "epochs": p.study_epochs,
        "output_dir": f"{p.output_dir}/{part}",
    }  # fmt: skip
    return Parameters(**{**vars(p), **changed})


def image_auroc(pooled: Sequence[Pooled]) -> float:
    """The image AUROC over all seeds, by which systems are chosen."""
    images = merge(pooled, range(len(pooled))).scores.images
    labels = images["is_defective"].to_numpy(bool)
    return float(metrics.auroc(images["defect_probability"].to_numpy(), labels))


class SwapRuns(NamedTuple):
    """All runs of the study; each value has one `Pooled` per seed."""

    factors: dict[str, list[Pooled]]
    """`study_systems` on `STUDY_FOLD`, by tag; single changes with `judging_seeds` only."""
    teachers: dict[str, list[Pooled]]
    """The published detector on further teachers, on `STUDY_FOLD`, by the teacher's name."""
    chosen: dict[str, str]
    """The tag of the best system by role; see `candidates`."""
    final: dict[str, list[Pooled]]
    """The chosen systems on the other folds, by tag."""
    final_teachers: dict[str, list[Pooled]]
    """As `teachers`, on the other folds: those with other weights and the pair's pretraining
    task."""


def candidates(families: Sequence[Family]) -> dict[str, list[DetectorSystem]]:
    """The systems among which the best one is chosen, by role."""
    resnet, convnext = pair_of(families)
    return {
        "plain": [published(resnet)],
        "swap": [swapped(convnext, rate) for rate in RATES],
        "same": same_structure(convnext),
        "resnet": grid(resnet),
        "convnext": grid(convnext),
        "resnet, one more": single_changes(resnet),
        "convnext, one more": single_changes(convnext),
    }


def best_of(pooled: Mapping[str, Sequence[Pooled]], systems: Sequence[DetectorSystem]) -> str:
    """The tag of the system with the highest image AUROC."""
    return max((system.tag for system in systems), key=lambda tag: image_auroc(pooled[tag]))


def run_swap(parameters: Any, families: Sequence[Family], others: Sequence[Family]) -> SwapRuns:
    """Train and score all systems of the study; what is finished is read."""
    p = parameters
    every, few = (part_parameters(p, "factors", judging) for judging in (False, True))
    judging = part_parameters(p, "final", True)
    held_out = [fold for fold in range(p.folds) if fold != STUDY_FOLD]

    def run(part: Parameters, system: DetectorSystem, folds: Sequence[int]) -> list[Pooled]:
        return run_detector(part, system, folds, progress=False, data_seed=0)

    tags = {system.tag for system in factor_systems(families)}
    systems = {system.tag: system for system in study_systems(families)}
    factors = {
        tag: run(every if tag in tags else few, system, [STUDY_FOLD])
        for tag, system in systems.items()
    }
    teachers = {family.name: run(few, published_on(family), [STUDY_FOLD]) for family in others}
    roles = candidates(families)
    chosen = {role: best_of(factors, choice) for role, choice in roles.items()}
    final = {tag: run(judging, systems[tag], held_out) for tag in dict.fromkeys(chosen.values())}
    resnet, convnext = pair_of(families)
    final_teachers = {
        family.name: run(judging, published_on(family), held_out)
        for family in others
        if family.weights not in (resnet.weights, convnext.weights)
        and pretraining_task(family.weights) == pretraining_task(resnet.weights)
    }
    return SwapRuns(factors, teachers, chosen, final, final_teachers)
