"""Result rows of the swap study, and the run that writes them.

The condition of a row has the key `study`: "factors"; "besides" for single changes and their base;
"teachers" for the published detector on each `teacher`; "final" on the folds that chose nothing;
"chosen" with the `role` a system was chosen for; "verdict", with a `role`, for the differences and
accuracies that claims are judged by; "statistics" for the teachers' features.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from gainbook.chapters.ch13_distillation.pretraining import pretraining_card, pretraining_task
from gainbook.chapters.ch13_distillation.swap import (
    STUDY_FOLD,
    Family,
    SwapRuns,
    base,
    executed_parameters,
    factor_systems,
    image_auroc,
    judging_seeds,
    pair_of,
    part_parameters,
    published,
    run_swap,
    single_changes,
    study_systems,
)
from gainbook.chapters.ch13_distillation.systems import (
    compare_detectors,
    detector_rows,
    one_type,
    with_scores,
)
from gainbook.chapters.ch13_distillation.teachers import accuracy_row, statistics_rows
from gainbook.lab import results_file
from gainbook.lab.comparison import merge
from gainbook.lab.parameters import Parameters
from gainbook.lab.protocol import Pooled
from gainbook.lab.run_system import find_weights, load_fold
from gainbook.lab.study import Results, Study, as_text, stored
from gainbook.lab.tables import Column, Value, value_of

DETECTOR_COLUMNS: dict[str, Column] = {
    "AUROC": ("auroc", None, {}),
    "average precision": ("average_precision", None, {}),
    "recall at 1 % false alarms": ("recall_at_fpr01", None, {}),
    "at 5 %": ("recall_at_fpr05", None, {}),
    "pixel AUROC": ("pixel_auroc", "defect_map", {}),
    "pixel AP": ("pixel_ap", "defect_map", {}),
    "AUPRO": ("aupro", "defect_map", {}),
}
"""The measures of a detector: of images, pixels and regions."""
DIFFERENCES = {
    "swap": ("swap", "plain"),
    "same": ("same", "plain"),
    "other": ("convnext", "plain"),
    "repaired": ("convnext", "resnet"),
}
"""The roles of two chosen systems, first minus second, by the `role` of the difference."""


def swap_results(
    study: Study,
    parameters: Any,
    families: Sequence[Family],
    others: Sequence[Family] = (),
    selected: bool = True,
) -> Results:
    """Run the study and write its file, or read its stored results where it is not `selected`.

    Factors are trained with every seed of `study_seeds`. Chosen systems and single changes are
    trained with the first `judging_seeds` of them.

    Args:
        parameters: also with `study_seeds`, `judging_seeds`, `study_size` and `study_epochs`.
        families: the pair, with weights.
        others: further teachers. Each gets the published detector.

    Raises:
        ValueError: a single fold, more judging seeds than seeds, two teachers of one name, or a
            teacher of the pair without a known accuracy.
    """
    p = parameters
    if not selected:
        return stored(study)
    started = time.monotonic()
    families, others = (
        [family._replace(weights=find_weights(family.weights)) for family in part]
        for part in (families, others)
    )
    _check(p, families, others)
    runs = run_swap(p, families, others)
    rows = pd.concat(
        [
            study_rows(p, families, runs),
            teacher_rows(p, families, others, runs),
            statistics_rows(part_parameters(p, "factors", True), STUDY_FOLD, families, others),
        ],
        ignore_index=True,
    )
    judging = part_parameters(p, "final", True)
    results_file.write_results(
        Path(p.output_dir) / study.written,
        notebook=p.notebook,
        # The results page describes a file by its parameters, so they are those of judged rows.
        parameters={**vars(judging), "output_dir": p.output_dir},
        provenance=_provenance(p, time.monotonic() - started, families, others, runs),
        rows=rows,
    )
    given = {**vars(p), "pair": [family.backbone for family in families]}
    note = f"The figures below come from **the run in front of you**: {about(given)}."
    return Results(rows, note, {})


def about(given: Mapping[str, Any]) -> str:
    """The study in a few words, from its parameters."""
    judging = judging_seeds(Parameters(**given))
    return (
        f"{given['dataset']}, {', '.join(given['pair'])}, {given['study_size']} px, "
        f"{given['study_epochs']} epochs; factors on one fold, seeds: "
        f"{as_text(given['study_seeds'])}; chosen systems judged on the {given['folds'] - 1} "
        f"others, seeds: {as_text(judging)}"
    )


def _check(p: Any, families: Sequence[Family], others: Sequence[Family]) -> None:
    if p.folds < 2:
        raise ValueError(
            f"swap study: expected folds of at least 2, found {p.folds}; one fold chooses systems "
            "and the others judge them"
        )
    if not 1 <= p.judging_seeds <= len(p.study_seeds):
        raise ValueError(
            f"expected judging_seeds from 1 to {len(p.study_seeds)}, the number of study_seeds; "
            f"found {p.judging_seeds}"
        )
    names = [name for family in families for name in (family.name, family.backbone)]
    names += [family.name for family in others]
    if len(set(names)) < len(names):
        raise ValueError(f"expected teachers of different names, found {', '.join(names)}")
    for family in families:
        if "accuracy" not in pretraining_card(family.weights):
            raise ValueError(
                f"{family.backbone}: no accuracy beside {family.weights}; pretrain the pair by "
                "notebooks/pretrain_teacher.ipynb"
            )


def _provenance(
    p: Any, seconds: float, families: Sequence[Family], others: Sequence[Family], runs: SwapRuns
) -> dict[str, Any]:
    parts = {
        "factors": runs.factors, "final": runs.final,
        "teachers": runs.teachers, "teachers/final": runs.final_teachers,
    }  # fmt: skip
    every = {
        f"{name}/{tag}": pooled for name, part in parts.items() for tag, pooled in part.items()
    }
    commits = {commit for pooled in every.values() for run in pooled for commit in run.commits}
    facts = results_file.provenance(
        p, seconds, load_fold(p, 0)(STUDY_FOLD).fingerprint, None,
        trained_at_commits=sorted(commits),
        training_seconds={name: sum(run.seconds for run in every[name]) for name in every},
        teachers={f.backbone: results_file.name_weights(f.weights) for f in families}
        | {f.name: results_file.name_weights(f.weights) for f in others},
    )  # fmt: skip
    return {**facts, "weights": None}  # `teachers` has them


def study_rows(parameters: Any, families: Sequence[Family], runs: SwapRuns) -> pd.DataFrame:
    """Rows of the pair's systems: factors, single changes, chosen systems and differences."""
    p, judging = parameters, judging_seeds(parameters)
    systems = {system.tag: system for system in study_systems(families)}
    parts = [
        _short_rows(runs.factors[system.tag], p.study_seeds, p.dataset, study="factors")
        for system in factor_systems(families)
    ]
    parts += [
        _short_rows(runs.factors[system.tag], judging, p.dataset, study="besides")
        for family in families
        for system in (base(family), *single_changes(family))
    ]
    parts += [
        _short_rows(runs.factors[published(family).tag], judging, p.dataset, study="teachers",
                    teacher=family.name)
        for family in families
    ]  # fmt: skip
    parts += [detector_rows(run, judging, p.dataset, study="final") for run in runs.final.values()]
    for role, pair in DIFFERENCES.items():
        a, b = (merge(runs.final[runs.chosen[of]], judging) for of in pair)
        parts.append(_verdict_rows(compare_detectors(a, b, p.dataset), role=role))
    facts = [accuracy_row(p.dataset, family) for family in families]

    def add(tag: str, metric: str, value: float, **condition: str) -> None:
        system = systems[tag]
        about = {**system.condition, **condition}
        facts.append(results_file.row(p.dataset, system.name, metric, value, condition=about))

    for role, tag in runs.chosen.items():
        add(tag, "auroc", image_auroc(runs.factors[tag]), study="chosen", role=role)
    for tag in runs.final:
        add(tag, "parameters", float(executed_parameters(systems[tag])), study="final")
    return pd.concat([*parts, pd.DataFrame(facts)], ignore_index=True)


