"""The loop of active learning on a set whose labels are known: train, measure, choose, repeat.

A run leaves one file, rewritten after every round; a stopped run continues from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from gainbook.chapters.ch14_active.features import VIEWS, Array, pooled
from gainbook.chapters.ch14_active.methods import METHODS, Pool, Rows
from gainbook.chapters.ch14_active.tasks import Encoded, Setting
from gainbook.lab.head import Classes, Head, fit_head
from gainmtl import metrics
from gainmtl.files import claimed, output_folder, read_json, user_path, write_json

DUPLICATES = ("none", "weight", "copies")
EXCLUDED_SHARE = 7 / 15
"""Share of the classes that are excluded midway, rounded down: seven of fifteen, as in the
paper."""


@dataclass(frozen=True)
class Plan:
    """What a run does."""

    method: str
    exclude: bool = False
    """After half of the rounds, no image that is predicted as one of the classes with the lowest
    recall on validation is labelled any more. The classes stay in the model and in the test."""
    duplicate: str = "none"
    """"weight": an image labelled in a round counts twice in the loss. "copies": it is joined by
    its mirror image, a fixed copy. The first labelled images are counted once in both."""

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method: expected one of {', '.join(METHODS)}, got {self.method!r}")
        if self.duplicate not in DUPLICATES:
            raise ValueError(
                f"duplicate: expected one of {', '.join(DUPLICATES)}, got {self.duplicate!r}"
            )

    @property
    def tag(self) -> str:
        """The name of its files."""
        more = ["exclude"] * self.exclude + [self.duplicate] * (self.duplicate != "none")
        return "-".join([self.method, *more])

    @property
    def name(self) -> str:
        """The `system` of its result rows."""
        return self.method

    @property
    def label(self) -> str:
        """Its name for readers."""
        return METHODS[self.method].label

    @property
    def as_other(self) -> dict[str, Any]:
        """What rows that subtract it carry."""
        return {"against": self.method}

    @property
    def condition(self) -> dict[str, Any]:
        """What its result rows carry."""
        found: dict[str, Any] = {"exclude": True} if self.exclude else {}
        return found | ({} if self.duplicate == "none" else {"duplicate": self.duplicate})


@dataclass(frozen=True)
class Problem:
    """A set with its features, ready for runs."""

    classes: tuple[str, ...]
    parts: Mapping[str, Encoded]
    """`pool`, `val` and `test`."""
    setting: Setting

    @cached_property
    def standardisation(self) -> tuple[Array, Array]:
        """Mean and standard deviation (D,) of the pool's features; no label is used."""
        x = pooled(self.parts["pool"].levels[VIEWS[0]])
        return x.mean(0), x.std(0) + 1e-6

    @cached_property
    def features(self) -> dict[str, Array]:
        """Standardised features (N, D) by part, and `copies`: those of the mirrored pool."""
        levels = {name: part.levels[VIEWS[0]] for name, part in self.parts.items()}
        if VIEWS[1] in self.parts["pool"].levels:
            levels["copies"] = self.parts["pool"].levels[VIEWS[1]]
        centre, scale = self.standardisation
        return {name: (pooled(x) - centre) / scale for name, x in levels.items()}


def first_rows(labels: Classes, classes: int, each: int, seed: int) -> Rows:
    """`each` random images of every class, or all there are: the same for all methods of a seed."""
    rng = np.random.default_rng([14, seed])
    rows = [rng.permutation(np.flatnonzero(labels == c))[:each] for c in range(classes)]
    return np.concatenate(rows).astype(np.int64)


def figures(head: Head, features: Array, labels: Classes) -> dict[str, Any]:
    """Measures on labelled images: accuracies, confidence and the recall of each class.

    `ece` is that of the predicted class, and `overconfidence` is its mean probability minus the
    accuracy. The recall of a class without an image is NaN.
    """
    p = head.probabilities(features)
    predicted, certain = p.argmax(1), p.max(1)
    right = predicted == labels
    recalls = [
        float(right[labels == c].mean()) if (labels == c).any() else math.nan
        for c in range(p.shape[1])
    ]
    return {
        "accuracy": float(right.mean()),
        "macro_f1": metrics.macro_f1(predicted, labels),
        "macro_recall": float(np.nanmean(recalls)),
        "worst_recall": float(np.nanmin(recalls)),
        "ece": metrics.expected_calibration_error(certain, right),
        "overconfidence": float(certain.mean() - right.mean()),
        "recalls": recalls,
    }


def worst_classes(recalls: list[float]) -> list[int]:
    """The `EXCLUDED_SHARE` of the classes with the lowest recall; undefined ones stay."""
    values = np.array(recalls, dtype=float)
    order = np.argsort(np.where(np.isnan(values), np.inf, values), kind="stable")
    count = min(math.floor(EXCLUDED_SHARE * len(values)), int((~np.isnan(values)).sum()))
    return sorted(order[:count].tolist())


def recalls_without(
    head: Head, features: Array, labels: Classes, excluded: list[int]
) -> list[float]:
    """Recalls if the excluded classes leave both the model and the test; theirs are NaN."""
    kept = ~np.isin(labels, excluded)
    p = head.probabilities(features[kept])
    p[:, excluded] = 0
    right = p.argmax(1) == labels[kept]
    return [
        math.nan if c in excluded else float(right[labels[kept] == c].mean())
        for c in range(p.shape[1])
    ]


