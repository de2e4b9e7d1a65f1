"""Measures of explanation methods on a test set, one row per image."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from gainbook.lab.measures import Measure
from gainmtl import metrics
from gainmtl.evaluation.scoring import MAP_MEASURES
from gainmtl.explanation.methods import METHODS, explain
from gainmtl.metrics.faithfulness import FAITHFULNESS, faithfulness_scores
from gainmtl.model import GAINMTL
from gainmtl.types import Sample, collate

CONTROLS: dict[str, str] = {
    "oracle": "oracle on the grid",
    "centre": "centre Gaussian",
    "uniform": "uniform",
    "random": "random cells",
}
"""Maps that do not depend on the network, and their names for readers."""


def control_maps(masks: Tensor, grid: tuple[int, int], seed: int = 0) -> dict[str, Tensor]:
    """The `CONTROLS` for masks (B, 1, H, W), each (B, 1, h, w). Only the oracle uses the mask."""
    count = len(masks)
    return {
        "oracle": metrics.oracle_map(masks, grid),
        "centre": metrics.centre_map(count, grid),
        "uniform": metrics.uniform_map(count, grid),
        "random": metrics.random_map(count, grid, torch.Generator().manual_seed(seed)),
    }


@torch.no_grad()
def score_maps(
    model: GAINMTL,
    dataset: Dataset[Sample],
    methods: Sequence[str] = tuple(METHODS),
    faithful: int = 0,
    batch_size: int = 16,
    steps: int = 16,
    limit: int | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """One row per defective image with a mask: the measures of each method's map.

    Columns: `name, group, defect_type, is_flagged`; `<method>.<measure>` with the measures of
    `scoring.MAP_MEASURES`, for the methods and the `CONTROLS`; `<a>~<b>.rank_correlation` of maps
    after the ReLU; and `<method>.<measure>` with those of `FAITHFULNESS`, NaN where they were not
    computed. The CAM is measured with its sign, as in the evaluation of a model; the others after
    the ReLU, as in their papers.

    Args:
        model: explained on its own device; keeps its mode.
        dataset: with `labels` and `has_mask`, as a test set has them.
        methods: names of `METHODS`.
        faithful: number of flagged images on which faithfulness is measured, drawn by `seed`.
        batch_size: images explained together.
        steps: of insertion and deletion.
        limit: at most so many images, drawn by `seed`; `None` is all.
        seed: of the draws and of the random control.

    Raises:
        ValueError: no defective image with a mask.
    """
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    described: Any = dataset
    bad = np.flatnonzero(described.labels & described.has_mask)
    if not len(bad):
        raise ValueError("score_maps: expected defective images with a mask, found none")
    # In random order, so that the first images are a sample of any size.
    bad = np.random.default_rng(seed).permutation(bad)[:limit]
    tables, left = [], faithful

    def probability(images: Tensor) -> Tensor:
        return model(images).defect_probability

    for start in range(0, len(bad), batch_size):
        batch = collate([dataset[int(i)] for i in bad[start : start + batch_size]])
        images = model.preprocess(batch.image.to(device))
        flagged = metrics.is_flagged(probability(images).cpu().numpy(), model.threshold)
        explained = {name: explain(model, images, name) for name in methods}
        grid = tuple(next(iter(explained.values())).raw.shape[2:])
        maps = {n: e.raw if n == "cam" else e.map for n, e in explained.items()}
        maps |= control_maps(batch.mask, (grid[0], grid[1]), seed + start)
        columns: dict[str, Any] = {
            "name": batch.name,
            "group": batch.group,
            "defect_type": batch.defect_type,
            "is_flagged": flagged,
        }
        for name, values in maps.items():
            for measure, function in MAP_MEASURES.items():
                columns[f"{name}.{measure}"] = function(values, batch.mask).numpy()
        for a, b in combinations(methods, 2):
            alike = metrics.rank_correlation(explained[a].map, explained[b].map)
            columns[f"{a}~{b}.rank_correlation"] = alike.numpy()
        chosen = np.flatnonzero(flagged)[: max(left, 0)]
        left -= len(chosen)
        for name, values in maps.items() if faithful else ():
            for measure in FAITHFULNESS:
                columns[f"{name}.{measure}"] = np.full(len(flagged), np.nan)
            if len(chosen):
                some = torch.from_numpy(chosen)
                part = images[some.to(device)], values[some.to(values.device)]
                for measure, scores in faithfulness_scores(probability, *part, steps).items():
                    columns[f"{name}.{measure}"][chosen] = scores.numpy()
        tables.append(pd.DataFrame(columns))
    model.train(was_training)
    return pd.concat(tables, ignore_index=True)


def map_measures(table: pd.DataFrame) -> list[Measure]:
    """The means of all columns of `score_maps`.

    The condition holds the `method`, of a rank correlation also the other one, `with`. The map
    measures have a row for the unweighted mean over defect types too.
    """
    measures = []
    for column in table.columns:
        names, dot, metric = column.partition(".")
        if dot:
            method, _, other = names.partition("~")
            condition = {"method": method, **({"with": other} if other else {})}
            types = "mean" if metric in MAP_MEASURES else ""
            measures.append(Measure(metric, column, "cam", condition, types=types, pair=""))
    return measures
