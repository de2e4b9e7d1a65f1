"""Chapter 12, CAM fostering: a sweep of its weight on tiles, and what is compared with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from gainbook.chapters.ch12_fostering import claims
from gainbook.chapters.ch12_fostering.branch_rounds import Rounds, first_round_rows
from gainbook.chapters.ch12_fostering.claims import SWEEP, sweep_beta
from gainbook.chapters.ch12_fostering.sharpness import MEASURES, score_sharpness, weak_gain_rows
from gainbook.chapters.ch12_fostering.systems import (
    ALL,
    BRANCH,
    extras,
    fostered_branch,
    paper_sweep,
)
from gainbook.chapters.ch12_fostering.weak_study import WEAK_STUDY
from gainbook.lab.comparison import pixel_ap_rows
from gainbook.lab.folds import Question
from gainbook.lab.parameters import Parameters
from gainbook.lab.protocol import Pooled
from gainbook.lab.results_file import row
from gainbook.lab.run_system import SMALL, is_finished, run
from gainbook.lab.study import (
    Claim,
    Headline,
    Pair,
    Results,
    Run,
    Study,
    on_boards,
    results,
    stored,
)
from gainbook.lab.systems import System

NAME = "12_cam_fostering"
QUICK: dict[str, Any] = SMALL | {
    "image_size": 96, "epochs": 10, "batch_size": 16, "learning_rate": 3e-3
}  # fmt: skip
"""Parameters of the live part."""
SYSTEMS = ALL
PAPER = "voc2012"
"""The data set of the paper's own setting, with the two networks of `paper_sweep`."""


def sweep_of(parameters: Parameters) -> Mapping[float, System]:
    """The systems by their beta."""
    return paper_sweep(parameters.image_size) if parameters.dataset == PAPER else SWEEP


def training_rows(pooled: Sequence[Pooled], dataset: str, system: System) -> list[dict[str, Any]]:
    """Figures of the last epoch of training, means over folds and seeds.

    `validation_auroc` (split "val"), by which a beta is chosen, and `fostering_vanished` (split
    "train"), the share of maps that were left out of the term.
    """
    last = pd.concat([one.histories.groupby("fold").last() for one in pooled])
    columns = {
        "auroc": ("validation_auroc", "val"),
        "fostering_vanished": ("fostering_vanished", "train"),
    }
    return [
        row(dataset, system.name, metric, float(last[column].mean()), split=split,
            condition=system.condition, n=len(last))
        for column, (metric, split) in columns.items()
        if column in last
    ]  # fmt: skip


def _extra(run: Run) -> list[dict[str, Any]]:
    dataset = run.parameters.dataset
    rows = [
        one
        for system in run.systems
        for one in training_rows(run.pooled[system.tag], dataset, system)
    ]
    for a, b in run.pairs:
        rows += pixel_ap_rows(run.whole[a.tag], run.whole[b.tag], dataset, ("cam",), run.resamples)
    return rows


def _kept(rows: pd.DataFrame, sweep: Mapping[float, System]) -> pd.Series:
    """No single defect types; of single folds the systems of the sweep, without the oracle."""
    swept = [(system.name, system.condition) for system in sweep.values()]

    def is_swept(name: str, condition: Mapping[str, Any]) -> bool:
        own = {key: value for key, value in condition.items() if key != "intervention"}
        return (name, own) in swept

    pairs = zip(rows["system"], rows["condition"], strict=True)
    by_fold = np.array([is_swept(*pair) for pair in pairs], dtype=bool)
    whole = rows["condition"].map(lambda condition: "defect_type" not in condition)
    return whole & (rows["fold"].isna() | by_fold)


