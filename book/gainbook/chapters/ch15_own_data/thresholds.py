"""The study of chapter 15's threshold: chosen on the validation part, or on inner folds.

Few normal images make a rough threshold: with 30 normal tiles about five are in the validation
part, and the share of false alarms that a threshold has on five is 0, 0.2, 0.4, …. With inner folds
all 30 choose it.

Criterion, written before the runs: inner folds keep the promised share of false alarms better if
the mean over draws of |share on the test tiles - promised share| is smaller, with a Student's 95 %
interval of the paired difference below 0. A difference under 0.02 does not matter.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pandas as pd

from gainbook.chapters.ch15_own_data.budget import SETTINGS, SHOWN, trained
from gainbook.chapters.ch15_own_data.budget import STUDY as BUDGET
from gainbook.lab.catalogue import S5
from gainbook.lab.results_file import git_commit, portable
from gainbook.lab.seed_study import Cell, SeedStudy, figure
from gainbook.lab.study import Headline
from gainbook.lab.tables import find_or_nan
from gainmtl import metrics
from gainmtl.evaluation.scoring import defect_scores
from gainmtl.training.recipe import Recipe

INNER_FOLDS = 5
PROMISED = Recipe.max_false_alarms
VALIDATION, INNER = "validation part", "inner folds"
"""What chooses a threshold; the values of the condition `chosen_on`."""


def threshold_figures(
    scores: Any, labels: Any, thresholds: Mapping[str, float]
) -> list[dict[str, Any]]:
    """False alarms and recall of each threshold, and INNER minus VALIDATION.

    `off` is |share of false alarms - promised share|.
    """
    found: dict[str, dict[str, float]] = {}
    for name, threshold in thresholds.items():
        flagged = metrics.is_flagged(scores, threshold)
        false_alarms = float(flagged[~labels].mean())
        found[name] = {
            "false_alarms": false_alarms,
            "off": abs(false_alarms - PROMISED),
            "recall": float(flagged[labels].mean()),
        }
    figures = [
        figure(metric, value, chosen_on=name)
        for name, values in found.items()
        for metric, value in values.items()
    ]
    return figures + [
        figure(f"{metric}_difference", found[INNER][metric] - found[VALIDATION][metric])
        for metric in found[INNER]
    ]


def train_and_measure(settings: Mapping[str, Any], place: Cell) -> dict[str, Any]:
    """Train one network and those of its inner folds: both thresholds of the one network."""
    started, commit = time.process_time(), git_commit()
    model, data = trained(settings, place, inner_folds=INNER_FOLDS)
    size = settings["batch_size"]
    chosen_on, is_defective = defect_scores(model, data.val, size)
    own = metrics.threshold_at_fpr(chosen_on, is_defective, PROMISED)
    scores, labels = defect_scores(model, data.test, size)
    return {
        "settings": portable(settings),
        "figures": [
            *threshold_figures(scores, labels, {VALIDATION: own, INNER: model.threshold}),
            figure("normal_images", (~is_defective).sum(), chosen_on=VALIDATION),
        ],
        "fingerprint": data.fingerprint,
        "commit": commit,
        "seconds": time.process_time() - started,
    }


def threshold_text(rows: pd.DataFrame | None) -> str:
    """Both thresholds' false alarms and recall, and the paired differences; "" if not run."""
    if rows is None:
        return ""

    def text(metric: str, digits: int = 2, signed: bool = False, **condition: Any) -> str:
        return find_or_nan(rows, S5, metric, labels=SHOWN, **condition).text(digits, signed)

    images = find_or_nan(rows, S5, "normal_images", labels=SHOWN, chosen_on=VALIDATION)
    false_alarms, recall = (
        {name: text(metric, chosen_on=name) for name in (VALIDATION, INNER)}
        for metric in ("false_alarms", "recall")
    )
    return (
        f"With {SHOWN} defective and {SHOWN} normal board tiles, {images.value:.1f} normal tiles "
        f"are in the validation part on average. A threshold for at most {PROMISED:.0%} false "
        f"alarms there has {false_alarms[VALIDATION]} on the test tiles, at recall "
        f"{recall[VALIDATION]}; that of {INNER_FOLDS} inner folds {false_alarms[INNER]}, at recall "
        f"{recall[INNER]}. Inner folds minus validation part: distance from {PROMISED:.0%} "
        f"{text('off_difference', signed=True)}, recall {text('recall_difference', signed=True)}."
    )


STUDY = SeedStudy(
    name="15_inner_folds",
    notebook="15_your_own_data",
    title="The threshold from few tiles",
    axes={"system": (S5.tag,), "labels": (SHOWN,), "seed": range(5)},
    train_and_measure=train_and_measure,
    subject=lambda place: (S5.name, {**S5.condition, "labels": place["labels"]}),
    file=lambda place: f"{place['system']}/{place['labels']}/draw{place['seed']}.json",
    settings=SETTINGS,
    unbounded=("off_difference", "recall_difference", "false_alarms_difference", "normal_images"),
    dataset="deep-pcb",
    systems=(S5,),
    folder="runs/inner_folds",
    headline=Headline(
        {
            "false alarms": ("false_alarms", None, {"chosen_on": INNER}),
            "recall": ("recall", None, {"chosen_on": INNER}),
        },
        varied=("labels", "chosen_on"),
    ),
    about=BUDGET.about,
)
