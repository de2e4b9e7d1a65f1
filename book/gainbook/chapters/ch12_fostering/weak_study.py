"""The weak-feature study: weights of fostering, shares of parts with the weak feature alone, seeds.

One run is a small classifier on parts with a strong and a weak feature; see `weak_feature`. The
criterion of its claim, `criteria.judge_weak_feature`, was written before the study was run.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, cast

import pandas as pd
import torch

from gainbook.chapters.ch12_fostering.criteria import choose_beta, judge_weak_feature
from gainbook.chapters.ch12_fostering.systems import fostered
from gainbook.chapters.ch12_fostering.weak_feature import feature_figures, score_features
from gainbook.lab.judge import UNDECIDED, Judgement
from gainbook.lab.results_file import git_commit, row
from gainbook.lab.run_system import WEIGHTS, build, find_weights
from gainbook.lab.seed_study import Cell, SeedStudy, difference_by_seed, figure, train
from gainbook.lab.study import Claim, Headline, Measured
from gainbook.lab.tables import Value, find
from gainmtl.datasets.synthetic.two_features import TwoFeatures, make_two_features
from gainmtl.model import GAINMTL

BETAS = (0.0, 0.3, 1.0, 3.0)
SHARES = (0.0, 0.3)
"""Shares of defective parts with the weak feature alone. At 0 the weak feature is never needed; at
0.3 nothing else distinguishes these parts from normal ones."""
JUDGED = SHARES[0]
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


def train_and_measure(settings: Mapping[str, Any], cell: Cell) -> dict[str, Any]:
    """Train one run and measure it on its test parts: the content of its file."""
    started, commit = time.process_time(), git_commit()
    beta, share, seed = (cell[axis] for axis in ("beta", "share", "seed"))
    sizes = {key: settings[key] for key in ("image_size", "train", "val", "test")}
    data = make_two_features(seed=seed, weak_alone=share, **sizes)
    torch.manual_seed(seed)
    system = fostered(beta)._replace(output_stride=settings["output_stride"])
    model = cast(GAINMTL, build(system, settings["backbone"], find_weights(settings["weights"])))
    history = train(model, data, seed, settings)
    scores = score_features(model, cast(TwoFeatures, data.test))
    return {
        "beta": beta, "alone": share, "seed": seed, "settings": dict(settings),
        "figures": feature_figures(scores, model.threshold),
        "validation_auroc": float(history["auroc"].iloc[-1]),
        "data": data.fingerprint, "commit": commit,
        "seconds": round(time.process_time() - started, 2),
    }  # fmt: skip


def _figures(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    validation = content["validation_auroc"]
    return [
        *content["figures"],
        figure("validation_auroc", validation, n=content["settings"]["val"]),
    ]


def _subject(cell: Cell) -> tuple[str, dict[str, Any]]:
    system = fostered(cell["beta"])
    return system.name, {**system.condition, "weak_alone": cell["share"]}


def _against(cell: Cell) -> list[tuple[Cell, dict[str, Any]]]:
    return [(cell.at(beta=0.0), fostered(0.0).as_other)] if cell["beta"] else []


def _weak_over_strong(
    study: SeedStudy, cells: Sequence[Cell], contents: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Rows `weak_over_strong_difference`: the change from beta 0 of the positive energy on the weak
    feature minus that on the strong one, in images with both."""
    energy: dict[tuple[Cell, str], dict[int, float]] = {}
    for cell, content in zip(cells, contents, strict=True):
        for one in content["figures"]:
            about = dict(one["condition"])
            if one["metric"] == "positive_energy" and about["shown"] == "both":
                key = cell.at(seed=None), about["on"]
                energy.setdefault(key, {})[cell["seed"]] = float(one["value"])
    rows = []
    for cell in dict.fromkeys(cell for cell, _ in energy):
        base = cell.at(beta=0.0)
        if not cell["beta"] or (base, "weak") not in energy:
            continue
        gains = {}
        for on in ("weak", "strong"):
            first, second = energy[cell, on], energy[base, on]
            gains[on] = {seed: first[seed] - second[seed] for seed in first if seed in second}
        gap = difference_by_seed(gains["weak"], gains["strong"])
        system, condition = _subject(cell)
        condition |= {"shown": "both", **fostered(0.0).as_other}
        rows.append(row("synthetic", system, "weak_over_strong_difference", gap.value,
                        condition=condition, map="cam", **gap.ends))  # fmt: skip
    return rows


def study_value(
    rows: pd.DataFrame, metric: str, beta: float, share: float, map: str | None = None, **about: Any
) -> Value:
    """The figure over seeds; of a metric that ends in `_difference`, against beta 0."""
    against = fostered(0.0).as_other if metric.endswith("_difference") else {}
    return find(rows, fostered(beta), metric, map, weak_alone=share, **about, **against)


def chosen_beta(rows: pd.DataFrame, share: float) -> float:
    """`criteria.choose_beta` by the study's validation AUROC, means over seeds."""
    validation = {}
    for beta in BETAS:
        try:
            validation[beta] = study_value(rows, "validation_auroc", beta, share).value
        except LookupError:
            continue
    if not validation:
        raise LookupError("the study's validation AUROC")
    return choose_beta(validation)


GAINS: dict[str, Measured] = {
    "AUROC, both shown": ("auroc", None, {"shown": "both"}),
    "AUROC, weak alone": ("auroc", None, {"shown": "weak"}),
    "energy on the strong": ("positive_energy", "cam", {"on": "strong", "shown": "both"}),
    "energy on the weak": ("positive_energy", "cam", {"on": "weak", "shown": "both"}),
    "energy on the weak, alone": ("positive_energy", "cam", {"on": "weak", "shown": "weak"}),
    "weak minus strong": ("weak_over_strong", "cam", {"shown": "both"}),
}
"""The study's figures by their words; the last one exists as a difference only."""


def weak_feature(rows: pd.DataFrame) -> Judgement:
    """C3 where the weak feature is never needed, by the beta that validation data chose.

    Undecided if they chose beta 0; see `criteria.judge_weak_feature`.
    """
    beta = chosen_beta(rows, JUDGED)
    if beta == 0:
        return Judgement(UNDECIDED, {})
    figures = []
    for words in ("energy on the weak", "weak minus strong", "AUROC, weak alone"):
        metric, of, about = GAINS[words]
        figures.append(study_value(rows, f"{metric}_difference", beta, JUDGED, of, **about))
    return judge_weak_feature(*figures)


WEAK_STUDY = SeedStudy(
    name="12_weak_feature",
    notebook="12_cam_fostering",
    title="A weak feature beside a strong one",
    axes={"beta": BETAS, "share": SHARES, "seed": (0, 1, 2, 3, 4)},
    train_and_measure=train_and_measure,
    subject=_subject,
    file=lambda cell: f"alone{cell['share']:g}/beta{cell['beta']:g}/seed{cell['seed']}.json",
    settings=SETTINGS,
    figures=_figures,
    against=_against,
    more=_weak_over_strong,
    # Student's intervals as they are, as in the stored file
    unbounded=("auroc", "recall", "positive_energy", "energy_balance", "validation_auroc",
               "cam_entropy"),
    folder="runs/features",
    headline=Headline(
        {
            "AUROC, both shown": GAINS["AUROC, both shown"],
            "AUROC, the weak alone": GAINS["AUROC, weak alone"],
            "energy on the strong": GAINS["energy on the strong"],
            "energy on the weak": GAINS["energy on the weak"],
        },
        ("pooling", "beta", "measure", "weak_alone"),
    ),
    claims=(Claim("C3", weak_feature),),
)  # fmt: skip
