"""Chapter 06, guided attention: mining, supervision, and the number and care of the masks."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd

from gainbook.chapters.ch06_guided.label_budget import (
    MAPS,
    MAX_DRAWS,
    Marked,
    draw_differences,
    draw_rows,
    marked,
    over_draws,
)
from gainbook.chapters.ch06_guided.mining import MEASURES, score_erased
from gainbook.lab.catalogue import (
    BOTH,
    MASK_SHARES,
    MINING_ALONE,
    PLAIN,
    SUPERVISION_ALONE,
    with_quality,
    with_share,
)
from gainbook.lab.criteria import find_difference, supervision
from gainbook.lab.folds import Question, of_each
from gainbook.lab.judge import INTERESTING, Judgement, gains, keeps, verdict
from gainbook.lab.live import LIVE_SMALL
from gainbook.lab.parameters import Parameters
from gainbook.lab.results_file import row
from gainbook.lab.run_system import is_finished, load_fold
from gainbook.lab.study import Claim, Run, Study, on_boards
from gainbook.lab.systems import System
from gainbook.lab.tables import Column, Value
from gainmtl.datasets import limit_masks
from gainmtl.strategies import get_strategy

NAME = "06_guided_attention"
QUICK: dict[str, Any] = LIVE_SMALL
"""Parameters of the live part."""
GUIDED = (PLAIN, MINING_ALONE, SUPERVISION_ALONE, BOTH)
"""The four systems of the chapter, from no term on the map to both."""
COARSE = (with_quality("dilated"), with_quality("box"))
PAIRS = (
    (MINING_ALONE, PLAIN),
    (SUPERVISION_ALONE, PLAIN),
    (BOTH, PLAIN),
    (BOTH, SUPERVISION_ALONE),
    (BOTH, MINING_ALONE),
)
MEASURED: dict[str, Column] = {
    "AUROC": ("auroc", None, {}),
    "recall at 5 % false alarms": ("recall_at_fpr05", None, {}),
    "evidence on the defect": ("positive_energy", "cam", {}),
    "evidence peaks on the defect": ("point_game", "cam", {}),
    "IoU, defect map": ("iou", "defect_map", {}),
    "pixel AP, defect map": ("pixel_ap", "defect_map", {}),
    "false activation on normal parts": ("false_activation", "defect_map", {}),
}
"""The measures of the chapter's tables, beside those of `mining.WORDS`."""
_KEPT = frozenset(
    {
        "auroc", "average_precision", "recall_at_fpr05", "accuracy", "recall", "iou", "point_game",
        "energy_inside", "positive_energy", "false_activation", "pixel_ap",
    }
)  # fmt: skip


def with_mining(system: System, weight: float) -> System:
    """The system with another weight of attention mining, which its rows do not carry."""
    strategy = get_strategy(system.strategy)
    weights = dataclasses.replace(strategy.weights, mining=weight)
    return system._replace(strategy=dataclasses.replace(strategy, weights=weights))


def all_systems(draws: int = MAX_DRAWS) -> tuple[System, ...]:
    """Every system of the chapter, with so many draws of each share of masks."""
    shares = tuple(with_share(share, draw) for share in MASK_SHARES for draw in range(draws))
    return (*GUIDED, *shares, *COARSE)


def chosen_systems(parameters: Parameters, draws: int, only_finished: bool) -> list[System]:
    """`all_systems`; with `only_finished` those of them whose folds are all trained."""
    systems = all_systems(draws)
    return [s for s in systems if not only_finished or is_finished(parameters, s)]


def kept(rows: pd.DataFrame) -> pd.Series:
    """Differences, and the chapter's measures; by defect type only where folds are pooled.

    Of the shares of masks, `budget_rows` makes the rows.
    """
    typed, of_share = (
        rows["condition"].map(lambda condition, key=key: key in condition)
        for key in ("defect_type", "mask_share")
    )
    maps = rows["map"].isna() | rows["map"].isin(MAPS)
    measured = rows["metric"].isin(_KEPT) & maps & (rows["fold"].isna() | ~typed)
    return (measured | rows["metric"].str.endswith("_difference")) & ~of_share


def budget_rows(run: Run) -> list[dict[str, Any]]:
    """Each draw of a share of masks, their mean, and its differences to no masks and to all."""
    p, rows = run.parameters, []
    by_share = {
        share: [s for s in run.systems if dict(s.masks).get("share") == share]
        for share in MASK_SHARES
    }
    for share, systems in by_share.items():
        scores = [run.whole[system.tag].scores for system in systems]
        for system, one in zip(systems, scores, strict=True):
            rows += draw_rows([one], p.dataset, system, run.resamples)
        if not systems:
            continue
        mean = over_draws(share, len(systems))
        rows += draw_rows(scores, p.dataset, mean, run.resamples)
        for other in (MINING_ALONE, BOTH):
            if other.tag in run.whole:
                pair = scores, run.whole[other.tag].scores
                rows += draw_differences(*pair, p.dataset, mean, other, run.resamples)
    return rows + _marked_rows(p, by_share)


def _marked_rows(p: Parameters, by_share: dict[float, list[System]]) -> list[dict[str, Any]]:
    """Rows `marked_groups` and `marked_images`: means over folds and draws, of each share and 1."""
    rows = []
    folds = [load_fold(p, seed)(fold) for seed in p.seeds for fold in range(p.folds)]
    for share, systems in (*by_share.items(), (1.0, [BOTH])):
        counts = [marked(limit_masks(data, **dict(s.masks))) for s in systems for data in folds]
        for name in Marked._fields if counts else ():
            value = float(np.mean([getattr(count, name) for count in counts]))
            condition = {**BOTH.condition, "mask_share": share}
            rows.append(
                row(p.dataset, BOTH.name, f"marked_{name}", value, split="train",
                    condition=condition, n=len(counts))
            )  # fmt: skip
    return rows


def judge_mining(energy: Value, coverage: Value, auroc: Value) -> Judgement:
    """A2: does mining make the network find the discriminative regions by itself?

    Differences, mining alone minus the plain classifier, on the same images: the share of positive
    evidence on the defect, the share of the defect under the soft mask, and AUROC. *Shown* if the
    first two have intervals above 0 and AUROC's lies above -0.02. A map measure below 0.02, or an
    AUROC below -0.02, is excluded. What is shown was fixed before anything was measured, the
    smallest interesting differences after it.
    """
    better = [gains(energy, INTERESTING["positive_energy"]), gains(coverage)]
    return Judgement(
        verdict(better, [keeps(auroc)]),
        {"evidence on the defect": energy, "defect under the soft mask": coverage, "AUROC": auroc},
    )


def mining_alone(rows: pd.DataFrame) -> Judgement:
    """A2 from result rows; see `judge_mining`."""
    pair = rows, MINING_ALONE, PLAIN
    return judge_mining(
        find_difference(*pair, "positive_energy", "cam"),
        find_difference(*pair, "soft_mask_coverage", "cam"),
        find_difference(*pair, "auroc"),
    )


STUDY = Study(
    name=NAME,
    notebook=NAME,
    title="Guided attention",
    systems=all_systems(),
    pairs=(*PAIRS, *((system, BOTH) for system in COARSE)),
    questions=(Question(of_each(score_erased), MEASURES, systems=GUIDED),),
    keep=kept,
    extra=budget_rows,
    profile="components",
    claims=(Claim("A1", supervision(SUPERVISION_ALONE, PLAIN)), Claim("A2", mining_alone)),
)
BOARD_STUDY = on_boards(STUDY, GUIDED, extra=None)
STUDIES = (STUDY, BOARD_STUDY)