def teacher_rows(
    parameters: Any, families: Sequence[Family], others: Sequence[Family], runs: SwapRuns
) -> pd.DataFrame:
    """Rows of the further teachers, with the name as `teacher` in the condition.

    `study` is "teachers", "final" or, for accuracies and for the swap and the best ConvNeXt minus
    the published detector on this teacher, "verdict".
    """
    p, judging = parameters, judging_seeds(parameters)
    task = pretraining_task(pair_of(families)[0].weights)
    facts, parts = [], []
    for family in others:
        named: dict[str, Any] = {"teacher": family.name}
        tried = runs.teachers[family.name]
        parts.append(_short_rows(tried, judging, p.dataset, study="teachers", **named))
        if task and pretraining_task(family.weights) == task:
            facts.append(accuracy_row(p.dataset, family, **named))
        if family.name not in runs.final_teachers:
            continue
        final = runs.final_teachers[family.name]
        parts.append(detector_rows(final, judging, p.dataset, study="final", **named))
        for role in ("swap", "convnext"):
            first, second = runs.final[runs.chosen[role]], final
            rows = compare_detectors(merge(first, judging), merge(second, judging), p.dataset)
            together = ["defect_type" not in condition for condition in rows["condition"]]
            parts.append(_verdict_rows(rows[together], role=role, **named))
    return pd.concat([*parts, pd.DataFrame(facts)], ignore_index=True)


def _short_rows(
    pooled: Sequence[Pooled], seeds: Sequence[int], dataset: str, **condition: Any
) -> pd.DataFrame:
    """Rows of `DETECTOR_COLUMNS` alone, by seed and over the first `seeds`, for many systems."""

    def shown(images: pd.DataFrame) -> pd.DataFrame:
        return one_type(images[[name for name in images if "." not in name]])

    runs = [with_scores(run, shown) for run in pooled[: len(seeds)]]
    rows = detector_rows(runs, seeds, dataset, **condition)
    return rows[rows["metric"].isin([metric for metric, _, _ in DETECTOR_COLUMNS.values()])]


def _verdict_rows(rows: pd.DataFrame, **condition: Any) -> pd.DataFrame:
    """The same rows, with `study`, `condition` and a defect type as their only condition."""
    kinds = [dict(given).get("defect_type") for given in rows["condition"]]
    given = [
        {"study": "verdict", **condition} | ({"defect_type": kind} if kind else {})
        for kind in kinds
    ]
    return rows.assign(condition=given)


def verdict_row(
    rows: pd.DataFrame, metric: str, system: str | None = None, **condition: Any
) -> Value:
    """The only row with `study="verdict"` and exactly this condition.

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
