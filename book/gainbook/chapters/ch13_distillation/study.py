"""Chapter 13, reverse distillation: detectors, the swapped teacher, and claims D1 and D2."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from gainbook.chapters.ch13_distillation import swap_rows, teacher_study
from gainbook.chapters.ch13_distillation.swap import (
    Family,
    pair_of,
    reference_pair,
    study_systems,
)
from gainbook.chapters.ch13_distillation.swap_rows import verdict_row
from gainbook.chapters.ch13_distillation.systems import (
    BANK,
    BANK_LEAKING,
    BANK_SAME,
    RD,
    RD_CENTERED,
    RD_LEAKING,
    RD_RAW,
    REFERENCE_TEACHER,
    SYSTEMS,
    DetectorSystem,
    compare_detectors,
    detector_rows,
    on,
    run_detector,
    with_condition,
)
from gainbook.lab.judge import UNDECIDED, Judgement, Part, all_of, gains, keeps, verdict
from gainbook.lab.protocol import Pooled, pool
from gainbook.lab.study import Claim, Headline, Run, Study
from gainbook.lab.tables import Value

NOTEBOOK = "13_reverse_distillation"
QUICK: dict[str, Any] = {
    "backbone": "test_resnet",
    "weights": "book/weights/test_resnet_formulas.safetensors",
    "image_size": 64,
    "epochs": 10,
    "batch_size": 8,
    "learning_rate": 2e-3,
}
"""Parameters of the live part."""
CHOSEN_ON = (0, 1)
"""Folds on which the options of the reference detectors were chosen: two of the five that seed 0
deals from the magnetic tiles. Other seeds and numbers of folds deal their pictures elsewhere."""
WITHOUT = {"without_folds": list(CHOSEN_ON)}
"""In the condition of differences without these folds, for both detectors."""


class Detectors(NamedTuple):
    """The detectors of the reference part on one teacher."""

    systems: tuple[DetectorSystem, ...]
    pairs: tuple[tuple[DetectorSystem, DetectorSystem], ...]
    """Compared on the same images, first minus second."""


def detectors(backbone: str, weights: str | None = None, leaking: bool = True) -> Detectors:
    """The detectors on a teacher; with `leaking` also those on the split that ignores groups."""
    order = (RD, RD_RAW, BANK, BANK_SAME, RD_CENTERED, RD_LEAKING, BANK_LEAKING)
    systems = tuple(on(system, backbone, weights) for system in order)
    rd, raw, bank, same, centered, rd_leaking, bank_leaking = systems
    pairs = (rd, raw), (rd, bank), (rd, same), (rd, centered), (raw, centered)
    if not leaking:
        return Detectors(systems[:5], pairs)
    return Detectors(systems, (*pairs, (rd_leaking, rd), (bank_leaking, bank)))


def chosen_on(parameters: Any) -> tuple[int, ...]:
    """`CHOSEN_ON` for a run that has these folds, otherwise none."""
    p = parameters
    same = p.dataset == "magnetic-tile" and p.folds == 5 and list(p.seeds) == [0]
    return CHOSEN_ON if same else ()


def without_folds(pooled: Pooled, folds: Sequence[int]) -> Pooled:
    """A run of all folds without the scores of some; histories and times stay those of all."""
    kept = [part for fold, part in enumerate(pooled.folds) if fold not in folds]
    return pooled._replace(folds=kept, scores=pool(kept))


def without_chosen(rows: pd.DataFrame) -> dict[str, Any]:
    """The condition of `unchosen_rows` beside the detectors' own; empty if `rows` have none."""
    if not any(WITHOUT.items() <= dict(condition).items() for condition in rows["condition"]):
        return {}
    return {**WITHOUT, **{f"against_{key}": value for key, value in WITHOUT.items()}}


def unchosen_rows(run: Run) -> list[dict[str, Any]]:
    """Paired differences of one split without the folds that options were chosen on."""
    p, rows = run.parameters, []
    folds = chosen_on(p)
    for pair in run.pairs if folds else ():
        if pair[0].split == pair[1].split:
            a, b = (with_condition(without_folds(run.whole[s.tag], folds), **WITHOUT) for s in pair)
            rows += compare_detectors(a, b, p.dataset, run.resamples).to_dict("records")
    return rows


DETECTORS = Study(
    name=NOTEBOOK,
    notebook=NOTEBOOK,
    title="Reverse distillation",
    systems=detectors(REFERENCE_TEACHER).systems,
    pairs=detectors(REFERENCE_TEACHER).pairs,
    run=run_detector,
    rows=detector_rows,
    compare=compare_detectors,
    extra=unchosen_rows,
    profile="anomaly",
    headline=Headline(
        {
            "AUROC": ("auroc", None, {}),
            "pixel AUROC": ("pixel_auroc", "defect_map", {}),
            "AUPRO": ("aupro", "defect_map", {}),
        },
        systems=tuple(on(system, REFERENCE_TEACHER) for system in SYSTEMS),
    ),
)

FAILURE = 0.02
"""Smallest loss of image AUROC that counts as a failure; also `judge.INTERESTING["auroc"]`."""


