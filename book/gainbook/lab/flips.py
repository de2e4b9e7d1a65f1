"""How often an intervention turns a verdict, as a question to the models of every fold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from gainbook.lab.measures import Measure
from gainbook.lab.systems import System
from gainbook.lab.tables import find
from gainmtl import metrics
from gainmtl.evaluation.interventions import INTERVENTIONS, LEVELS, score_interventions
from gainmtl.interface import DefectModel, evaluating
from gainmtl.model import GAINMTL
from gainmtl.types import Batch

INTERVENTION_WORDS = {
    "removed": "defect removed: should become normal",
    "moved": "as much removed elsewhere: should stay",
    "kept": "only the defect kept: should stay",
}
"""The interventions in words, in the order of figures."""
LEVEL_WORDS = {"features": "at the features", "image": "on the image"}


@torch.no_grad()
def twin_is_normal(model: DefectModel, batches: Iterable[Batch]) -> NDArray[np.bool_]:
    """(N,) whether the verdict on the twin of an image is normal: the place without the defect.

    Raises:
        ValueError: images without a twin.
    """
    found = []
    with evaluating(model):
        for batch in batches:
            if batch.twin is None:
                raise ValueError(
                    "twin_is_normal: expected a twin for every defective part, found none; use a "
                    "data set with twins, as deep-pcb"
                )
            probability = model(model.preprocess(batch.twin)).defect_probability
            found.append(~metrics.is_flagged(probability.double().cpu().numpy(), model.threshold))
    return np.concatenate(found)


def score_flips(models: Mapping[str, GAINMTL], dataset: Any) -> dict[str, pd.DataFrame]:
    """The tables of `score_interventions` with the columns `selectivity.<level>`.

    Selectivity is `removed - moved` per part, in {-1, 0, 1}: 1 where the verdict depends on the
    defect's place and on no other. A head that flips whatever is removed scores 0. NaN where one of
    the two is undefined.
    """
    answers = score_interventions(models, dataset)
    return {name: with_selectivity(table) for name, table in answers.items()}


def with_selectivity(answers: pd.DataFrame) -> pd.DataFrame:
    """Table of `score_interventions` with the columns `selectivity.<level>`; see `score_flips`."""
    differences = {
        f"selectivity.{level}": answers[f"flip.{level}.removed"] - answers[f"flip.{level}.moved"]
        for level in LEVELS
    }
    return answers.assign(**differences)


def flip_measures(types: str = "") -> tuple[Measure, ...]:
    """Rows `flip_rate` by `level` and `intervention`, and `selectivity` by `level`.

    Rates count the parts that were called defective; the rows of a pair count those that both
    systems called so, so that no system gains by the parts it misses.

    Args:
        types: as `Measure.types`.
    """
    measures = []
    for level in LEVELS:
        for name in INTERVENTIONS:
            condition = {"level": level, "intervention": name}
            column = f"flip.{level}.{name}"
            measures.append(Measure("flip_rate", column, condition=condition, types=types))
        column = f"selectivity.{level}"
        measures.append(Measure("selectivity", column, condition={"level": level}, types=types))
    return tuple(measures)


def flip_series(rows: pd.DataFrame, systems: Sequence[System]) -> pd.DataFrame:
    """The data of `figures.intervals`: a category per intervention and level, a series per system.

    A rate that the rows lack is left out: a network that finds no defect has no verdict to turn.
    """
    lines = []
    for intervention, words in INTERVENTION_WORDS.items():
        for level, place in LEVEL_WORDS.items():
            for system in systems:
                condition = {"level": level, "intervention": intervention}
                try:
                    value = find(rows, system, "flip_rate", **condition)
                except LookupError:  # of an empty table KeyError, which is one
                    continue
                lines.append((f"{words}, {place}", system.label, *value[:3]))
    return pd.DataFrame(lines, columns=["category", "series", "value", "ci_low", "ci_high"])
