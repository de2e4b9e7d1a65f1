"""Chapter 04, class activation maps: five methods beside each other, and claims A7 and A8."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from gainbook.chapters.ch04_maps.map_scores import map_measures, score_maps
from gainbook.lab.catalogue import S1_FINE
from gainbook.lab.folds import Question, of_each
from gainbook.lab.judge import Judgement, verdict
from gainbook.lab.results_file import row
from gainbook.lab.run_system import SMALL, load_fold
from gainbook.lab.study import Claim, Headline, Run, Study, nothing
from gainbook.lab.tables import Value, find, markdown
from gainmtl.explanation.methods import METHODS, randomisation_check
from gainmtl.io import load
from gainmtl.model import GAINMTL
from gainmtl.types import collate

NOTEBOOK = "04_class_activation_maps"
QUICK: dict[str, Any] = SMALL | {
    "image_size": 96,
    "epochs": 10,
    "batch_size": 16,
    "learning_rate": 3e-3,
}
"""Parameters of the live part."""
SYSTEM = S1_FINE
FAITHFUL = 6
"""Tiles per fold for insertion, deletion and ROAD."""


def resemblance_rows(
    model: GAINMTL, images: Tensor, dataset: str, stops: int
) -> list[dict[str, Any]]:
    """Rows `resemblance` of the randomisation check on normalised images (B, 3, H, W).

    The condition holds the `method` and the share of `shuffled` parameters, or `strangers` for the
    maps of two different images.
    """
    rows = []
    for check in randomisation_check(model, images, stops=stops):
        values: list[tuple[dict[str, Any], float]] = [
            ({"shuffled": round(share, 6)}, value)
            for share, value in zip(check.share, check.correlation, strict=True)
        ]
        for more, value in [*values, ({"strangers": True}, check.baseline)]:
            condition = {**SYSTEM.condition, "method": check.method, **more}
            rows.append(
                row(dataset, SYSTEM.name, "resemblance", value, condition=condition, map="cam",
                    n=len(images))
            )  # fmt: skip
    return rows


def _resemblance_of_run(run: Run) -> list[dict[str, Any]]:
    """The check on the first fold's model and at most twelve of its test tiles."""
    p = run.parameters
    model = load(run.pooled[SYSTEM.tag][0].model_paths[0])
    assert isinstance(model, GAINMTL)
    part: Any = load_fold(p, p.seeds[0])(0).test
    some = np.flatnonzero(part.labels & part.has_mask)[::7][:12]
    images = model.preprocess(collate([part[int(i)] for i in some]).image)
    return resemblance_rows(model, images, p.dataset, stops=5)


def _of_methods(rows: pd.DataFrame, metric: str, methods: Sequence[str]) -> dict[str, float]:
    """The figure of each method in the live part."""
    return {name: find(rows, SYSTEM, metric, "cam", method=name).value for name in methods}


BESIDE_CAM = ("grad_cam", "grad_cam_plus_plus", "score_cam")
JUDGED = ("cam", *BESIDE_CAM)
SLOPE_ERROR, LOSS_LEFT = 0.01, 0.9
TIME_OF_GRADIENT, TIME_OF_SCORE_CAM = 1.1, 10.0


def _shown(values: dict[str, float], words: str) -> dict[str, Value]:
    return {
        f"{words}, {METHODS[name]}": Value(value, math.nan, math.nan, None)
        for name, value in values.items()
    }


def trainable(rows: pd.DataFrame) -> Judgement:
    """A7: of the four methods, can only a CAM be a loss?

    A method passes if the derivative of a loss on its map agrees with finite differences within
    1 %, and five steps of Adam on that loss leave at most 0.9 of it. Confirmed if CAM passes and
    Grad-CAM, Grad-CAM++ and Score-CAM do not; refuted if CAM fails or all four pass; refined in
    between. Every part is a measurement without an interval, so none is undecided.
    """
    error, before, after = (
        _of_methods(rows, metric, JUDGED) for metric in ("slope_error", "loss_before", "loss_after")
    )
    passed = {
        name: error[name] < SLOPE_ERROR and after[name] <= LOSS_LEFT * before[name]
        for name in JUDGED
    }
    only_cam = [passed["cam"] and not passed[name] for name in BESIDE_CAM]
    left = {name: after[name] / before[name] for name in JUDGED}
    return Judgement(verdict(only_cam), _shown(left, "share of the loss left"))