def judge_teacher(accuracy: Value, detection: Value, repaired: Value) -> Judgement:
    """D1: does a better classifier, as the teacher, make reverse distillation better?

    All are ConvNeXt minus ResNet, both pretrained alike. `accuracy`: on held-out pictures of the
    pretraining; `detection`: image AUROC as swapped in; `repaired`: image AUROC of the best systems
    of both, on folds that chose neither.

    Undecided unless the ConvNeXt is the better classifier, since the claim is about such a teacher.
    (The rule before the run named this case "out of reach".) *Shown* if `detection` has an interval
    above 0. One below 0.02, the smallest interesting difference, which came after the run, excludes
    it. *Refined* if it is excluded and `repaired` has an interval above 0.
    """
    figures = {
        "accuracy of the teachers": accuracy,
        "AUROC of the detectors as swapped in": detection,
        "AUROC of the best of both": repaired,
    }
    if not accuracy.value > 0:
        return Judgement(UNDECIDED, figures)
    return Judgement(verdict([gains(detection)], partly=[gains(repaired)]), figures)


def judge_structure(
    swapped: Value, same_structure: Value, other_structure: Value, by_type: Mapping[str, Value]
) -> Judgement:
    """D2: did the swap get worse on every class, and is the structure to blame?

    All are image AUROC minus that of the published ResNet on the same images. `swapped`: the swap
    at its best rate; `same_structure`: the best ConvNeXt that differs from it in features and
    recipe only; `other_structure`: the best one whose fusion or embedding differs too; `by_type`:
    `swapped` by defect type.

    The *failure* is shown if the interval of `swapped` lies below -0.02; one above excludes it.
    Without a failure there is no cause to judge: refuted if it is excluded, otherwise undecided.
    The *structure is to blame* if `other_structure` has an interval above -0.02 and
    `same_structure` does not. It is excluded if `same_structure` does, or if `other_structure`
    lies below -0.02. *Every class* is shown if all values of `by_type` are below 0; one with an
    interval above -0.02 excludes it. *Refined* if the structure is to blame but not every class is
    worse, or if nothing repairs the swap. The margin came before the run, and so did what is shown;
    what is excluded, and so the difference between refuted and undecided, came after it.
    """
    figures = {
        "swap": swapped, "same structure": same_structure, "other structure": other_structure,
    }  # fmt: skip
    failure = _is_worse(swapped)
    if failure is not True:
        return Judgement(verdict([failure]), figures)
    unrepaired = keeps(same_structure, FAILURE) is not True
    cause = all_of([unrepaired, keeps(other_structure, FAILURE)])
    every_class = all_of(
        True if value.value < 0 else False if value.low > -FAILURE else None
        for value in by_type.values()
    )
    return Judgement(verdict([cause], [every_class], partly=[unrepaired]), figures)


def _is_worse(difference: Value) -> Part:
    """By at least `FAILURE`?"""
    kept = keeps(difference, FAILURE)
    return None if kept is None else not kept


def _difference(rows: pd.DataFrame, role: str, **condition: Any) -> Value:
    return verdict_row(rows, "auroc_difference", role=role, **condition)


def claims(families: Sequence[Family]) -> tuple[Claim, ...]:
    """D1 and D2 from the rows of a study of this pair."""

    def teacher(rows: pd.DataFrame) -> Judgement:
        resnet, convnext = (
            verdict_row(rows, "accuracy", f"teacher-{family.backbone}").value
            for family in pair_of(families)
        )
        accuracy = Value(convnext - resnet, math.nan, math.nan, None)
        return judge_teacher(accuracy, _difference(rows, "swap"), _difference(rows, "repaired"))

    def structure(rows: pd.DataFrame) -> Judgement:
        compared = rows.loc[rows["metric"] == "auroc_difference", "condition"].map(dict)
        kinds = sorted({c["defect_type"] for c in compared
                        if c.get("role") == "swap" and "defect_type" in c})  # fmt: skip
        by_type = {kind: _difference(rows, "swap", defect_type=kind) for kind in kinds}
        swapped, same, other = (_difference(rows, role) for role in ("swap", "same", "other"))
        return judge_structure(swapped, same, other, by_type)

    teacher.__doc__, structure.__doc__ = judge_teacher.__doc__, judge_structure.__doc__
    return Claim("D1", teacher), Claim("D2", structure)


def swap_study(families: Sequence[Family]) -> Study:
    """The study of the swapped teacher for a pair; run and written by `swap_results`."""
    final = {"study": "final"}
    return Study(
        name="13_swap_study",
        notebook=NOTEBOOK,
        title="The swapped teacher",
        profile="anomaly",
        options={"teachers": "runs/teachers", "other_teachers": "runs/fewer-epochs"},
        written="swap_study.json",
        about=swap_rows.about,
        headline=Headline(
            {"AUROC": ("auroc", None, final), "AUPRO": ("aupro", "defect_map", final)},
            systems=tuple(study_systems(families)),
        ),
        claims=claims(families),
    )


STUDIES = (DETECTORS, swap_study(reference_pair()), teacher_study.STUDY, teacher_study.BOARD_STUDY)
