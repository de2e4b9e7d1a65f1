"""Result rows from the files of runs: curves, areas, labels saved, wins, duplication, exclusion.

Intervals are Student's over the seeds, which draw the first labelled images and the random choices;
pool and test are the same for all seeds.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.integrate import trapezoid
from scipy.optimize import isotonic_regression

from gainbook.chapters.ch14_active.loop import Plan
from gainbook.chapters.ch14_active.methods import METHODS
from gainbook.lab.results_file import row
from gainbook.lab.tables import pooled_row
from gainmtl.evaluation.stats import student_interval
from gainmtl.files import read_json

Array = NDArray[np.float64]
Runs = Mapping[str, Mapping[int, list[dict[str, Any]]]]
"""Rounds by plan's tag and seed."""

CURVES = ("accuracy", "macro_f1", "macro_recall", "worst_recall", "ece", "overconfidence",
          "macro_f1_in_pool")  # fmt: skip
REFERENCE = "class_balanced"
VARIANTS = (Plan("activation", exclude=True), Plan("activation", duplicate="weight"),
            Plan("activation", duplicate="copies"))  # fmt: skip
PLANS = (*(Plan(method) for method in METHODS), *VARIANTS)
"""What the study runs: every method, and the activation score with the paper's other steps."""
TARGET_ROUND = 2 / 3
"""`label_saving` compares at the reference's quality after this share of its rounds."""


def area(labels: ArrayLike, values: ArrayLike) -> float:
    """Area under a curve over the labels by trapezoids, divided by their range: a mean value."""
    x, y = (np.asarray(v, dtype=np.float64) for v in (labels, values))
    return float(trapezoid(y, x) / (x[-1] - x[0]))


def labels_needed(labels: Array, rising: Array, target: float) -> float:
    """Where a non-decreasing curve first reaches `target`, between points by a line; the last
    number of labels where it never does."""
    reached = np.flatnonzero(rising >= target - 1e-12)
    if not len(reached):
        return float(labels[-1])
    place = int(reached[0])
    if place == 0:
        return float(labels[0])
    low, high = rising[place - 1], rising[place]
    share = (target - low) / (high - low)
    return float(labels[place - 1] + share * (labels[place] - labels[place - 1]))


def label_saving(labels: ArrayLike, values: ArrayLike, reference: ArrayLike) -> float:
    """`1 - n / n_reference` at equal quality: positive if fewer labels are needed.

    Both curves are replaced by their best non-decreasing fit (isotonic regression), since quality
    jumps from round to round. The quality is that of the reference after `TARGET_ROUND` of its
    rounds, so that a method may also need more labels. One that never reaches it counts as needing
    all labels, which is too few.
    """
    x = np.asarray(labels, dtype=np.float64)
    own, other = (
        np.asarray(isotonic_regression(np.asarray(v, dtype=np.float64)).x)
        for v in (values, reference)
    )
    target = other[round(TARGET_ROUND * (len(x) - 1))]
    return 1 - labels_needed(x, own, target) / labels_needed(x, other, target)


def read_runs(folder: Path, plans: Sequence[Plan], seeds: Sequence[int]) -> Runs:
    """The rounds of all runs.

    Raises:
        FileNotFoundError: a run has no file yet; names it.
    """
    return {
        plan.tag: {seed: read_json(folder / f"{plan.tag}-{seed}.json")["rounds"] for seed in seeds}
        for plan in plans
    }


def curve(rounds: Sequence[Mapping[str, Any]], metric: str) -> Array:
    """A metric by round; NaN where it is undefined."""
    values = [one["figures"][metric] for one in rounds]
    return np.array([math.nan if v is None else v for v in values], dtype=np.float64)


