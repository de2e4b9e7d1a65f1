"""What the study of the swap says: its result rows, and the verdicts on two claims."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch

from gainbook.chapters.ch13_distillation.detector_results import (
    DETECTOR_COLUMNS,
    detector_rows,
    difference_rows,
    statistics_rows,
)
from gainbook.chapters.ch13_distillation.detector_systems import load_detector_fold, run_detector
from gainbook.chapters.ch13_distillation.pretraining import pretrained_on
from gainbook.chapters.ch13_distillation.swap_study import (
    CLEAR,
    OF_PAIR,
    RATES,
    STUDY_FOLD,
    Family,
    base,
    beside,
    best_of,
    executed_parameters,
    factor_systems,
    grid,
    judging_seeds,
    one_more,
    plain,
    reference_pair,
    run_study,
    run_teachers,
    same_structure,
    study_parameters,
    study_systems,
    swap,
    worth,
)
from gainbook.lab import results_file as runs
from gainbook.lab.chapter_results import WRITTEN, Results, as_text, command, stored
from gainbook.lab.judge import Judgement
from gainbook.lab.protocol import Pooled, fold_seed
from gainbook.lab.reference import find_weights
from gainbook.lab.tables import Value, value_of
from gainmtl.anomaly.shading import flat_field
from gainmtl.anomaly.teacher import level_statistics
from gainmtl.datasets import normal_only

NAME = "13_swap_study"
"""Of its results file, which is not the chapter's."""
DIFFERENCES = {
    "swap": ("swap", "plain"),
    "same": ("same", "plain"),
    "other": ("convnext", "plain"),
    "repaired": ("convnext", "resnet"),
}
"""The differences that verdicts rest on, first minus second: what was chosen for which role."""

D1 = "D1, a better classifier as the teacher detects better"
D2 = "D2, worse on every class, and the structure is to blame"


