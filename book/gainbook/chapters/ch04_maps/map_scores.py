"""Measures of explanation methods on a test set: per image, and as result rows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from gainbook.lab.chapter_results import Results, own_note, stored_results
from gainbook.lab.parameters import Parameters
from gainbook.lab.reference import System, load_fold, run
from gainbook.lab.results_file import row
from gainmtl import metrics
from gainmtl.evaluation.scoring import MAP_MEASURES
from gainmtl.evaluation.stats import bootstrap_interval, mean_over_types
from gainmtl.evaluation.tidy import TYPE_MEAN
from gainmtl.explanation.methods import METHODS, explain
from gainmtl.io import load
from gainmtl.metrics.faithfulness import Ask
from gainmtl.model import GAINMTL
from gainmtl.types import NORMAL, Sample, collate

CONTROLS: dict[str, str] = {
    "oracle": "oracle on the grid",
    "centre": "centre Gaussian",
    "uniform": "uniform",
    "random": "random cells",
}
"""Maps that never saw the network, and what readers call them."""
FAITHFULNESS = ("deletion_auc", "insertion_auc", "road")
ROAD_SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)


def control_maps(masks: Tensor, grid: tuple[int, int], seed: int = 0) -> dict[str, Tensor]:
    """The `CONTROLS` for masks (B, 1, H, W), each (B, 1, h, w). The oracle alone reads the mask."""
    count = len(masks)
    return {
        "oracle": metrics.oracle_map(masks, grid),
        "centre": metrics.centre_map(count, grid),
        "uniform": metrics.uniform_map(count, grid),
        "random": metrics.random_map(count, grid, torch.Generator().manual_seed(seed)),
    }


def faithfulness(ask: Ask, images: Tensor, maps: Tensor, steps: int = 16) -> dict[str, Tensor]:
    """`FAITHFULNESS` of maps (B, 1, h, w) for the score `ask`, (B,) each."""
    return {
        "deletion_auc": metrics.deletion_curve(ask, images, maps, steps).area,
        "insertion_auc": metrics.insertion_curve(ask, images, maps, steps).area,
        "road": metrics.road(ask, images, maps, ROAD_SHARES).combined,
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
    """One row per defective image with a mask: what each method's map is worth there.

    Columns: `name, group, defect_type, is_flagged`; `<method>.<measure>` with the measures of
    `scoring.MAP_MEASURES`, for the methods and the `CONTROLS`; `<a>~<b>.rank_correlation` of maps
    after the ReLU; and `<method>.<faithfulness>`, NaN where it was not asked. The measures judge
    CAM as it is, with its sign, as in the evaluation of a model; the others as the papers show
    them, after the ReLU.

    Args:
        model: explained on its own device, left in the mode it was in.
        dataset: with `labels` and `has_mask`, as a test set has them.
        methods: names of `explain.METHODS`.
        faithful: on how many of the flagged images faithfulness is measured, drawn by `seed`.
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
    # The order of a random draw: the first so many of it are a sample of any size.
    known: Any = dataset
    bad = np.flatnonzero(known.labels & known.has_mask)
    if not len(bad):
        raise ValueError("score_maps: expected defective images with a mask, found none")
    bad = np.random.default_rng(seed).permutation(bad)[:limit]
    tables, left = [], faithful

    def ask(images: Tensor) -> Tensor:
        return model(images).defect_probability

    for start in range(0, len(bad), batch_size):
        batch = collate([dataset[int(i)] for i in bad[start : start + batch_size]])
        images = model.preprocess(batch.image.to(device))
        flagged = (ask(images).cpu() >= model.threshold).numpy()
        found = {name: explain(model, images, name) for name in methods}
        grid = tuple(next(iter(found.values())).raw.shape[2:])
        maps = {n: e.raw if n == "cam" else e.map for n, e in found.items()}
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
            alike = metrics.rank_correlation(found[a].map, found[b].map)
            columns[f"{a}~{b}.rank_correlation"] = alike.numpy()
        asked = np.flatnonzero(flagged)[: max(left, 0)]
        left -= len(asked)
        for name, values in maps.items() if faithful else ():
            answers = {measure: np.full(len(flagged), np.nan) for measure in FAITHFULNESS}
            if len(asked):
                chosen = torch.from_numpy(asked)
                part = faithfulness(
                    ask, images[chosen.to(device)], values[chosen.to(values.device)], steps
                )
                for measure, figures in part.items():
                    answers[measure][asked] = figures.numpy()
            columns |= {f"{name}.{measure}": column for measure, column in answers.items()}
        tables.append(pd.DataFrame(columns))
    model.train(was_training)
    return pd.concat(tables, ignore_index=True)


def map_rows(
    table: pd.DataFrame,
    dataset: str,
    system: System,
    seed: int | None = None,
    fold: int | None = None,
    resamples: int = 2000,
) -> list[dict[str, Any]]:
    """Result rows of `score_maps`: means with bootstrap intervals over groups, none for 0.

    The condition says the `method`, for an agreement also `with` whom, and the `defect_type` for
    the unweighted mean over types. NaN values are left out; a column of nothing else has no row.
    """
    rows: list[dict[str, Any]] = []
    groups = table["group"].to_numpy()
    kinds = table["defect_type"].to_numpy(str)
    typed = len(set(kinds) - {NORMAL}) > 1
    for column in table.columns:
        names, dot, metric = column.partition(".")
        if not dot:
            continue
        method, _, other = names.partition("~")
        condition = {**system.condition, "method": method, **({"with": other} if other else {})}
        values = table[column].to_numpy(float)
        keep = ~np.isnan(values)
        if not keep.any():
            continue
        wanted: list[tuple[Any, list[Any], dict[str, Any]]] = [(np.mean, [values[keep]], condition)]
        if typed and metric in MAP_MEASURES:
            by_type = {**condition, "defect_type": TYPE_MEAN}
            wanted.append((mean_over_types, [values[keep], kinds[keep]], by_type))
        for statistic, arrays, about in wanted:
            value, low, high = float(statistic(*arrays)), None, None
            if resamples:
                found = bootstrap_interval(statistic, groups[keep], *arrays, resamples=resamples)
                low, high = found.low, found.high
            one = row(
                dataset,
                system.name,
                metric,
                value,
                condition=about,
                map="cam",
                seed=seed,
                fold=fold,
                ci_low=low,
                ci_high=high,
                n=int(keep.sum()),
            )
            rows.append(one)
    return rows


def map_results(
    parameters: Parameters, system: System, device: str = "cpu", **arguments: Any
) -> Results:
    """`score_maps` of every fold's model on its own test fold, by fold and pooled.

    Folds that are trained are read, the others are trained first, by the reference protocol. With
    `dataset="synthetic"` the committed reference results of the notebook are read.

    Args:
        parameters: a notebook's.
        system: whose maps.
        device: of the explanations, a name that torch knows.
        arguments: passed to `score_maps`.
    """
    p = parameters
    if p.dataset == "synthetic":
        return stored_results(p.notebook)
    pooled = run(p, system)
    rows: list[dict[str, Any]] = []
    tables = []
    for seed, one in zip(p.seeds, pooled, strict=True):
        data_of = load_fold(p, seed)
        for fold, path in enumerate(one.model_paths):
            model = load(path).to(device)
            table = score_maps(model, data_of(fold).test, **arguments)
            rows += map_rows(table, p.dataset, system, seed, fold, resamples=0)
            tables.append(table)
    rows += map_rows(pd.concat(tables, ignore_index=True), p.dataset, system)
    return Results(pd.DataFrame(rows), own_note(p), {system.tag: pooled})
