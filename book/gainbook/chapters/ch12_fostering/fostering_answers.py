"""How chapter 12 answers claims: which of its figures go into which criterion.

As in `claim_answers`, each function takes the rows of the results file and raises LookupError where
they lack a figure. The chapter and the results page ask the same functions. `sweep` is the systems
by their beta. Where validation data chose no beta but 0, what the claims C1, C3 and C7 speak of is
not there, and they are out of reach; C5 is about the whole sweep.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

import pandas as pd

from gainbook.chapters.ch12_fostering import fostering_claims as criteria
from gainbook.chapters.ch12_fostering.branch_rounds import is_level, rounds_of
from gainbook.chapters.ch12_fostering.fostered import BETAS, branch, fostered, fostered_branch
from gainbook.chapters.ch12_fostering.sharpness_scores import SHAPE_PAIRS
from gainbook.lab.components import AVERAGED
from gainbook.lab.judge import Judgement
from gainbook.lab.reference import System
from gainbook.lab.tables import find

Rows: TypeAlias = pd.DataFrame
Sweep: TypeAlias = Mapping[float, System]
SWEEP: Sweep = MappingProxyType({beta: fostered(beta) for beta in BETAS})
OUT_OF_REACH = "out of reach here"
SECOND_ORDER = "ce, layer of stride 8"
"""The step, by the name in the rows `step_time_ratio`, that stands for an earlier layer."""
SIZES = ("cam_elliptic_area", "cam_dispersion", "cam_relative_difference")


def _chosen(rows: Rows, sweep: Sweep) -> tuple[System, System] | None:
    """The system of the chosen beta and that of beta 0; `None` if they are one."""
    beta = criteria.choose_beta(rows, sweep)
    return (sweep[beta], sweep[0.0]) if beta else None


def size(rows: Rows, sweep: Sweep = SWEEP) -> Judgement:
    """C1 by the chosen beta over beta 0."""
    pair = _chosen(rows, sweep)
    if pair is None:
        return Judgement(OUT_OF_REACH, {})
    best, base = pair
    about = {**base.as_other, "zero": "verdict"}
    return criteria.judge_size(
        *(find(rows, best, f"{shape}_ratio", "cam", **about) for shape in SIZES)
    )


def _time(rows: Rows, fostering: str, over: str) -> float:
    return find(rows, AVERAGED, "step_time_ratio", fostering=fostering, over=over).value


def cost(rows: Rows, sweep: Sweep = SWEEP) -> Judgement:
    """C2 by the clock of the live part, and by how far the gradients of its two routes differ."""
    apart = find(rows, AVERAGED, "gradient_gap").value
    return criteria.judge_cost(apart, _time(rows, "ce", "none"), _time(rows, SECOND_ORDER, "none"))


def weak_on_tiles(rows: Rows, sweep: Sweep = SWEEP) -> Judgement:
    """C3 by the parts' own defects, split at the median of how much they stand out."""
    pair = _chosen(rows, sweep)
    if pair is None:
        return Judgement(OUT_OF_REACH, {})
    best, base = pair
    gain = find(rows, best, "weak_gain_difference", "cam", **base.as_other)
    return criteria.judge_weak(gain)


def different(rows: Rows, sweep: Sweep = SWEEP) -> Judgement:
    """C4 by the maps of beta 0."""
    alike = {}
    for a, b in SHAPE_PAIRS:
        words = " and ".join(name.removeprefix("cam_").replace("_", " ") for name in (a, b))
        about = {"zero": "verdict", "of": a, "with": b}
        alike[words] = find(rows, sweep[0.0], "rank_correlation", "cam", **about)
    if any(math.isnan(value.value) for value in alike.values()):
        raise LookupError("rank_correlation: undefined")
    return criteria.judge_different(alike)


def accuracy(rows: Rows, sweep: Sweep = SWEEP) -> Judgement:
    """C5 by the whole sweep."""
    lost = {
        beta: find(rows, system, "auroc_difference", **sweep[0.0].as_other)
        for beta, system in sweep.items()
        if beta
    }
    return criteria.judge_accuracy(lost, criteria.choose_beta(rows, sweep))


def expensive(rows: Rows, sweep: Sweep = SWEEP) -> Judgement:
    """C6 by the clock of the live part."""
    return criteria.judge_expensive(_time(rows, "ca", "ce"), _time(rows, "cd", "ce"))


def branch_network(rows: Rows, sweep: Sweep = SWEEP) -> Judgement:
    """C7 in the last round that the branch network was trained for, if it is level there."""
    rounds = rounds_of(rows)
    if not rounds:
        raise LookupError("rounds of the attention branch network")
    last = rounds[-1]
    if not is_level(last.difference):
        return Judgement(OUT_OF_REACH, {})
    beta = criteria.choose_beta(rows, sweep)
    if not beta:
        return Judgement(OUT_OF_REACH, {})
    rounds_run = (last.number,) if last.epochs is None else (last.number, last.epochs)
    network, sharp = branch(*rounds_run), fostered_branch(beta, *rounds_run)
    about = network.as_other
    return criteria.judge_branch(
        find(rows, sharp, "positive_energy_difference", "cam", zero="verdict", **about),
        find(rows, sharp, "auroc_difference", **about),
    )


ANSWERS: Mapping[str, Callable[..., Judgement]] = MappingProxyType(
    {
        "C1": size,
        "C2": cost,
        "C3": weak_on_tiles,
        "C4": different,
        "C5": accuracy,
        "C6": expensive,
        "C7": branch_network,
    }
)
