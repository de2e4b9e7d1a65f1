"""The focal study: the exponent of the focal loss against the rarity of defects, on built-in parts.

One run is a small classifier trained with one gamma, where one share of the training parts is
defective, from one seed. `tools/focal_study.py` runs the grid; chapter 7 reads what it wrote.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from gainbook.chapters.ch07_localization.focal import focal_factor, shift_prior
from gainbook.lab import study_runs
from gainbook.lab.reference import WEIGHTS, find_weights
from gainbook.lab.results_file import git_commit, row
from gainbook.lab.tables import Value
from gainmtl import metrics
from gainmtl.datasets import load
from gainmtl.evaluation.scoring import defect_scores
from gainmtl.evaluation.stats import student_interval
from gainmtl.losses import LossWeights
from gainmtl.model import GAINMTL
from gainmtl.strategies import Strategy

GAMMAS = (0.0, 0.5, 1.0, 2.0, 5.0)
RATES = (0.5, 0.1, 0.02)
"""Shares of defective training parts; the test is half and half for all."""
SEEDS = (0, 1, 2, 3, 4)
TEST_RATE = 0.5
EASY = 0.9
"""A sample is easy where the true class has more than this."""
NAME = "07_focal_study"
"""Of the file under `book/results`."""
PLAIN = 0.0
"""The gamma that the others are compared with: cross-entropy."""
SETTINGS: dict[str, Any] = {
    "backbone": "test_efficientnet",
    "weights": WEIGHTS,
    "output_stride": 4,
    "width": 16,
    "image_size": 64,
    "train": 500,
    "val": 40,
    "test": 300,
    "epochs": 8,
    "batch_size": 16,
    "learning_rate": 3e-3,
    "average_decay": 0.95,
    "augmentation": "light",
}
"""What all runs share, number of training parts and of steps included."""


class Run(NamedTuple):
    """One cell of the grid."""

    gamma: float
    rate: float
    seed: int

    @property
    def file(self) -> str:
        """Its file under the output folder."""
        return f"rate{self.rate:g}/gamma{self.gamma:g}/seed{self.seed}.json"


def grid(
    gammas: Iterable[float] = GAMMAS,
    rates: Iterable[float] = RATES,
    seeds: Iterable[int] = SEEDS,
) -> list[Run]:
    """All runs, seed by seed, so that an interrupted study is whole for the seeds it has."""
    return [Run(gamma, rate, seed) for seed, rate, gamma in itertools.product(seeds, rates, gammas)]


def run_cell(settings: Mapping[str, Any], run: Run) -> dict[str, Any]:
    """Train and test one run: the content of its file.

    Equal seeds share parts, first weights and the order of images, whatever the gamma.
    """
    sizes = {key: settings[key] for key in ("image_size", "train", "val", "test")}
    data = load(
        "synthetic", seed=run.seed, defect_rate=TEST_RATE, train_defect_rate=run.rate, **sizes
    )
    torch.manual_seed(run.seed)
    model = GAINMTL(
        settings["backbone"],
        Strategy("focal", LossWeights(classification=1.0), focal_gamma=run.gamma),
        find_weights(settings["weights"]),
        output_stride=settings["output_stride"],
        width=settings["width"],
    )
    history = study_runs.train(model, data, run.seed, settings)
    record: dict[str, Any] = {
        "gamma": run.gamma, "rate": run.rate, "seed": run.seed, "settings": dict(settings),
        "defects": data.counts["train"]["defective"],
        "seconds": round(float(history["seconds"].sum()), 2),
        "data": data.fingerprint, "commit": git_commit(),
    }  # fmt: skip
    for part, dataset in (("train", data.train), ("test", data.test)):
        scores, labels = defect_scores(model, dataset)
        record[part] = {"scores": np.round(scores, 6), "labels": labels}
    return record


def execute(run: Run, output_dir: str | Path, **settings: Any) -> dict[str, Any]:
    """`run_cell`, written under the folder; a file of the same settings is read instead.

    Args:
        settings: changes of `SETTINGS`.

    Raises:
        ValueError: the folder holds this run with other settings.
    """
    return study_runs.read_or_run(output_dir, {**SETTINGS, **settings}, run, run_cell)


def measure(record: dict[str, Any]) -> dict[str, float]:
    """The figures of one record.

    `auroc`, `average_precision`, `recall_at_fpr05` and `ece` on the test parts, half of which are
    defective; `ece_shifted` after `shift_prior` from the training share to the test's; of the
    training parts `easy_share`, how many have more than `EASY` for their true class,
    `easy_loss_share`, what part of the run's own loss they make up, and `easy_reduction`, by which
    factor the run's gamma cuts their cross-entropy. NaN where there is no easy part.
    """
    scores, labels = (np.asarray(record["test"][key]) for key in ("scores", "labels"))
    share = record["defects"] / len(record["train"]["labels"])
    shifted = shift_prior(scores, share, TEST_RATE)
    learned = np.asarray(record["train"]["scores"], dtype=np.float64)
    p = np.where(np.asarray(record["train"]["labels"], dtype=bool), learned, 1 - learned)
    entropy = -np.log(p.clip(1e-6))
    loss = focal_factor(p, record["gamma"]) * entropy
    easy = p > EASY
    with np.errstate(divide="ignore", invalid="ignore"):
        reduction = np.divide(entropy[easy].sum(), loss[easy].sum())
    return {
        "auroc": metrics.auroc(scores, labels),
        "average_precision": metrics.average_precision(scores, labels),
        "recall_at_fpr05": metrics.recall_at_fpr(scores, labels, 0.05),
        "ece": metrics.expected_calibration_error(scores, labels),
        "ece_shifted": metrics.expected_calibration_error(shifted, labels),
        "easy_share": float(easy.mean()),
        "easy_loss_share": float(loss[easy].sum() / loss.sum()) if loss.sum() else float("nan"),
        "easy_reduction": float(reduction) if easy.any() else float("nan"),
    }


def study_rows(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Result rows: by seed, means over seeds, and differences from cross-entropy, seed by seed.

    Intervals are Student's over seeds, see `stats.student_interval`: they hold the parts drawn, the
    first weights and the order at once. Figures that are NaN for a seed are left out of its mean.
    """
    table = pd.DataFrame(
        {"gamma": r["gamma"], "rate": r["rate"], "seed": r["seed"], **measure(r)} for r in records
    )
    names = [name for name in table.columns if name not in ("gamma", "rate", "seed")]
    rows: list[dict[str, Any]] = []
    for record in table.to_dict("records"):
        condition = {"gamma": record["gamma"], "train_defect_rate": record["rate"]}
        for name in names:
            rows.append(
                row("synthetic", "focal", name, record[name], condition=condition,
                    seed=int(record["seed"]), fold=0)
            )  # fmt: skip

    def pooled(metric: str, values: pd.Series[float], condition: dict[str, Any]) -> None:
        kept = values.dropna()
        if len(kept):
            found = student_interval(kept.to_numpy())
            rows.append(
                row("synthetic", "focal", metric, found.value, condition=condition,
                    ci_low=found.low, ci_high=found.high, n=len(kept))
            )  # fmt: skip

    for rate, of_rate in table.groupby("rate"):
        wide = of_rate.pivot(index="seed", columns="gamma", values=names)
        for gamma in sorted(of_rate["gamma"].unique()):
            condition = {"gamma": gamma, "train_defect_rate": rate}
            for name in names:
                pooled(name, wide[name, gamma], condition)
                if gamma != PLAIN and (name, PLAIN) in wide:
                    difference = wide[name, gamma] - wide[name, PLAIN]
                    pooled(f"{name}_difference", difference, {**condition, "against_gamma": PLAIN})
    return rows


