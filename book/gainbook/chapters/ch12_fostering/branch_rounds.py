"""The training length of the attention branch network: until it is level with the plain one.

Fostering is tested on a network that has learned its task. The attention branch network starts with
a new classifier in its middle, so the common number of epochs may be too small for it. It is
trained for one, two, three times the epochs, from the start each time, because the learning rate
falls over the whole run. The first round that is *level* on validation data is compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd

from gainbook.chapters.ch12_fostering.systems import BRANCH, branch
from gainbook.lab.folds import VALIDATION, ask_folds
from gainbook.lab.parameters import Parameters
from gainbook.lab.protocol import Pooled
from gainbook.lab.results_file import reference, row
from gainbook.lab.run_system import is_finished, run
from gainbook.lab.study import Run
from gainbook.lab.systems import System
from gainbook.lab.tables import Value, value_of
from gainmtl import metrics
from gainmtl.evaluation.stats import PairedInterval, paired_interval

METRIC = "validation_auroc_difference"


class Rounds(NamedTuple):
    """The rounds that were run, and which one is compared."""

    number: int
    """The round that is compared."""
    differences: dict[int, Value]
    """By round, the validation AUROC minus the plain network's; empty where none was run."""
    rows: list[dict[str, Any]]
    """Result rows of these; empty where stored ones were read."""
    epochs: int
    """Epochs of one round."""

    @property
    def level(self) -> bool:
        """Whether the last round is level; false where none was run."""
        return bool(self.differences) and is_level(self.differences[max(self.differences)])


class Round(NamedTuple):
    """One stored round."""

    number: int
    epochs: int | None
    """Epochs of one round; `None` for the first, whose system does not name them."""
    difference: Value
    """The validation AUROC minus the plain network's."""


def is_level(difference: Value | PairedInterval) -> bool:
    """Whether the interval of a difference does not lie below 0."""
    return bool(difference.high >= 0)


def validation_difference(
    parameters: Parameters,
    first: Sequence[Pooled],
    second: Sequence[Pooled],
    resamples: int = 2000,
) -> PairedInterval:
    """AUROC of first minus second on the validation images of all folds and seeds.

    Each image is scored by the models of its fold and seed, which did not train on it. Groups are
    resampled whole, over all folds in which they are validation images.
    """
    tables = ask_folds(parameters, {"first": first, "second": second}, VALIDATION)
    a, b = (tables[name]["defect_probability"].to_numpy() for name in ("first", "second"))
    labels, groups = (tables["first"][key].to_numpy() for key in ("is_defective", "group"))
    return paired_interval(metrics.auroc, groups, a, b, [labels], resamples=resamples)


def run_rounds(parameters: Parameters, plain: System, rounds: int, more: bool = False) -> Rounds:
    """Train the attention branch network round by round until it is level with `plain`.

    With `dataset="synthetic"` the chapter's stored rows are read.

    Args:
        rounds: most rounds.
        more: whether missing rounds are trained; otherwise only finished ones are read.
    """
    p = parameters
    if p.dataset == "synthetic":
        try:
            stored = reference(p.notebook)
        except FileNotFoundError:
            return Rounds(1, {}, [], p.epochs)
        differences = {one.number: one.difference for one in stored_rounds(stored.rows)}
        epochs = int(stored.parameters["epochs"])
        return Rounds(max(differences, default=1), differences, [], epochs)
    differences, rows = {}, []
    for number in range(1, rounds + 1):
        system = branch(number, p.epochs)
        if not (more or (is_finished(p, system) and is_finished(p, plain))):
            break
        gap = validation_difference(p, run(p, system), run(p, plain))
        differences[number] = Value(gap.value, gap.low, gap.high, gap.n)
        rows.append(_round_row(p, system, plain, number, gap))
        if is_level(gap):
            break
    return Rounds(max(differences, default=1), differences, rows, p.epochs)


def _round_row(
    parameters: Parameters, system: System, plain: System, number: int, gap: PairedInterval
) -> dict[str, Any]:
    return row(
        parameters.dataset, system.name, METRIC, gap.value, split="val",
        condition={**system.condition, **plain.as_other, "round": number}, **gap.ends,
    )  # fmt: skip


def first_round_rows(run: Run, plain: System) -> list[dict[str, Any]]:
    """The row of the first round, from the runs of a study that trains the network once."""
    gap = validation_difference(run.parameters, run.pooled[BRANCH.tag], run.pooled[plain.tag])
    return [_round_row(run.parameters, BRANCH, plain, 1, gap)]


def stored_rounds(rows: pd.DataFrame) -> list[Round]:
    """The rounds in result rows, first to last."""
    chosen = rows[(rows["metric"] == METRIC) & (rows["system"] == BRANCH.name)]
    rounds = []
    for record in chosen.to_dict("records"):
        condition = dict(record["condition"])
        number, total = int(condition["round"]), condition.get("epochs")
        epochs = None if total is None else int(total) // number
        rounds.append(Round(number, epochs, value_of(record)))
    return sorted(rounds, key=lambda one: one.number)