def study_results(
    parameters: Any, families: Sequence[Family], wanted: bool, others: Sequence[Family] = ()
) -> Results:
    """The study, run where it is `wanted` and written to its own file, else as it is stored.

    `others` are teachers beside the pair, to tell what a teacher's knowledge is worth: each gets
    the published detector on the fold that chooses, and on the other folds too where it told the
    pictures of the pair's pretraining apart and its weights are not the pair's.

    `parameters` with `study_seeds`, `judging_seeds`, `study_size` and `study_epochs`. The factors
    are trained with every seed; what was chosen on one fold is trained alike, with the first
    `judging_seeds` of them, on the folds that chose nothing. What is tried beside the factors is
    trained with those seeds too, and takes no part in the choice that the verdicts rest on.

    Raises:
        ValueError: a single fold, fewer seeds than are to judge, teachers of one name, or a teacher
            of the pair whose accuracy is not known.
    """
    p = parameters
    if not wanted:
        absent = "The study has **not been run yet**."
        return stored(NAME, "the study", lambda f: _about(f.parameters), command(NAME), absent)
    if p.folds < 2:
        raise ValueError("the study judges on folds that chose nothing: it needs folds >= 2")
    if not 1 <= p.judging_seeds <= len(p.study_seeds):
        raise ValueError(
            f"expected judging_seeds from 1 to {len(p.study_seeds)}, the number of study_seeds; "
            f"found {p.judging_seeds}"
        )
    started = time.monotonic()
    families, others = (
        [one._replace(weights=find_weights(one.weights)) for one in part]
        for part in (families, others)
    )
    names = [name for one in families for name in (one.name, one.backbone)]
    names += [one.name for one in others]
    if len(set(names)) < len(names):
        raise ValueError(f"expected teachers of different names, found {', '.join(names)}")
    for one in families:
        if "accuracy" not in pretrained_on(one.weights):
            raise ValueError(
                f"{one.backbone}: no accuracy beside {one.weights}; pretrain the pair by "
                "notebooks/pretrain_teacher.ipynb"
            )
    tried = run_study(p, families)
    resnet, convnext = (next(f for f in families if f.name == n) for n in OF_PAIR)
    beside_pair = run_teachers(p, others)
    candidates = {
        "plain": [plain(resnet)],
        "swap": [swap(convnext, rate) for rate in RATES],
        "same": same_structure(convnext),
        "resnet": grid(resnet),
        "convnext": grid(convnext),
        "resnet, one more": one_more(resnet),
        "convnext, one more": one_more(convnext),
    }
    chosen = {role: best_of(tried, systems) for role, systems in candidates.items()}
    systems = {one.tag: one for one in study_systems(families)}
    held_out = [fold for fold in range(p.folds) if fold != STUDY_FOLD]
    own = study_parameters(p, "final", True)
    final = {
        tag: run_detector(own, systems[tag], None, held_out, progress=False, data_seed=0)
        for tag in dict.fromkeys(chosen.values())
    }
    judged_too = {
        family.name: run_detector(
            own, beside(family), family.weights, held_out, progress=False, data_seed=0
        )
        for family in others
        if family.weights not in {f.weights for f in families} and _task(family) == _task(resnet)
    }
    pictures = _normal_pictures(p)
    rows = pd.concat(
        [
            study_rows(p, families, tried, final, chosen),
            teacher_rows(p, others, _task(resnet), beside_pair, judged_too, final, chosen),
            *(
                _spread_rows(p, pictures, family, family in families)
                for family in [*families, *others]
            ),
        ],
        ignore_index=True,
    )
    parts = {
        "factors": tried, "final": final,
        "teachers": beside_pair, "teachers/final": judged_too,
    }  # fmt: skip
    every = [run for part in parts.values() for pooled in part.values() for run in pooled]
    facts = runs.provenance(
        p, time.monotonic() - started, load_detector_fold(p, 0, "auto")(STUDY_FOLD).fingerprint,
        None, trained_at_commits=sorted({commit for run in every for commit in run.commits}),
        training_seconds={
            f"{name}/{tag}": sum(run.seconds for run in pooled)
            for name, part in parts.items() for tag, pooled in part.items()
        },
        teachers={family.backbone: runs.name_weights(family.weights) for family in families}
        | {family.name: runs.name_weights(family.weights) for family in others},
    )  # fmt: skip
    # Teachers stand under a name of their own.
    facts["weights"] = None
    runs.write_results(
        Path(p.output_dir) / WRITTEN[NAME], notebook=p.notebook,
        # What the results page tells of a file is about the rows that it shows, the judged ones.
        parameters={**vars(own), "output_dir": p.output_dir},
        provenance=facts, rows=rows,
    )  # fmt: skip
    given = {**vars(p), "pair": [family.backbone for family in families]}
    note = f"The figures below come from **the run in front of you**: {_about(given)}."
    return Results(rows, note, {})


def _about(given: Mapping[str, Any]) -> str:
    """What a study was like, from its parameters."""
    judging = judging_seeds(SimpleNamespace(**given))
    return (
        f"{given['dataset']}, {', '.join(given['pair'])}, {given['study_size']} px, "
        f"{given['study_epochs']} epochs; factors on one fold, seeds: "
        f"{as_text(given['study_seeds'])}; what was chosen there is judged on the "
        f"{given['folds'] - 1} others, seeds: {as_text(judging)}"
    )


def _task(family: Family) -> tuple[Any, ...]:
    """Which pictures the accuracy of a teacher's card is about; nothing where it has no card."""
    card = pretrained_on(family.weights)
    return tuple(card[key] for key in ("classes", "image_size", "seed")) if card else ()


