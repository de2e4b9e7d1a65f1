"""Chapter 11, six approaches side by side: what is run and measured, and claims A6 and A14."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from gainbook.chapters.ch11_approaches.abilities import (
    ABILITIES,
    PAIRED,
    abilities_of,
    difference,
    figure_of,
    only,
)
from gainbook.chapters.ch11_approaches.approaches import (
    ALL,
    CLASSIFIER,
    GUIDED,
    INTEGRATED,
    MULTI_TASK,
    RATES,
    SEGMENTATION,
    SEVEN,
    SIX,
    TUNED,
    at_rate,
)
from gainbook.chapters.ch11_approaches.marked_area import MEASURES, score_marked_areas
from gainbook.chapters.ch11_approaches.prices import count_labels, label_rows
from gainbook.chapters.ch11_approaches.probabilities import ECE_PLATT, recalibrated
from gainbook.lab.cost import cost_rows
from gainbook.lab.criteria import judge_together
from gainbook.lab.folds import VALIDATION, Question
from gainbook.lab.judge import Judgement, verdict
from gainbook.lab.live import LIVE_SMALL
from gainbook.lab.measures import measure_rows
from gainbook.lab.results_file import row
from gainbook.lab.run_system import load_fold
from gainbook.lab.study import Claim, Headline, Run, Study, on_boards
from gainbook.lab.tables import find

NAME = "11_six_approaches"
QUICK: dict[str, Any] = LIVE_SMALL
"""Parameters of the live part."""
PAIRS = tuple(
    (system, TUNED[standard.tag])
    for standard in (CLASSIFIER, SEGMENTATION, GUIDED, INTEGRATED)
    for system in SEVEN
    if system is not TUNED[standard.tag]
)
SYSTEMS = tuple(at_rate(system, trial) for system in ALL for trial in RATES)


def _extra(run: Run) -> list[dict[str, Any]]:
    """Rows of cost, calibration after Platt's line, training time, and the labels drawn."""
    p = run.parameters
    rows = cost_rows(run.systems, p.backbone, p.image_size, p.dataset)
    for system in run.systems:
        validation = run.answers["validation_scores"][system.tag]
        tables = []
        for seed, pooled in zip(p.seeds, run.pooled[system.tag], strict=True):
            by_fold = validation[validation["seed"] == seed].groupby("fold")
            tables.append(recalibrated(pooled.folds, [part for _, part in by_fold]))
        images = pd.concat(tables, ignore_index=True)
        rows += measure_rows(images, (ECE_PLATT,), p.dataset, system, run.resamples // 2)
        seconds = run.whole[system.tag].seconds
        condition = system.condition
        rows.append(row(p.dataset, system.name, "seconds", seconds, split="train",
                        condition=condition))  # fmt: skip
    return rows + label_rows(count_labels(load_fold(p, p.seeds[0])(0).train), p.dataset)


def _kept(rows: pd.DataFrame) -> pd.Series:
    """No single defect types of single folds, which test a handful of images, and of the oracle
    only the whole."""
    typed = rows["condition"].map(lambda condition: "defect_type" in condition)
    oracle = rows["condition"].map(lambda condition: "oracle" in condition)
    return (rows["fold"].isna() | ~(typed | oracle)) & ~(typed & oracle)


def together(rows: pd.DataFrame) -> Judgement:
    """A6: does the multi-task network beat the classifier and the U-Net?

    *Shown* if its AUROC minus the classifier's and the IoU of its defect map minus the U-Net's have
    intervals above 0; see `criteria.judge_together`.
    """
    figures = {}
    for words, figure, other in (
        ("AUROC, minus classifier only", "AUROC", CLASSIFIER),
        ("IoU, minus U-Net", "IoU", SEGMENTATION),
    ):
        metric, of, _ = PAIRED[figure]
        a, b = TUNED[MULTI_TASK.tag], TUNED[other.tag]
        figures[words] = find(rows, a, f"{metric}_difference", of, **b.as_other)
    return judge_together(figures)


def only_integrated(rows: pd.DataFrame) -> Judgement:
    """A14: does only the integrated system classify, locate, explain and verify?

    *Shown* if it has all four abilities and every other system certainly lacks one. *Excluded* if
    it certainly lacks one, or another system has all four; see `abilities.able`.
    """
    figures = {}
    for name, (figure, standard, _, _) in ABILITIES.items():
        other = next(s for s in SIX if s.tag == standard)
        if other is INTEGRATED:
            figures[f"{name}: {figure} of {INTEGRATED.label}"] = figure_of(rows, other, figure)
        else:
            words = f"{name}: {figure}, {INTEGRATED.label} minus {other.label}"
            figures[words] = difference(rows, INTEGRATED, other, figure)
    if all(np.isnan(value.value) for value in figures.values()):
        raise LookupError("the paired differences of the six approaches")
    cells = {system.tag: abilities_of(rows, system) for system in SIX}
    return Judgement(verdict([only(cells, INTEGRATED.tag)]), figures)


def questions(road: int = 16) -> tuple[Question, ...]:
    """What the models of every fold are measured by.

    Args:
        road: number of defective parts per fold on which ROAD is measured.
    """
    marked = Question(score_marked_areas, MEASURES, {"road": road}, seeded=True)
    return marked, VALIDATION


STUDY = Study(
    name=NAME,
    notebook=NAME,
    title="Six approaches",
    systems=SEVEN,
    pairs=PAIRS,
    questions=questions(),
    keep=_kept,
    extra=_extra,
    profile="components",
    headline=Headline(varied=("pooling",)),
    claims=(Claim("A6", together), Claim("A14", only_integrated)),
)
BOARD_STUDY = on_boards(STUDY, SEVEN, questions=questions()[:1], extra=None)
"""At the rates that the trials on tiles chose, without calibration and costs."""
STUDIES = (STUDY, BOARD_STUDY)
