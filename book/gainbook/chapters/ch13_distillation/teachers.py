"""Result rows about the teachers themselves: accuracy in pretraining, statistics of features."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from gainbook.chapters.ch13_distillation.pretraining import pretraining_card
from gainbook.chapters.ch13_distillation.swap import Family
from gainbook.lab.protocol import fold_seed
from gainbook.lab.results_file import row
from gainbook.lab.run_system import load_fold
from gainmtl.anomaly.filters import flat_field
from gainmtl.anomaly.teacher import level_statistics
from gainmtl.datasets import normal_only

PICTURES = 32
"""Normal training pictures on which features are measured."""


def accuracy_row(dataset: str, family: Family, **condition: Any) -> dict[str, Any]:
    """The accuracy on held-out pictures of the pretraining, as a row with `study="verdict"`."""
    value = float(pretraining_card(family.weights)["accuracy"])
    given = {"study": "verdict", **condition}
    return row(dataset, f"teacher-{family.backbone}", "accuracy", value, condition=given)


def statistics_rows(
    parameters: Any, fold: int, families: Sequence[Family], others: Sequence[Family]
) -> pd.DataFrame:
    """Statistics of every teacher's features on normal training pictures of a fold."""
    p = parameters
    normal: Any = normal_only(load_fold(p, 0)(fold)).train
    places = np.linspace(0, len(normal) - 1, min(PICTURES, len(normal))).round().astype(int)
    pictures = torch.stack([normal[int(place)].image for place in places])
    rows: list[dict[str, Any]] = []
    for family in [*families, *others]:
        images = flat_field(pictures, family.flat_field) if family.flat_field else pictures
        with torch.random.fork_rng(devices=[]):
            # Without weights: the same random ones as in the first seed's run.
            torch.manual_seed(fold_seed(p.study_seeds[0], fold))
            levels = level_statistics(family.backbone, family.weights, images)
        teacher = {} if family in families else {"teacher": family.name}
        rows += level_rows(p.dataset, family.backbone, levels, study="statistics", **teacher)
    return pd.DataFrame(rows)


def level_rows(
    dataset: str, backbone: str, levels: Mapping[tuple[str, int], Any], **condition: Any
) -> list[dict[str, Any]]:
    """Result rows of feature statistics by (features, stride of the level)."""
    return [
        row(
            dataset, f"teacher-{backbone}", metric, float(value),
            condition={"features": features, "stride": stride, **condition},
        )
        for (features, stride), statistics in levels.items()
        for metric, value in statistics._asdict().items()
        if not math.isinf(value)
    ]  # fmt: skip