COMMAND = "python tools/focal_study.py --output-dir runs/focal --workers 2"
REPEAT = f"```bash\n{COMMAND}\n```"
"""How the stored results are made, in Markdown."""


def stored_study() -> tuple[pd.DataFrame | None, str]:
    """The rows that come with the book and where they are from, or how to make them."""
    found = study_runs.stored_study(NAME, "the focal study", REPEAT)
    return found.rows, found.note


def study_value(rows: pd.DataFrame, metric: str, gamma: float, rate: float) -> Value:
    """The figure over seeds; of a metric that ends in `_difference`, against cross-entropy.

    Raises LookupError where there is no such row.
    """
    wanted = {"gamma": gamma, "train_defect_rate": rate}
    if metric.endswith("_difference"):
        wanted["against_gamma"] = PLAIN
    chosen = rows[
        (rows["metric"] == metric)
        & rows["seed"].isna()
        & rows["condition"].map(lambda given: dict(given) == wanted)
    ]
    if len(chosen) != 1:
        raise LookupError(f"expected one row of {metric}, {wanted}, found {len(chosen)}")
    one = chosen.iloc[0]
    value, low, high = (
        math.nan if pd.isna(one[k]) else float(one[k]) for k in ("value", "ci_low", "ci_high")
    )
    return Value(value, low, high, int(one["n"]))


def judge_focal(auroc: Value, gamma: float = 2.0) -> str:
    """Does gamma 2 cut easy samples a hundredfold and help with rare defects? Fixed beforehand.

    The first half is arithmetic: the factor on the loss is at most 1/100 for every p >= 0.9.
    `auroc` is gamma 2 minus cross-entropy at the rarest rate of `RATES`, over seeds. *Confirmed* if
    the factor holds and the interval lies above 0; *refuted* if the factor does not hold or the
    interval lies below 0; *refined* if the factor holds and the interval contains 0.
    """
    holds = bool((focal_factor(np.linspace(EASY, 1, 101), gamma) <= 0.01 + 1e-12).all())
    if not holds or auroc.high < 0:
        return "refuted"
    return "confirmed" if auroc.low > 0 else "refined"
