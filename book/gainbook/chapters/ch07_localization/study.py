"""Chapter 07, localization: a verdict and a place, apart and together, and the focal study."""

from __future__ import annotations

import dataclasses
from typing import Any

import pandas as pd

from gainbook.chapters.ch07_localization.by_size import size_differences, size_rows
from gainbook.chapters.ch07_localization.focal_study import FOCAL
from gainbook.chapters.ch07_localization.verdict_from_map import (
    by_map,
    score_maps,
    score_validation_maps,
    with_area,
    with_map_verdict,
    with_thresholds,
)
from gainbook.lab.catalogue import LOCALIZATION, LOCALIZATION_ALONE, PLAIN, TOGETHER
from gainbook.lab.comparison import compare, merge, pixel_ap_rows, result_rows
from gainbook.lab.criteria import find_difference, judge_together
from gainbook.lab.folds import Question, of_each
from gainbook.lab.judge import Judgement
from gainbook.lab.live import LIVE_SMALL
from gainbook.lab.protocol import Pooled
from gainbook.lab.study import Claim, Run, Study, on_boards
from gainbook.lab.systems import System

NAME = "07_localization"
QUICK: dict[str, Any] = LIVE_SMALL
"""Parameters of the live part."""
ALONE = by_map(LOCALIZATION_ALONE)
"""Localization alone has no trained classifier, so its verdict is that of its map."""
JOINT_BY_MAP = by_map(TOGETHER)
COMPARED = (PLAIN, ALONE, TOGETHER, JOINT_BY_MAP)
PAIRS = ((TOGETHER, PLAIN), (TOGETHER, ALONE), (JOINT_BY_MAP, ALONE))
MAPPED = (LOCALIZATION_ALONE, TOGETHER)


def trained_by(loss: str) -> System:
    """Localization alone, trained by one of its two losses: "BCE" or "Dice"."""
    strategy = dataclasses.replace(
        LOCALIZATION, name=f"localization, {loss}", localization_loss=loss.lower()
    )
    return LOCALIZATION_ALONE._replace(strategy=strategy, label=loss)


LIVE = {
    PLAIN: PLAIN,
    LOCALIZATION_ALONE: ALONE,
    TOGETHER: TOGETHER,
    trained_by("BCE"): by_map(trained_by("BCE")),
    trained_by("Dice"): by_map(trained_by("Dice")),
}
"""The systems of the live part, each with the system of its result rows."""


def _scores_of_seed(run: Run, question: str, system: System, seed: int) -> list[pd.DataFrame]:
    """The answers of one seed, by fold, with the images' own names."""
    table = run.answers[question][system.tag]
    names = table["name"].str.removesuffix(f", seed {seed}")
    table = table.assign(name=names)[table["seed"] == seed]
    return [part for _, part in table.groupby("fold")]


def _pooled_of_seed(run: Run, place: int, seed: int) -> dict[System, Pooled]:
    """The systems of `COMPARED` with a column `area`, those by map with the map's verdicts."""
    test = {s: _scores_of_seed(run, "score_maps", s, seed) for s in MAPPED}
    val = {s: _scores_of_seed(run, "score_validation_maps", s, seed) for s in MAPPED}
    area = pd.concat(test[TOGETHER]).set_index("name")["area"]
    trained = {s: with_area(run.pooled[s.tag][place], area) for s in (PLAIN, *MAPPED)}
    mapped = {
        by_map(s): with_map_verdict(
            trained[s], [with_thresholds(*parts) for parts in zip(test[s], val[s], strict=True)]
        )
        for s in MAPPED
    }
    return trained | mapped


def map_verdict_rows(run: Run) -> list[dict[str, Any]]:
    """Rows of the verdicts by map, and of all systems and pairs by size and in pixel AP."""
    p = run.parameters
    by_seed = [_pooled_of_seed(run, place, seed) for place, seed in enumerate(p.seeds)]
    whole = {s: merge([pooled[s] for pooled in by_seed], p.seeds) for s in COMPARED}
    tables = [
        result_rows([pooled[s] for pooled in by_seed], p.seeds, p.dataset, run.resamples)
        for s in (ALONE, JOINT_BY_MAP)
    ]
    rows: list[dict[str, Any]] = []
    for system, pooled in whole.items():
        rows += size_rows(pooled, p.dataset, system, run.resamples)
    for a, b in PAIRS:
        pair = whole[a], whole[b], p.dataset
        if (a, b) != PAIRS[0]:  # which the study compares
            tables.append(compare(*pair, run.resamples).drop(columns="p_value"))
        rows += size_differences(*pair, a, b, run.resamples)
        rows += pixel_ap_rows(*pair, resamples=run.resamples)
    return [*(row for table in tables for row in table.to_dict("records")), *rows]


def trained_verdicts(rows: pd.DataFrame) -> pd.Series:
    """All rows but those of the classifier of localization alone, which is not trained."""
    return rows["system"] != LOCALIZATION_ALONE.name


def together(rows: pd.DataFrame) -> Judgement:
    """A6 by AUROC and pixel AP; see `judge_together`."""
    return judge_together(
        {
            "AUROC against the plain classifier": find_difference(rows, TOGETHER, PLAIN, "auroc"),
            "pixel AP against localization alone": find_difference(
                rows, TOGETHER, ALONE, "pixel_ap", "defect_map"
            ),
        }
    )


STUDY = Study(
    name=NAME,
    notebook=NAME,
    title="Localization",
    systems=(PLAIN, *MAPPED),
    pairs=PAIRS[:1],
    questions=(
        Question(of_each(score_maps), (), systems=MAPPED),
        Question(of_each(score_validation_maps), (), systems=MAPPED, part="val"),
    ),
    keep=trained_verdicts,
    extra=map_verdict_rows,
    profile="components",
    claims=(Claim("A6", together),),
)
BOARD_STUDY = on_boards(STUDY, STUDY.systems)
STUDIES = (STUDY, BOARD_STUDY, FOCAL)
