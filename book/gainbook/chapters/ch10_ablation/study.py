"""Chapter 10, the ablation: the ladder S1 to S6 on real tiles and on synthetic parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from gainbook.chapters.ch10_ablation import textbook
from gainbook.chapters.ch10_ablation.ladder import (
    COMPARED,
    COPY_PASTE,
    COPY_PASTE_PAIRS,
    HONEST,
    LADDER_PAIRS,
    LEAKING,
    LEAKING_PAIRS,
    LEAVE_ONE_OUT_PAIRS,
    LEFT_OUT,
    S1,
    S2,
    S4,
    S4_NO_CONSISTENCY,
    S5,
    SIX,
    WHOLE_STEPS,
)
from gainbook.chapters.ch10_ablation.overlap import map_overlaps
from gainbook.chapters.ch10_ablation.seeds import SETTINGS, SETTINGS_OF, train_and_measure
from gainbook.chapters.ch10_ablation.surroundings import MEASURES, score_without_defects
from gainbook.lab.comparison import pixel_ap_rows
from gainbook.lab.cost import cost_rows
from gainbook.lab.criteria import consistency, counterfactual_term, find_difference, supervision
from gainbook.lab.flips import flip_measures, score_flips
from gainbook.lab.folds import Question
from gainbook.lab.judge import INTERESTING, Judgement, gains, verdict
from gainbook.lab.live import LIVE_SMALL
from gainbook.lab.measures import RATIO, Measure, paired_rows
from gainbook.lab.protocol import Pooled
from gainbook.lab.results_file import row
from gainbook.lab.seed_study import Cell, SeedStudy, against_systems
from gainbook.lab.study import (
    PLACES,
    REASONS,
    VERDICTS,
    Claim,
    Headline,
    Measured,
    Run,
    Study,
    on_boards,
)
from gainbook.lab.systems import System
from gainbook.lab.tables import Value

NOTEBOOK = "10_ablation"
QUICK: dict[str, Any] = LIVE_SMALL
"""Parameters of the live part."""
KEPT = (
    "auroc", "average_precision", "recall_at_fpr05", "accuracy", "recall", "iou", "point_game",
    "energy_inside", "positive_energy", "false_activation", "pixel_ap", "wrong_reason",
)  # fmt: skip
"""The measures of the rows of single systems; types and further measures are other chapters'."""
BY_FOLD = ("auroc",)
"""Those of them that are also kept by fold: a file has room for so many rows."""
TESTED = ("auroc", "recall_at_fpr05")
"""Measures whose p-values are kept, as `<metric>_p_value`: the targets are about them."""
RATIOS = tuple(
    Measure(metric, f"defect_map.{metric}", "defect_map", pair=RATIO)
    for metric in ("iou", "point_game")
)
QUESTIONS = (
    Question(score_flips, flip_measures()),
    Question(map_overlaps, (Measure("map_overlap", "map_overlap"),)),
)
PROMISES: dict[str, tuple[str, Measured]] = {
    "S2": ("evidence on the defect", ("positive_energy", "cam", {})),
    "S3": ("recall at 5 % false alarms", ("recall_at_fpr05", None, {})),
    "S4": ("IoU of the defect map", ("iou", "defect_map", {})),
    "S5": ("selectivity on the image", ("selectivity", None, {"level": "image"})),
    "S6": ("recall at 5 % false alarms", ("recall_at_fpr05", None, {})),
}
"""The purpose of each whole step, one measure each. Among ten measures of five steps two would move
by chance."""


def _kept(rows: pd.DataFrame) -> pd.Series:
    paired = rows["metric"].str.endswith("_difference")
    single = rows["metric"].isin(KEPT) & (rows["fold"].isna() | rows["metric"].isin(BY_FOLD))
    return (paired | single) & rows["condition"].map(lambda about: "defect_type" not in about)


def _training_rows(system: System, pooled: Pooled, dataset: str) -> list[dict[str, Any]]:
    """Rows `validation_auroc`, the mean over folds after the last epoch, which alone may choose a
    system; `seconds` of all folds; and `seconds_per_epoch`, the median."""
    history = pooled.histories
    last = history.loc[history["epoch"] == history["epoch"].max(), "auroc"]
    return [
        row(dataset, system.name, metric, value, condition=system.condition, split=split)
        for metric, value, split in (
            ("validation_auroc", float(last.mean()), "val"),
            ("seconds", pooled.seconds, "train"),
            ("seconds_per_epoch", float(np.median(history["seconds"].to_numpy(float))), "train"),
        )
    ]


def _more_rows(run: Run) -> list[dict[str, Any]]:
    """p-values, ratios of map measures and pixel AP of pairs, and the training of each system."""
    dataset = run.parameters.dataset
    tested = run.table[run.table["metric"].isin([f"{metric}_difference" for metric in TESTED])]
    rows = []
    for record in tested.to_dict("records"):
        about = {"value": record.pop("p_value"), "ci_low": None, "ci_high": None}
        name = record["metric"].replace("_difference", "_p_value")
        rows.append({**record, **about, "metric": name})
    for a, b in run.pairs:
        first, second = run.whole[a.tag], run.whole[b.tag]
        images = first.scores.images, second.scores.images
        rows += paired_rows(*images, RATIOS, dataset, a, b, run.resamples)
        if a.split == b.split:  # else the images of the two stand in another order
            maps = ("cam", "defect_map")
            rows += pixel_ap_rows(first, second, dataset, maps, run.resamples)
    for system in run.systems:
        rows += _training_rows(system, run.whole[system.tag], dataset)
    return rows