def cost_of_maps(rows: pd.DataFrame) -> Judgement:
    """A8: is the extra cost nothing for CAM, a gradient for two methods, many passes for Score-CAM?

    The counts hold if CAM takes one forward pass and no backward pass, Grad-CAM and Grad-CAM++ one
    forward pass and one backward pass of the head, Score-CAM several forward passes and no
    backward pass. The times hold if the two take at least 1.1 times as long as a prediction, and
    Score-CAM at least 10 times. Confirmed if both hold, refined if the counts do alone, else
    refuted. The times are those of the stored run.
    """
    forward, backward, time = (
        _of_methods(rows, metric, JUDGED)
        for metric in ("forward_passes", "head_backward_passes", "time_ratio")
    )
    gradient = BESIDE_CAM[:2]
    counts = forward["cam"] == 1 and backward["cam"] == 0
    counts &= all(forward[name] == 1 and backward[name] == 1 for name in gradient)
    counts &= forward["score_cam"] > 1 and backward["score_cam"] == 0
    times = all(time[name] >= TIME_OF_GRADIENT for name in gradient)
    times &= time["score_cam"] >= TIME_OF_SCORE_CAM
    return Judgement(verdict([counts], [times]), _shown(time, "time over a prediction's"))


def agreement_table(rows: pd.DataFrame) -> str:
    """The rank correlations of every pair of methods, an upper triangle."""
    names, lines = list(METHODS), []
    for place, a in enumerate(names[:-1]):
        cells = [
            find(rows, SYSTEM, "rank_correlation", "cam", method=a, **{"with": b}).text()
            for b in names[place + 1 :]
        ]
        lines.append([METHODS[a], *[""] * place, *cells])
    return markdown(["", *(METHODS[b] for b in names[1:])], lines)


def shuffled_shares(rows: pd.DataFrame) -> list[float]:
    """The shares of shuffled parameters that the rows `resemblance` hold."""
    conditions = rows.loc[rows["metric"] == "resemblance", "condition"].map(dict)
    return sorted({c["shuffled"] for c in conditions if "shuffled" in c})


def resemblance_table(rows: pd.DataFrame) -> str:
    """The randomisation check: one line per method, one column per share of the parameters."""
    shares = shuffled_shares(rows)
    conditions: list[dict[str, Any]] = [{"shuffled": share} for share in shares]
    conditions.append({"strangers": True})
    lines = [
        [label, *(find(rows, SYSTEM, "resemblance", "cam", method=name, **about).text()
                  for about in conditions)]
        for name, label in METHODS.items()
    ]  # fmt: skip
    named = ["none", "the head", *(f"{share:.0%}" for share in shares[2:])]
    return markdown(["shuffled", *named, "two different parts"], lines)


def methods_study(faithful: int = FAITHFUL) -> Study:
    """The study, with insertion, deletion and ROAD on `faithful` tiles per fold."""
    question = Question(
        of_each(score_maps), map_measures, arguments={"faithful": faithful}, by_fold=True
    )
    return Study(
        name=NOTEBOOK,
        notebook=NOTEBOOK,
        title="Class activation maps",
        systems=(SYSTEM,),
        questions=(question,),
        keep=nothing,  # verdicts and maps of the system are rows of chapter 03
        extra=_resemblance_of_run,
        headline=Headline(
            {
                "PointGame": ("point_game", "cam", {}),
                "positive energy": ("positive_energy", "cam", {}),
                "insertion": ("insertion_auc", "cam", {}),
                "deletion": ("deletion_auc", "cam", {}),
            },
            ("method",),
        ),
        claims=(
            Claim("A7", trainable, ("slope_error", "loss_before", "loss_after")),
            Claim("A8", cost_of_maps, ("forward_passes", "head_backward_passes", "time_ratio")),
        ),
    )


STUDY = methods_study()
STUDIES = (STUDY,)
