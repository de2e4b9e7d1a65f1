"""Claims C1 to C7 from the rows of chapter 12's results file; see `criteria` for each.

`sweep` are the systems by their beta. Where validation data chose no beta but 0, the claims about
the chosen beta are undecided.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeAlias

import pandas as pd

from gainbook.chapters.ch12_fostering import criteria
from gainbook.chapters.ch12_fostering.branch_rounds import is_level, stored_rounds
from gainbook.chapters.ch12_fostering.sharpness import SHAPE_PAIRS
from gainbook.chapters.ch12_fostering.systems import BETAS, branch, fostered, fostered_branch
from gainbook.lab.catalogue import AVERAGED
from gainbook.lab.criteria import find_difference
from gainbook.lab.judge import UNDECIDED, Judgement
from gainbook.lab.systems import System
from gainbook.lab.tables import find

Rows: TypeAlias = pd.DataFrame
Sweep: TypeAlias = Mapping[float, System]
SWEEP: Sweep = MappingProxyType({beta: fostered(beta) for beta in BETAS})
SECOND_ORDER = "ce, layer of stride 8"
"""The step, by its name in the rows `step_time_ratio`, that stands for an earlier layer."""
SIZES = ("cam_elliptic_area", "cam_dispersion", "cam_relative_difference")


def sweep_beta(rows: Rows, sweep: Sweep = SWEEP) -> float:
    """`criteria.choose_beta` by the rows `validation_auroc`, means over folds.

    Raises:
        LookupError: a beta of the sweep has no such row.
    """
    return criteria.choose_beta(
        {b: find(rows, s, "validation_auroc").value for b, s in sweep.items()}
    )


def size(rows: Rows, sweep: Sweep = SWEEP) -> Judgement:
    """C1 by the chosen beta over beta 0; see `judge_size`."""
    beta = sweep_beta(rows, sweep)
    if not beta:
        return Judgement(UNDECIDED, {})
    about = {**sweep[0.0].as_other, "zero": "verdict"}
    return criteria.judge_size(
        *(find(rows, sweep[beta], f"{s}_ratio", "cam", **about) for s in SIZES)
    )


def _time(rows: Rows, fostering: str, over: str) -> float:
    return find(rows, AVERAGED, "step_time_ratio", fostering=fostering, over=over).value


def cost(rows: Rows) -> Judgement:
    """C2 by the live part's clock and gradients; see `judge_cost`."""
    apart = find(rows, AVERAGED, "gradient_gap").value
    return criteria.judge_cost(apart, _time(rows, "ce", "none"), _time(rows, SECOND_ORDER, "none"))


def weak_on_tiles(rows: Rows, sweep: Sweep = SWEEP) -> Judgement:
    """C3 by the tiles' own defects; see `judge_weak`."""
    beta = sweep_beta(rows, sweep)
    if not beta:
        return Judgement(UNDECIDED, {})
    about = sweep[0.0].as_other
    return criteria.judge_weak(find(rows, sweep[beta], "weak_gain_difference", "cam", **about))


def different(rows: Rows, sweep: Sweep = SWEEP) -> Judgement:
    """C4 by the maps of beta 0; see `judge_different`."""
    alike = {}
    for a, b in SHAPE_PAIRS:
        words = " and ".join(name.removeprefix("cam_").replace("_", " ") for name in (a, b))
        about = {"zero": "verdict", "of": a, "with": b}
        alike[words] = find(rows, sweep[0.0], "rank_correlation", "cam", **about)
    if any(math.isnan(value.value) for value in alike.values()):
        raise LookupError("rank_correlation: undefined")
    return criteria.judge_different(alike)


def accuracy(rows: Rows, sweep: Sweep = SWEEP) -> Judgement:
    """C5 by the whole sweep; see `judge_accuracy`."""
    lost = {
        beta: find_difference(rows, system, sweep[0.0], "auroc")
        for beta, system in sweep.items()
        if beta
    }
    return criteria.judge_accuracy(lost, sweep_beta(rows, sweep))


def expensive(rows: Rows) -> Judgement:
    """C6 by the live part's clock; see `judge_expensive`."""
    return criteria.judge_expensive(_time(rows, "ca", "ce"), _time(rows, "cd", "ce"))


def branch_network(rows: Rows, sweep: Sweep = SWEEP) -> Judgement:
    """C7 in the last round of the attention branch network; undecided if it is not level there.

    See `judge_branch` and `branch_rounds`.
    """
    rounds = stored_rounds(rows)
    if not rounds:
        raise LookupError("rounds of the attention branch network")
    last, beta = rounds[-1], sweep_beta(rows, sweep)
    if not is_level(last.difference) or not beta:
        name = "validation AUROC of the branch network minus the plain one's"
        return Judgement(UNDECIDED, {name: last.difference})
    length = (last.number,) if last.epochs is None else (last.number, last.epochs)
    network, sharp = branch(*length), fostered_branch(beta, *length)
    return criteria.judge_branch(
        find_difference(rows, sharp, network, "positive_energy", "cam", zero="verdict"),
        find_difference(rows, sharp, network, "auroc"),
    )
