"""The weak-feature study: weights of fostering, shares of parts that need the weak feature, seeds.

One run is a small classifier on `datasets.two_features`. `tools/weak_feature_study.py` runs the
grid; chapter 12 reads what it wrote. Its criterion,
`fostering_claims.judge_weak_feature`, was written before the study was run.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import pandas as pd
import torch

from gainbook.chapters.ch12_fostering.fostered import fostered
from gainbook.chapters.ch12_fostering.fostering_claims import AUROC_MARGIN
from gainbook.chapters.ch12_fostering.weak_feature import ask, measure
from gainbook.lab import study_runs
from gainbook.lab.reference import WEIGHTS, System, build, find_weights
from gainbook.lab.results_file import git_commit, row
from gainbook.lab.tables import Value, find
from gainmtl.datasets.two_features import two_features
from gainmtl.evaluation.stats import student_interval
from gainmtl.model import GAINMTL

NAME = "12_weak_feature"
"""Of the file under `book/results`."""
BETAS = (0.0, 0.3, 1.0, 3.0)
ALONE = (0.0, 0.3)
"""Shares of defective parts with the weak feature only. At 0 both features say the same, and the
weak one is never needed; at 0.3 nothing else tells these parts from normal ones."""
SEEDS = (0, 1, 2, 3, 4)
JUDGED = ALONE[0]
SETTINGS: dict[str, Any] = {
    "backbone": "test_efficientnet",
    "weights": WEIGHTS,
    "output_stride": 4,
    "image_size": 64,
    "train": 240,
    "val": 80,
    "test": 160,
    "epochs": 10,
    "batch_size": 16,
    "learning_rate": 4e-3,
    "average_decay": 0.95,
}
"""What all runs share."""
COMMAND = "python tools/weak_feature_study.py --output-dir runs/features --workers 2"
REPEAT = f"```bash\n{COMMAND}\n```"
"""How the stored results are made, in Markdown."""


class Run(NamedTuple):
    """One cell of the grid."""

    beta: float
    alone: float
    seed: int

    @property
    def file(self) -> str:
        """Its file under the output folder."""
        return f"alone{self.alone:g}/beta{self.beta:g}/seed{self.seed}.json"


def grid(
    betas: Iterable[float] = BETAS, alone: Iterable[float] = ALONE, seeds: Iterable[int] = SEEDS
) -> list[Run]:
    """All runs, seed by seed, so that an interrupted study is whole for the seeds it has."""
    return [Run(b, a, seed) for seed, a, b in itertools.product(seeds, alone, betas)]


def run_cell(settings: Mapping[str, Any], run: Run) -> dict[str, Any]:
    """Train and ask one run: the content of its file.

    Equal seeds share parts, first weights and the order of images, whatever the beta.
    """
    # Of the code that is loaded; the checkout may move on while a long study goes.
    started, commit = time.process_time(), git_commit()
    sizes = {key: settings[key] for key in ("image_size", "train", "val", "test")}
    data = two_features(seed=run.seed, weak_alone=run.alone, **sizes)
    torch.manual_seed(run.seed)
    system = fostered(run.beta)._replace(output_stride=settings["output_stride"])
    model = cast(GAINMTL, build(system, settings["backbone"], find_weights(settings["weights"])))
    history = study_runs.train(model, data, run.seed, settings)
    figures = measure(ask(model, data.test), model.threshold)  # type: ignore[arg-type]
    return {
        "beta": run.beta, "alone": run.alone, "seed": run.seed, "settings": dict(settings),
        "figures": figures, "validation_auroc": float(history["auroc"].iloc[-1]),
        "data": data.fingerprint, "commit": commit,
        "seconds": round(time.process_time() - started, 2),
    }  # fmt: skip


def study_rows(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Result rows: by seed, means over seeds, differences to beta 0 seed by seed.

    Intervals are Student's over seeds. `weak_over_strong_difference` is the change of the positive
    energy on the weak feature minus that on the strong one, of pictures that show both.
    """
    found: dict[tuple[float, float, str, str | None, str], dict[int, float]] = {}
    conditions: dict[str, dict[str, str]] = {}
    rows: list[dict[str, Any]] = []

    def add(
        beta: float,
        alone: float,
        metric: str,
        map: str | None,
        value: float,
        about: dict[str, Any],
        **more: Any,
    ) -> None:
        system = fostered(beta)
        condition = {**system.condition, "weak_alone": alone, **about}
        rows.append(
            row("synthetic", system.name, metric, value, condition=condition, map=map, **more)
        )

    for record in records:
        figures = [
            *record["figures"],
            {"metric": "validation_auroc", "condition": {}, "map": None,
             "value": record["validation_auroc"], "n": record["settings"]["val"]},
        ]  # fmt: skip
        for figure in figures:
            value = math.nan if figure["value"] is None else float(figure["value"])
            about, metric, map = figure["condition"], figure["metric"], figure["map"]
            key = (record["beta"], record["alone"], metric, map, str(about))
            conditions[str(about)] = about
            found.setdefault(key, {})[record["seed"]] = value
            add(*key[:4], value, about, seed=record["seed"], fold=0, n=figure["n"])
    for (beta, alone, metric, map, text), by_seed in found.items():
        mean = student_interval(list(by_seed.values()))
        add(beta, alone, metric, map, mean.value, conditions[text], **mean.ends)
        other = found.get((0.0, alone, metric, map, text))
        if beta and other:
            _add_difference(add, beta, alone, metric, map, by_seed, other, conditions[text])
    both = {"shown": "both"}
    for beta, alone in dict.fromkeys((key[0], key[1]) for key in found):
        gains: list[dict[int, float]] = []
        for on in ("weak", "strong"):
            about = str({"on": on, "shown": "both"})
            pair = [found.get((b, alone, "positive_energy", "cam", about), {}) for b in (beta, 0.0)]
            gains.append({k: pair[0][k] - pair[1][k] for k in pair[0] if k in pair[1]})
        if beta and gains[0]:
            _add_difference(add, beta, alone, "weak_over_strong", "cam", gains[0], gains[1], both)
    return rows


def _add_difference(
    add: Any,
    beta: float,
    alone: float,
    metric: str,
    map: str | None,
    a: dict[int, float],
    b: dict[int, float],
    about: dict[str, Any],
) -> None:
    gap = student_interval([a[seed] - b[seed] for seed in sorted(set(a) & set(b))])
    against = fostered(0.0).as_other
    add(beta, alone, f"{metric}_difference", map, gap.value, {**about, **against}, **gap.ends)


def study_value(
    rows: pd.DataFrame, metric: str, beta: float, alone: float, map: str | None = None, **about: Any
) -> Value:
    """The figure over seeds; of a metric that ends in `_difference`, against beta 0."""
    system: System = fostered(beta)
    against = fostered(0.0).as_other if metric.endswith("_difference") else {}
    return find(rows, system, metric, map, weak_alone=alone, **about, **against)


def chosen_beta(rows: pd.DataFrame, alone: float) -> float:
    """The largest beta of the study whose mean validation AUROC is at most `AUROC_MARGIN` below
    that of beta 0; test data has no say. 0 if no other will do."""
    found = {}
    for beta in BETAS:
        try:
            found[beta] = study_value(rows, "validation_auroc", beta, alone).value
        except LookupError:
            continue
    return max(beta for beta, value in found.items() if value >= found[0.0] - AUROC_MARGIN)


def stored_study() -> tuple[pd.DataFrame | None, str]:
    """The rows that come with the book and where they are from, or how to make them."""
    found = study_runs.stored_study(NAME, "the weak-feature study", REPEAT)
    return found.rows, found.note