def _more_and_cost(run: Run) -> list[dict[str, Any]]:
    p = run.parameters
    return _more_rows(run) + cost_rows(run.systems, p.backbone, p.image_size, p.dataset)


def judge_each(figures: Mapping[str, tuple[str, Value]]) -> Judgement:
    """A12: does each of the steps contribute?

    `figures`: by name, the metric and the difference of each step in the measure it is added for,
    later minus earlier. A step's contribution is *shown* with an interval above 0 and excluded with
    one below the smallest interesting difference, which came after the run. All five need to be
    shown, so no correction for their number is needed; *refined*, where some are shown and another
    is excluded, is generous for lack of one.
    """
    parts = [gains(value, INTERESTING[metric]) for metric, value in figures.values()]
    return Judgement(verdict(parts), {name: value for name, (_, value) in figures.items()})


def each(rows: pd.DataFrame) -> Judgement:
    """`judge_each` from result rows."""
    figures = {}
    for step in WHOLE_STEPS:
        words, (metric, map, condition) = PROMISES[step.system.name]
        value = find_difference(rows, *step.pair, metric, map, **condition)
        figures[f"{step.name}, {words}"] = metric, value
    return judge_each(figures)


def _study(name: str, title: str, part: str, headline: Headline, **more: Any) -> Study:
    return Study(
        name, NOTEBOOK, title, keep=_kept, options={"part": part}, headline=headline,
        **{"questions": QUESTIONS, "extra": _more_and_cost, **more},
    )  # fmt: skip


MEASURES_SHOWN = {**VERDICTS, **PLACES, **REASONS}
LADDER = _study(
    NOTEBOOK, "The ladder", "ladder", Headline(MEASURES_SHOWN, ("pooling",)),
    systems=COMPARED, pairs=LADDER_PAIRS,
    questions=(*QUESTIONS, Question(score_without_defects, MEASURES)),
    claims=(
        Claim("A1", supervision(S2, S1)),
        Claim("A10", counterfactual_term(S5, S4)),
        Claim("A12", each),
        Claim("A13", consistency(S4, S4_NO_CONSISTENCY)),
    ),
)  # fmt: skip
LEAVE_ONE_OUT = _study(
    "10_leave_one_out", "Left out of the whole", "leave_one_out", Headline(MEASURES_SHOWN),
    systems=(S1, S5, *LEFT_OUT), pairs=LEAVE_ONE_OUT_PAIRS, profile="components",
)  # fmt: skip
LEAKING_SPLIT = _study(
    "10_leaking_split", "The effect of a leaking split", "leaking",
    Headline(
        {
            **VERDICTS,
            "accuracy": ("accuracy", None, {}),
            "IoU of the defect map": ("iou", "defect_map", {}),
            "PointGame of the defect map": ("point_game", "defect_map", {}),
        },
        ("split",),
    ),
    systems=(*HONEST, *LEAKING), pairs=LEAKING_PAIRS, profile="components",
    questions=(), extra=_more_rows,
)  # fmt: skip
PASTED = _study(
    "10_copy_paste", "Training on counterfactual pictures", "copy_paste", Headline(MEASURES_SHOWN),
    systems=(*HONEST, *COPY_PASTE), pairs=COPY_PASTE_PAIRS,
)  # fmt: skip
LADDER_BOARDS = on_boards(LADDER, (*SIX, S4_NO_CONSISTENCY), questions=QUESTIONS)
PARTS = {study.options["part"]: study for study in (LADDER, LEAVE_ONE_OUT, LEAKING_SPLIT, PASTED)}
"""By the notebook's parameter `part`."""


def _subject(cell: Cell) -> tuple[str, dict[str, Any]]:
    system = {system.tag: system for system in SIX}[cell["system"]]
    return system.name, {**system.condition, "setting": cell["setting"]}


SEEDS = SeedStudy(
    name="10_synthetic",
    notebook=NOTEBOOK,
    title="Six strategies over seeds",
    axes={
        "system": [system.tag for system in SIX],
        "setting": list(SETTINGS_OF),
        "seed": [0, 1, 2, 3, 4],
    },
    train_and_measure=train_and_measure,
    subject=_subject,
    file=lambda cell: f"{cell['system']}/{cell['setting']}/seed{cell['seed']}.json",
    settings=SETTINGS,
    against=against_systems(SIX),
    unbounded=("selectivity", "cpu_seconds_per_epoch"),
    systems=SIX,
    folder="runs/ablation",
    headline=Headline(MEASURES_SHOWN, ("setting",)),
)  # fmt: skip
STUDIES = (*PARTS.values(), LADDER_BOARDS, SEEDS, *textbook.STUDIES)
