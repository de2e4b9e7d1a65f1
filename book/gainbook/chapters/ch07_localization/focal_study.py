"""The focal study: the exponent of the focal loss against the share of defects, on built-in parts.

A run is a small classifier trained with one exponent on parts of which one share is defective.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch

from gainbook.chapters.ch07_localization.focal import focal_factor, shift_prior
from gainbook.lab.judge import INTERESTING, Judgement, gains, verdict
from gainbook.lab.results_file import git_commit
from gainbook.lab.run_system import WEIGHTS, find_weights
from gainbook.lab.seed_study import Cell, SeedStudy, figure, train
from gainbook.lab.study import Claim, Headline
from gainbook.lab.tables import Value, value_of
from gainmtl import metrics
from gainmtl.datasets import load
from gainmtl.evaluation.scoring import defect_scores
from gainmtl.losses import LossWeights
from gainmtl.model import GAINMTL
from gainmtl.strategies import Strategy

GAMMAS = (0.0, 0.5, 1.0, 2.0, 5.0)
RATES = (0.5, 0.1, 0.02)
"""Shares of defective training parts; half of the test parts are defective for all."""
TEST_RATE = 0.5
EASY = 0.9
"""A sample is easy where the probability of its true class is larger."""
CROSS_ENTROPY = 0.0
"""The exponent that the others are compared with."""
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
"""What all runs share, among it the number of training parts and of steps."""


METRICS = (
    "auroc", "average_precision", "recall_at_fpr05", "ece", "ece_shifted", "easy_share",
    "easy_loss_share", "easy_reduction",
)  # fmt: skip
"""Of `measure`. Their rows keep Student's intervals whole; `focal_value` ends those of shares."""


def train_and_measure(settings: Mapping[str, Any], cell: Cell) -> dict[str, Any]:
    """Train and test one run: the scores of its training and test parts."""
    sizes = {key: settings[key] for key in ("image_size", "train", "val", "test")}
    gamma, rate, seed = cell["gamma"], cell["rate"], cell["seed"]
    data = load("synthetic", seed=seed, defect_rate=TEST_RATE, train_defect_rate=rate, **sizes)
    torch.manual_seed(seed)
    model = GAINMTL(
        settings["backbone"],
        Strategy("focal", LossWeights(classification=1.0), focal_gamma=gamma),
        find_weights(settings["weights"]),
        output_stride=settings["output_stride"],
        width=settings["width"],
    )
    history = train(model, data, seed, settings)
    content: dict[str, Any] = {
        "gamma": gamma, "rate": rate, "seed": seed, "settings": dict(settings),
        "defects": data.counts["train"]["defective"],
        "seconds": round(float(history["seconds"].sum()), 2),
        "data": data.fingerprint, "commit": git_commit(),
    }  # fmt: skip
    for part, dataset in (("train", data.train), ("test", data.test)):
        scores, labels = defect_scores(model, dataset)
        content[part] = {"scores": np.round(scores, 6), "labels": labels}
    return content


def measure(content: Mapping[str, Any]) -> dict[str, float]:
    """The figures of one run.

    `auroc`, `average_precision`, `recall_at_fpr05` and `ece` on the test parts, half of which are
    defective; `ece_shifted` after `shift_prior` from the training share to the test's. Of the
    training parts `easy_share`, the share with more than `EASY` for the true class;
    `easy_loss_share`, their share of the run's loss; and `easy_reduction`, the factor by which the
    run's exponent cuts their cross-entropy, NaN where no part is easy.
    """
    scores, labels = (np.asarray(content["test"][key]) for key in ("scores", "labels"))
    share = content["defects"] / len(content["train"]["labels"])
    shifted = shift_prior(scores, share, TEST_RATE)
    learned = np.asarray(content["train"]["scores"], dtype=np.float64)
    p = np.where(np.asarray(content["train"]["labels"], dtype=bool), learned, 1 - learned)
    entropy = -np.log(p.clip(1e-6))
    loss = focal_factor(p, content["gamma"]) * entropy
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


def _condition(cell: Cell) -> dict[str, Any]:
    return {"gamma": cell["gamma"], "train_defect_rate": cell["rate"]}


def focal_value(rows: pd.DataFrame, metric: str, gamma: float, rate: float) -> Value:
    """The figure over seeds; of a metric that ends in `_difference`, minus cross-entropy's.

    The interval of a share ends at 0 and 1, which Student's may pass.

    Raises:
        LookupError: no such row.
    """
    wanted = {"gamma": gamma, "train_defect_rate": rate}
    if metric.endswith("_difference"):
        wanted["against_gamma"] = CROSS_ENTROPY
    chosen = rows[
        (rows["metric"] == metric)
        & rows["seed"].isna()
        & rows["condition"].map(lambda given: dict(given) == wanted)
    ]
    if len(chosen) != 1:
        raise LookupError(f"expected one row of {metric}, {wanted}, found {len(chosen)}")
    value = value_of(chosen.iloc[0])
    if metric.endswith("_difference") or metric == "easy_reduction":
        return value
    return value._replace(low=max(value.low, 0.0), high=min(value.high, 1.0))


def judge_focal(auroc: Value, gamma: float = 2.0) -> Judgement:
    """A5: does gamma 2 cut the loss of easy samples a hundredfold and help with rare defects?

    `auroc`: gamma 2 minus cross-entropy at the rarest share of `RATES`, over seeds. *Shown* if the
    factor on the loss is at most 1/100 for every p of at least 0.9, which is arithmetic, and the
    interval lies above 0. A difference below 0.02 is excluded. What is shown was fixed before the
    study, the smallest interesting difference after it.
    """
    holds = bool((focal_factor(np.linspace(EASY, 1, 101), gamma) <= 0.01 + 1e-12).all())
    return Judgement(
        verdict([holds, gains(auroc, INTERESTING["auroc"])]), {"AUROC, rarest share": auroc}
    )


FOCAL = SeedStudy(
    name="07_focal_study",
    notebook="07_localization",
    title="Focal loss and rare defects",
    axes={"gamma": GAMMAS, "rate": RATES, "seed": (0, 1, 2, 3, 4)},
    train_and_measure=train_and_measure,
    subject=lambda cell: ("focal", _condition(cell)),
    file=lambda cell: f"rate{cell['rate']:g}/gamma{cell['gamma']:g}/seed{cell['seed']}.json",
    settings=SETTINGS,
    figures=lambda content: [figure(name, value) for name, value in measure(content).items()],
    against=lambda cell: (
        [(cell.at(gamma=CROSS_ENTROPY), {"against_gamma": CROSS_ENTROPY})]
        if cell["gamma"] != CROSS_ENTROPY
        else []
    ),
    unbounded=METRICS,
    folder="runs/focal",
    headline=Headline(
        measures={"AUROC": ("auroc", None, {})}, varied=("train_defect_rate", "gamma")
    ),
    claims=(
        Claim(
            "A5", lambda rows: judge_focal(focal_value(rows, "auroc_difference", 2.0, min(RATES)))
        ),
    ),
)
