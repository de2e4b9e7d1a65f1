"""A verdict read from the defect map alone, for systems whose classifier is not trained."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from gainbook.lab.protocol import Pooled, pool
from gainbook.lab.systems import System
from gainmtl import metrics
from gainmtl.evaluation.scoring import Scores
from gainmtl.model import GAINMTL
from gainmtl.types import Sample, collate

TOP_SHARE = 0.005
"""Share of the pixels that `map_score` averages; chosen before anything was measured. At 128 px
these are 82 pixels, five cells of a stride of 4: fewer than most defects have."""
MAX_FALSE_ALARMS = 0.05
READINGS = {"map_score": f"mean of the highest {TOP_SHARE:.1%}", "map_maximum": "maximum"}
"""How a map becomes a score: column and words."""


def by_map(system: System) -> System:
    """The same system with the verdict of its defect map; its rows have a condition `verdict`."""
    return system._replace(
        tag=f"{system.tag}-by-map", label=f"{system.label}, by its map", about=(("verdict", "map"),)
    )


def map_score(maps: Tensor, share: float = TOP_SHARE) -> Tensor:
    """Mean of the highest `share` of the pixels, at least one: (B, 1, H, W) in [0, 1] to (B,).

    The maximum, share 0, depends on a single pixel; in the mean of all, share 1, a small defect
    hardly counts.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"map_score: expected a share in [0, 1], got {share}")
    flat = maps.flatten(1)
    return flat.topk(max(1, round(share * flat.shape[1])), dim=1).values.mean(1)


@torch.no_grad()
def score_maps(model: GAINMTL, dataset: Dataset[Sample], batch_size: int = 32) -> pd.DataFrame:
    """One row per image: `name, group, is_defective, map_score, map_maximum, area`.

    `area` is the share of the image under the mask, NaN for normal images and without a mask; no
    score depends on it.
    """
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    tables = []
    loader: DataLoader[Any] = DataLoader(dataset, batch_size=batch_size, collate_fn=collate)
    for batch in loader:
        images = batch.image.to(device).contiguous(memory_format=torch.channels_last)
        maps = model(model.preprocess(images)).defect_map.double().cpu()
        marked = (batch.is_defective & batch.has_mask).numpy()
        area = batch.mask.double().mean((1, 2, 3)).numpy()
        columns = {
            "name": batch.name,
            "group": batch.group,
            "is_defective": batch.is_defective.numpy(),
            "map_score": map_score(maps).numpy(),
            "map_maximum": map_score(maps, 0).numpy(),
            "area": np.where(marked, area, np.nan),
        }
        tables.append(pd.DataFrame(columns))
    model.train(was_training)
    return pd.concat(tables, ignore_index=True)


def score_validation_maps(model: GAINMTL, dataset: Dataset[Sample]) -> pd.DataFrame:
    """`score_maps` of validation images, for the thresholds."""
    return score_maps(model, dataset)


def with_thresholds(test: pd.DataFrame, val: pd.DataFrame) -> pd.DataFrame:
    """The scores of test images with columns `<reading>_threshold`, from validation images.

    The rule of all systems: at most 5 % false alarms.
    """
    thresholds = {
        f"{reading}_threshold": metrics.threshold_at_fpr(
            val[reading].to_numpy(), val["is_defective"].to_numpy(), MAX_FALSE_ALARMS
        )
        for reading in READINGS
    }
    return test.assign(**thresholds)


def with_map_verdict(
    pooled: Pooled, scores: list[pd.DataFrame], reading: str = "map_score"
) -> Pooled:
    """`pooled` with the verdicts that its defect maps give.

    The untrained classifier's verdicts, evidence map and counterfactuals are left out: those
    columns are NaN, and the pixels of `cam` are not counted.

    Args:
        scores: of each fold, as `with_thresholds` returns them.

    Raises:
        ValueError: the scores are about other images.
    """
    folds = []
    for part, table in zip(pooled.folds, scores, strict=True):
        if list(part.images["name"]) != list(table["name"]):
            raise ValueError("with_map_verdict: expected map scores of the same images, in order")
        score = table[reading].to_numpy(float)
        untrained = {
            column: np.nan
            for column in part.images.columns
            if column.startswith(("cam.", "oracle.", "flip."))
        }
        flagged = metrics.is_flagged(score, table[f"{reading}_threshold"].to_numpy(float))
        images = part.images.assign(defect_probability=score, is_flagged=flagged, **untrained)
        maps = {name: counts for name, counts in part.histograms.items() if name != "cam"}
        folds.append(Scores(images, maps))
    condition = {**pooled.condition, "verdict": "map"}
    return pooled._replace(folds=folds, scores=pool(folds), condition=condition)


def with_area(pooled: Pooled, area: pd.Series) -> Pooled:
    """`pooled` with a column `area`, see `score_maps`; `area` by the images' names."""
    folds = [
        part._replace(images=part.images.assign(area=area.loc[part.images["name"]].to_numpy()))
        for part in pooled.folds
    ]
    return pooled._replace(folds=folds, scores=pool(folds))