def study_of(sweep: Mapping[float, System], faithful: int = 4) -> Study:
    """The study of a sweep.

    Args:
        faithful: number of defective parts per fold on which faithfulness is measured.
    """
    return Study(
        name=NAME,
        notebook=NAME,
        title="CAM fostering",
        systems=tuple(sweep.values()),
        questions=(Question(score_sharpness, MEASURES, {"faithful": faithful}, weak_gain_rows),),
        keep=partial(_kept, sweep=sweep),
        extra=_extra,
        profile="components",
        fuller=(
            "-p more true -p abn_rounds 3",
            "what the sweep alone does not need: the other two measures, few masks, the six "
            "classes, and an attention branch network in up to three rounds of the epochs",
        ),
        headline=Headline(varied=("pooling", "beta", "measure", "layer", "epochs", "num_classes")),
        claims=(
            Claim("C1", partial(claims.size, sweep=sweep)),
            Claim("C2", claims.cost, ("gradient_gap", "step_time_ratio")),
            Claim("C3", partial(claims.weak_on_tiles, sweep=sweep)),
            Claim("C4", partial(claims.different, sweep=sweep)),
            Claim("C5", partial(claims.accuracy, sweep=sweep)),
            Claim("C6", claims.expensive, ("step_time_ratio",)),
            Claim("C7", partial(claims.branch_network, sweep=sweep)),
        ),
    )


STUDY = study_of(SWEEP)
FOSTERED_BRANCHES = tuple(fostered_branch(beta) for beta in SWEEP if beta)


def _extra_on_boards(run: Run) -> list[dict[str, Any]]:
    return _extra(run) + first_round_rows(run, SWEEP[0.0])


BOARD_STUDY = on_boards(
    STUDY,
    (*SWEEP.values(), BRANCH, *FOSTERED_BRANCHES),
    pairs=(
        *((system, SWEEP[0.0]) for beta, system in SWEEP.items() if beta),
        (BRANCH, SWEEP[0.0]),
        *((system, BRANCH) for system in FOSTERED_BRANCHES),
    ),
    extra=_extra_on_boards,
    claims=tuple(claim for claim in STUDY.claims if not claim.live),
)
"""The sweep, and the attention branch network in its first round with every beta, since one command
trains all of them before validation data choose the beta."""
STUDIES = (STUDY, WEAK_STUDY, BOARD_STUDY)


def pairs_of(parameters: Parameters, rounds: Rounds, more: bool = False) -> list[Pair]:
    """What a run compares: every system of the sweep with beta 0, then `systems.extras`.

    The sweep is trained where it is missing; validation data choose its beta.

    Args:
        rounds: of the attention branch network.
        more: whether missing systems of the extras are trained; otherwise pairs need all folds.
    """
    p, sweep = parameters, sweep_of(parameters)
    rows = [one for s in sweep.values() for one in training_rows(run(p, s), p.dataset, s)]
    pairs: list[Pair] = [(system, sweep[0.0]) for beta, system in sweep.items() if beta]
    if p.dataset == PAPER:
        return pairs
    beta = sweep_beta(pd.DataFrame(rows), sweep) or max(sweep)
    types = p.dataset == "magnetic-tile"
    for pair in extras(beta, rounds.number, rounds.epochs, types):
        if more or all(s in sweep.values() or is_finished(p, s) for s in pair):
            pairs.append(pair)
    return pairs


def fostering_results(
    parameters: Parameters, rounds: Rounds, more: bool = False, faithful: int = 4
) -> Results:
    """The study run on the parameters' data set, or its stored results; see `pairs_of`."""
    p, sweep = parameters, sweep_of(parameters)
    if p.dataset == "synthetic":
        return stored(STUDY)
    pairs = pairs_of(p, rounds, more)
    systems = {system.tag: system for pair in pairs for system in reversed(pair)}
    chosen = study_of(sweep, faithful)
    measured = results(chosen, p, systems=list(systems.values()), pairs=pairs)
    rows = pd.concat([measured.rows, pd.DataFrame(rounds.rows)], ignore_index=True)
    return measured._replace(rows=rows)
