"""How long an attention branch network is trained: until its verdict is level with the plain one's.

A map of a network that has not learned its task says nothing about the method. The attention branch
network begins with a new classifier in its middle, so the recipe of all may be too short for it. It
is trained for one, two, three times the epochs, afresh each time, because the learning rate falls
over the whole run; the first that is *level* on validation data is the one that is compared.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from gainbook.chapters.ch12_fostering.fostered import BRANCH, branch
from gainbook.lab.parameters import Parameters
from gainbook.lab.protocol import Pooled
from gainbook.lab.reference import System, is_finished, load_fold, run
from gainbook.lab.results_file import reference, row
from gainbook.lab.tables import Value
from gainmtl import metrics
from gainmtl.evaluation.scoring import defect_scores
from gainmtl.evaluation.stats import PairedInterval, paired_interval
from gainmtl.io import load

METRIC = "validation_auroc_difference"


class Settled(NamedTuple):
    """Which round is compared, and why."""

    round: int
    tried: dict[int, Value]
    """By round, AUROC on validation data minus the plain network's; empty where none was run."""
    rows: list[dict[str, Any]]
    """Result rows of these; empty where stored ones were read."""
    epochs: int
    """Of one round."""

    @property
    def level(self) -> bool:
        """Whether the last round tried is; false where none was run."""
        return bool(self.tried) and is_level(self.tried[max(self.tried)])


def is_level(difference: Value | PairedInterval) -> bool:
    """Whether the interval of AUROC minus the plain network's does not lie below 0."""
    return bool(difference.high >= 0)


def validation_difference(
    parameters: Parameters, first: list[Pooled], second: list[Pooled], resamples: int = 2000
) -> PairedInterval:
    """AUROC of first minus second on the validation images of all folds and seeds.

    Each image is judged by the models that did not train on it, of its own fold and seed; groups
    are drawn whole, in whichever folds they validate.
    """
    groups: list[str] = []
    scores: tuple[list[Any], list[Any]] = ([], [])
    labels: list[Any] = []
    for seed, *pair in zip(parameters.seeds, first, second, strict=True):
        data_of = load_fold(parameters, seed)
        for fold, paths in enumerate(zip(*(one.model_paths for one in pair), strict=True)):
            val: Any = data_of(fold).val
            for kept, path in zip(scores, paths, strict=True):
                said, true = defect_scores(load(path), val)
                kept.append(said)
            groups += list(val.groups)
            labels.append(true)
    a, b = (np.concatenate(kept) for kept in scores)
    return paired_interval(
        metrics.auroc, groups, a, b, [np.concatenate(labels)], resamples=resamples
    )


def settle(parameters: Parameters, plain: System, rounds: int, more: bool = False) -> Settled:
    """The first round that is level with `plain`, else the last of `rounds`.

    Rounds are trained with `more`, else only those are asked that are there. With
    `dataset="synthetic"` the chapter's stored rows are read.
    """
    p = parameters
    tried: dict[int, Value] = {}
    rows: list[dict[str, Any]] = []
    if p.dataset == "synthetic":
        try:
            stored = reference(p.notebook)
        except FileNotFoundError:
            return Settled(1, {}, [], p.epochs)
        tried = {one.number: one.difference for one in rounds_of(stored.rows)}
        return Settled(max(tried, default=1), tried, [], int(stored.parameters["epochs"]))
    for number in range(1, rounds + 1):
        system = branch(number, p.epochs)
        if not (more or (is_finished(p, system) and is_finished(p, plain))):
            break
        found = validation_difference(p, run(p, system), run(p, plain))
        tried[number] = Value(found.value, found.low, found.high, found.n)
        rows.append(
            row(
                p.dataset, system.name, METRIC, found.value, split="val",
                condition={**system.condition, **plain.as_other, "round": number},
                **found.ends,
            )
        )  # fmt: skip
        if is_level(found):
            break
    return Settled(max(tried, default=1), tried, rows, p.epochs)


class Round(NamedTuple):
    """A round that was run."""

    number: int
    epochs: int | None
    """Of one round; `None` where the first is all there is, whose length names no system."""
    difference: Value
    """AUROC on validation data minus the plain network's."""


def rounds_of(rows: pd.DataFrame) -> list[Round]:
    """The rounds that result rows tell of, first to last."""
    chosen = rows[(rows["metric"] == METRIC) & (rows["system"] == BRANCH.name)]
    found = []
    for one in chosen.itertuples():
        about = dict(one.condition)
        number = int(about["round"])
        value = Value(one.value, one.ci_low, one.ci_high, int(one.n))
        total = about.get("epochs")
        found.append(Round(number, None if total is None else int(total) // number, value))
    return sorted(found, key=lambda one: one.number)