class Summary:
    """The rows of a set's runs; those of `plans` must be among them."""

    def __init__(self, dataset: str, runs: Runs, plans: Sequence[Plan] = PLANS) -> None:
        self.dataset, self.runs, self.plans = dataset, runs, plans
        self.seeds = sorted(next(iter(runs.values())))
        first = next(iter(runs.values()))[self.seeds[0]]
        self.labels = np.array([one["labels"] for one in first])

    def row(self, plan: Plan, metric: str, values: ArrayLike, **condition: Any) -> dict[str, Any]:
        """The mean over the seeds and its interval."""
        return pooled_row(self.dataset, plan, metric, student_interval(values), **condition)

    def curves(self, plan: Plan, metric: str) -> Array:
        """(seeds, rounds)."""
        return np.stack([curve(self.runs[plan.tag][seed], metric) for seed in self.seeds])

    def areas(self, plan: Plan) -> Array:
        """(seeds,) areas under the macro F1."""
        return np.array([area(self.labels, y) for y in self.curves(plan, "macro_f1")])

    def recalls(self, plan: Plan, key: str = "recalls") -> Array:
        """(seeds, K) recalls after the last round."""
        last = [self.runs[plan.tag][seed][-1]["figures"][key] for seed in self.seeds]
        return np.array([[math.nan if v is None else v for v in one] for one in last])

    def curve_rows(self) -> list[dict[str, Any]]:
        """Every metric of every plan after every round."""
        return [
            self.row(plan, metric, values, labels=int(n))
            for plan in self.plans
            for metric in CURVES
            for n, values in zip(self.labels, self.curves(plan, metric).T, strict=True)
        ]

    def comparison_rows(self) -> list[dict[str, Any]]:
        """Areas; their differences and the wins of each pair; labels saved against `REFERENCE`."""
        plans = [plan for plan in self.plans if plan not in VARIANTS]
        areas = {plan: self.areas(plan) for plan in plans}
        last = int(self.labels[-1])
        rows = [self.row(plan, "area", self.areas(plan)) for plan in self.plans]
        for a, b in itertools.permutations(plans, 2):
            gap = areas[a] - areas[b]
            wins = float((gap > 0).mean() + (gap == 0).mean() / 2)
            rows.append(self.row(a, "area_difference", gap, against=b.method))
            rows.append(
                row(self.dataset, a.method, "wins", wins, condition={"against": b.method},
                    n=len(gap))
            )  # fmt: skip
        for plan, against in itertools.product(plans, (REFERENCE, "entropy")):
            if plan.method != against:
                end = self.curves(plan, "macro_f1")[:, -1]
                other = self.curves(Plan(against), "macro_f1")[:, -1]
                rows.append(
                    self.row(plan, "macro_f1_difference", end - other, against=against, labels=last)
                )
        reference = self.curves(Plan(REFERENCE), "macro_f1")
        for plan in plans:
            if plan.method != REFERENCE:
                pairs = zip(self.curves(plan, "macro_f1"), reference, strict=True)
                saved = [label_saving(self.labels, own, other) for own, other in pairs]
                rows.append(self.row(plan, "label_saving", saved, against=REFERENCE))
        return rows

    def duplication_rows(self) -> list[dict[str, Any]]:
        """What duplicating newly labelled images changes after the last round."""
        plain, rows = Plan("activation"), []
        for plan in (p for p in VARIANTS if p.duplicate != "none"):
            for metric in ("overconfidence", "ece", "macro_f1"):
                gap = self.curves(plan, metric)[:, -1] - self.curves(plain, metric)[:, -1]
                rows.append(self.row(plan, f"{metric}_difference", gap, against="activation"))
        return rows

    def exclusion_rows(self) -> list[dict[str, Any]]:
        """What excluding classes changes after the last round, and what it does to the headline.

        - `retained_recall_difference`, `excluded_recall_difference`, `macro_recall_difference`: the
          run with exclusion minus the run without, over the same classes.
        - `mean_recall` of the run with exclusion over `classes`: "all"; "retained", with every
          image in the test; "retained only", where the excluded classes also leave model and test.
          The first two of the run without exclusion too: only the mean is over fewer classes.
        - `perfect_classes`: how many have a recall of 1.
        """
        plan, plain = next(p for p in VARIANTS if p.exclude), Plan("activation")
        excluded = [self.runs[plan.tag][seed][-1]["excluded"] for seed in self.seeds]
        own, other = self.recalls(plan), self.recalls(plain)
        is_out = np.array([[c in one for c in range(own.shape[1])] for one in excluded])
        rows = []
        for name, part in (("retained", ~is_out), ("excluded", is_out)):
            gap = _mean(own, part) - _mean(other, part)
            rows.append(self.row(plan, f"{name}_recall_difference", gap, against="activation"))
        everywhere = np.ones_like(is_out)
        gap = _mean(own, everywhere) - _mean(other, everywhere)
        rows.append(self.row(plan, "macro_recall_difference", gap, against="activation"))
        alone = self.recalls(plan, "recalls_without")
        for one, recalls, part, classes in (
            (plan, own, everywhere, "all"), (plan, own, ~is_out, "retained"),
            (plan, alone, ~is_out, "retained only"), (plain, other, everywhere, "all"),
            (plain, other, ~is_out, "retained"),
        ):  # fmt: skip
            rows.append(self.row(one, "mean_recall", _mean(recalls, part), classes=classes))
            perfect = ((recalls == 1) & part).sum(1)
            rows.append(self.row(one, "perfect_classes", perfect, classes=classes))
        return rows

    def rows(self) -> list[dict[str, Any]]:
        """Every row; of the paper's other steps where they ran."""
        rows = [*self.curve_rows(), *self.comparison_rows()]
        if set(VARIANTS) <= set(self.plans):
            rows += [*self.duplication_rows(), *self.exclusion_rows()]
        return rows


def _mean(recalls: Array, part: NDArray[np.bool_]) -> Array:
    """(seeds,) mean over some classes, undefined ones left out."""
    return np.asarray(np.nanmean(np.where(part, recalls, math.nan), axis=1))