def study_rows(
    parameters: Any,
    families: Sequence[Family],
    tried: Mapping[str, Sequence[Pooled]],
    final: Mapping[str, Sequence[Pooled]],
    chosen: Mapping[str, str],
) -> pd.DataFrame:
    """All rows of the study, from the runs on the fold that chose and on those that did not.

    `chosen` names tags of both: the published ResNet ("plain"), the swap at its best rate ("swap"),
    the best one of the same structure ("same"), of either grid ("resnet", "convnext"), and of what
    was tried beside it ("resnet, one more", "convnext, one more"). Rows carry `study` in their
    condition: "factors"; "besides" for `one_more` and its `base`, and "teachers" for the published
    detector on each teacher of the pair, its family's name as `teacher`, both with the seeds that
    judge; "final"; "chosen" with the `role` a system was chosen for and its image AUROC where it
    was chosen; or "verdict" with a `role`.
    """
    p, systems = parameters, {one.tag: one for one in study_systems(families)}
    judging = judging_seeds(p)
    factors = [one.tag for one in factor_systems(families)]
    besides = [one.tag for family in families for one in (base(family), *one_more(family))]
    parts = [_factor_rows(tried[tag], p.study_seeds, p.dataset, "factors") for tag in factors]
    parts += [_factor_rows(tried[tag], judging, p.dataset, "besides") for tag in besides]
    parts += [
        _factor_rows(tried[plain(one).tag], judging, p.dataset, "teachers", teacher=one.name)
        for one in families
    ]
    parts += [detector_rows(one, judging, p.dataset, study="final") for one in final.values()]
    for role, (a, b) in DIFFERENCES.items():
        found = difference_rows(final[chosen[a]], final[chosen[b]], judging, p.dataset)
        kinds = [dict(c).get("defect_type") for c in found["condition"]]
        found["condition"] = [
            {"study": "verdict", "role": role} | ({"defect_type": kind} if kind else {})
            for kind in kinds
        ]
        parts.append(found)
    facts = []
    for family in families:
        if family.weights is not None:
            value = float(pretrained_on(family.weights)["accuracy"])
            about: dict[str, Any] = {"condition": {"study": "verdict"}}
            facts.append(
                runs.row(p.dataset, f"teacher-{family.backbone}", "accuracy", value, **about)
            )
    for role, tag in chosen.items():
        one = systems[tag]
        about = {"condition": {**one.condition, "study": "chosen", "role": role}}
        facts.append(runs.row(p.dataset, one.name, "auroc", worth(tried[tag]), **about))
    for tag in final:
        one = systems[tag]
        about = {"condition": {**one.condition, "study": "final"}}
        count = float(executed_parameters(one))
        facts.append(runs.row(p.dataset, one.name, "parameters", count, **about))
    return pd.concat([*parts, pd.DataFrame(facts)], ignore_index=True)


def _factor_rows(
    pooled: Sequence[Pooled], seeds: Sequence[int], dataset: str, study: str, **more: Any
) -> pd.DataFrame:
    """What a detector is judged by, per seed and over all: dozens of systems, so no more.

    Of the seeds given, which are the first that it was trained with.
    """
    rows = detector_rows(pooled[: len(seeds)], seeds, dataset, study=study, **more)
    shown = {metric for metric, _ in DETECTOR_COLUMNS.values()}
    together = rows["condition"].map(lambda condition: "defect_type" not in condition)
    return rows[rows["metric"].isin(shown) & together]


def teacher_rows(
    parameters: Any,
    others: Sequence[Family],
    task: tuple[Any, ...],
    tried: Mapping[str, Sequence[Pooled]],
    final: Mapping[str, Sequence[Pooled]],
    pair: Mapping[str, Sequence[Pooled]],
    chosen: Mapping[str, str],
) -> pd.DataFrame:
    """Rows of the teachers beside the pair, each with its name as `teacher` in the condition.

    `task` says which pictures an accuracy has to be about, see `_task`; `tried` on the fold that
    chose and `final` on those that did not, by name; `pair` and `chosen`
    as for `study_rows`. `study` is "teachers", "final" or, for the swap and the best ConvNeXt minus
    this teacher's, "verdict".
    """
    p, judging = parameters, judging_seeds(parameters)
    facts, parts = [], []
    for family in others:
        own: dict[str, Any] = {"teacher": family.name}
        parts.append(_factor_rows(tried[family.name], judging, p.dataset, "teachers", **own))
        if (card := pretrained_on(family.weights)) and _task(family) == task:
            about: dict[str, Any] = {"condition": {"study": "verdict", **own}}
            value = float(card["accuracy"])
            facts.append(
                runs.row(p.dataset, f"teacher-{family.backbone}", "accuracy", value, **about)
            )
        if family.name not in final:
            continue
        parts.append(detector_rows(final[family.name], judging, p.dataset, study="final", **own))
        for role in ("swap", "convnext"):
            found = difference_rows(pair[chosen[role]], final[family.name], judging, p.dataset)
            together = found["condition"].map(lambda condition: "defect_type" not in condition)
            found = found[together].copy()
            found["condition"] = [{"study": "verdict", "role": role, **own}] * len(found)
            parts.append(found)
    return pd.concat([*parts, pd.DataFrame(facts)], ignore_index=True)