def unlabelled(problem: Problem, *labelled: Rows) -> Rows:
    """The rows of the pool that have no label yet."""
    return np.setdiff1d(np.arange(len(problem.parts["pool"].labels)), np.concatenate(labelled))


def train(problem: Problem, plan: Plan, first: Rows, new: Rows) -> Head:
    """The head trained on the labelled rows of the pool, from the same first weights each round."""
    labels, x = problem.parts["pool"].labels, problem.features
    rows = np.concatenate([first, new])
    weights = None
    used, classes = x["pool"][rows], labels[rows]
    if plan.duplicate == "weight":
        weights = np.concatenate([np.ones(len(first)), np.full(len(new), 2.0)])
    if plan.duplicate == "copies":
        used = np.concatenate([used, x["copies"][new]])
        classes = np.concatenate([classes, labels[new]])
    return fit_head(used, classes, len(problem.classes), weights=weights)


def candidates(
    problem: Problem, head: Head, labelled: Rows, free: Rows, rng: np.random.Generator
) -> Pool:
    """The rows `free` of the pool, as a method gets them."""
    pool, x = problem.parts["pool"], problem.features["pool"]
    return Pool(
        head, x[free], lambda view: pool.levels[view].take(free), *problem.standardisation,
        None if pool.masks is None else pool.masks[free], (x[labelled], pool.labels[labelled]), rng,
    )  # fmt: skip


def choose(
    problem: Problem, plan: Plan, head: Head, labelled: Rows, excluded: list[int], seed: int
) -> Rows:
    """The rows of the pool that are labelled next."""
    free = unlabelled(problem, labelled)
    budget = min(problem.setting.batch, len(free))
    if excluded:
        predicted = head.probabilities(problem.features["pool"][free]).argmax(1)
        kept = free[~np.isin(predicted, excluded)]
        if len(kept) >= budget:
            free = kept
    rng = np.random.default_rng([seed, len(labelled)])
    seen = candidates(problem, head, labelled, free, rng)
    return free[METHODS[plan.method].choose(seen, budget)]


def _learn_head(problem: Problem) -> Learner:
    return lambda plan, first, new: (problem, train(problem, plan, first, new))


Learner = Callable[[Plan, Rows, Rows], tuple[Problem, Head]]
"""From a plan, the first labelled rows and the new ones to features and a head trained on them."""


def run(
    problem: Problem, plan: Plan, seed: int, path: str | Path, learn: Learner | None = None
) -> list[dict[str, Any]]:
    """The rounds of a run: `labels` (number of labelled images), `rows` chosen, and `figures`.

    Round 0 has the first labelled images. Every label is counted once, also where its image is
    duplicated. Beside the figures on the test part there is `macro_f1_in_pool`, on the images of
    the pool that have no label, which may show labelled parts. Rounds that are in `path` already
    are not run again. `learn` trains in each round; `None` trains the head alone, on the features
    of `problem`.

    Raises:
        ValueError: the file is of another run.
        RuntimeError: another run is writing to the file's folder.
    """
    path = user_path(path)
    with claimed(output_folder(path.parent)):
        return _run(problem, plan, seed, path, learn or _learn_head(problem))


def _run(
    problem: Problem, plan: Plan, seed: int, path: Path, learn: Learner
) -> list[dict[str, Any]]:
    about = {"plan": plan.tag, "seed": seed, "classes": list(problem.classes),
             "setting": vars(problem.setting)}  # fmt: skip
    rounds: list[dict[str, Any]] = []
    if path.is_file():
        stored = read_json(path)
        if stored["about"] != about:
            raise ValueError(
                f"{path.name}: expected a run with {about}, found {stored['about']}; use another "
                "folder, or remove this one"
            )
        rounds = stored["rounds"]
    pool = problem.parts["pool"]
    first = first_rows(pool.labels, len(problem.classes), problem.setting.first, seed)
    # Features and head of the round before; a continued run trains them again.
    trained: tuple[Problem, Head] | None = None
    while len(rounds) <= problem.setting.rounds:
        number = len(rounds)
        new = np.array([i for one in rounds[1:] for i in one["rows"]], dtype=np.int64)
        chosen, excluded = first, []
        if number:
            excluded = rounds[-1]["excluded"]
            labelled = np.concatenate([first, new])
            if len(labelled) == len(pool.labels):
                break
            seen, head = trained or learn(plan, first, new)
            chosen = choose(seen, plan, head, labelled, excluded, seed)
            new = np.concatenate([new, chosen])
        trained = learn(plan, first, new)
        x, head = trained[0].features, trained[1]
        if plan.exclude and number == problem.setting.rounds // 2:
            validation = figures(head, x["val"], problem.parts["val"].labels)
            excluded = worst_classes(validation["recalls"])
        test, rest = problem.parts["test"].labels, unlabelled(problem, first, new)
        measured = figures(head, x["test"], test)
        measured["macro_f1_in_pool"] = math.nan
        if len(rest):
            measured["macro_f1_in_pool"] = figures(head, x["pool"][rest], pool.labels[rest])[
                "macro_f1"
            ]
        if excluded:
            measured["recalls_without"] = recalls_without(head, x["test"], test, excluded)
        rounds.append(
            {
                "labels": len(first) + len(new),
                "rows": chosen.tolist(),
                "excluded": excluded,
                "figures": measured,
            }
        )
        write_json(path, {"about": about, "rounds": rounds})
    return rounds