SEEN = 32
"""Normal training pictures that a teacher's features are measured on."""


def _normal_pictures(parameters: Any) -> torch.Tensor:
    """`SEEN` normal training pictures of the fold that chooses, (B, 3, H, W) in [0, 1]."""
    p = study_parameters(parameters, "factors", True)
    normal: Any = normal_only(load_detector_fold(p, 0, "auto")(STUDY_FOLD)).train
    places = np.linspace(0, len(normal) - 1, min(SEEN, len(normal))).round().astype(int)
    return torch.stack([normal[int(place)].image for place in places])


def _spread_rows(
    parameters: Any, images: torch.Tensor, family: Family, of_pair: bool
) -> pd.DataFrame:
    """How a teacher's features lie on these pictures."""
    p = parameters
    if family.flat_field:
        images = flat_field(images, family.flat_field)
    with torch.random.fork_rng(devices=[]):
        # A teacher without weights begins with random ones: those of the first seed's run.
        torch.manual_seed(fold_seed(p.study_seeds[0], STUDY_FOLD))
        found = level_statistics(family.backbone, family.weights, images)
    own = {"study": "statistics"} | ({} if of_pair else {"teacher": family.name})
    rows = pd.DataFrame(statistics_rows(p.dataset, family.backbone, found))
    rows["condition"] = [{**condition, **own} for condition in rows["condition"]]
    return rows


def verdict_row(
    rows: pd.DataFrame, metric: str, system: str | None = None, **condition: Any
) -> Value:
    """The one verdict row of exactly this condition.

    Raises:
        LookupError: no such row, or several.
    """
    wanted = {"study": "verdict", **condition}
    kept = rows[
        (rows["metric"] == metric)
        & (rows["system"] == system if system else True)
        & rows["condition"].map(lambda given: dict(given) == wanted)
    ]
    if len(kept) != 1:
        raise LookupError(
            f"expected one row of {metric}, {system or 'any system'}, {wanted}; found {len(kept)}"
        )
    return value_of(kept.iloc[0])


def judge(rows: pd.DataFrame, families: Sequence[Family]) -> dict[str, Judgement]:
    """D1 and D2 from the rows of `study_rows`.

    Raises:
        LookupError: rows of another pair.
    """

    def found(role: str, kind: str | None = None) -> Value:
        of_type = {"defect_type": kind} if kind else {}
        return verdict_row(rows, "auroc_difference", role=role, **of_type)

    accuracy = {
        family.name: verdict_row(rows, "accuracy", f"teacher-{family.backbone}").value
        for family in families
    }
    better = Value(accuracy["convnext"] - accuracy["resnet"], math.nan, math.nan, None)
    compared = rows.loc[rows["metric"] == "auroc_difference", "condition"].map(dict)
    kinds = sorted(
        {str(c["defect_type"]) for c in compared if c.get("role") == "swap" and "defect_type" in c}
    )
    return {
        D1: judge_teacher(better, found("swap"), found("repaired")),
        D2: judge_structure(
            found("swap"), found("same"), found("other"),
            {kind: found("swap", kind) for kind in kinds},
        ),
    }  # fmt: skip


def judge_structure(
    swapped: Value, same_structure: Value, other_structure: Value, by_type: Mapping[str, Value]
) -> Judgement:
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
    return Judgement(verdict, figures)


def judge_teacher(accuracy: Value, detection: Value, repaired: Value) -> Judgement:
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
    return Judgement(verdict, figures)


def _from_stored(claim: str, rows: pd.DataFrame) -> Judgement:
    return judge(rows, reference_pair())[claim]


ANSWERS = {"D1": functools.partial(_from_stored, D1), "D2": functools.partial(_from_stored, D2)}
"""The claims from the rows of the reference study, as `claims` asks for them."""
