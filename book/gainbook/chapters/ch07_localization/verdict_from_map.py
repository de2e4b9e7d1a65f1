"""A verdict read from the defect map alone, for systems whose classifier nobody trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from gainbook.lab.folds import facts_of, kept_answers, name_of
from gainbook.lab.protocol import Pooled, pool
from gainmtl import metrics
from gainmtl.datasets import Data
from gainmtl.evaluation.scoring import Scores
from gainmtl.io import load
from gainmtl.model import GAINMTL
from gainmtl.types import Sample, collate

TOP_SHARE = 0.005
"""Share of the pixels that `map_score` reads; chosen before anything was measured. At 128 px these
are 82 pixels, five cells of a stride of 4: fewer than most defects have, more than a speck."""
MAX_FALSE_ALARMS = 0.05
CONDITION = {"verdict": "map"}
"""What result rows of a verdict by map carry beside their system's own."""
READINGS = {"map_score": f"mean of the highest {TOP_SHARE:.1%}", "map_maximum": "maximum"}


def map_score(maps: Tensor, share: float = TOP_SHARE) -> Tensor:
    """Mean of the highest `share` of the pixels, at least one: (B, 1, H, W) in [0, 1] to (B,).

    The maximum, share 0, hangs on a single pixel; the mean of all, share 1, drowns a small defect.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"map_score: expected a share in [0, 1], got {share}")
    flat = maps.flatten(1)
    return flat.topk(max(1, round(share * flat.shape[1])), dim=1).values.mean(1)


@torch.no_grad()
def ask_maps(model: GAINMTL, dataset: Dataset[Sample], batch_size: int = 32) -> pd.DataFrame:
    """One row per image: `name, is_defective, map_score, map_maximum, area`.

    `area` is the share of the image under the mask, NaN for normal images and without a mask; it
    is known of the image and no part of an answer.
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
            "is_defective": batch.is_defective.numpy(),
            "map_score": map_score(maps).numpy(),
            "map_maximum": map_score(maps, 0).numpy(),
            "area": np.where(marked, area, np.nan),
        }
        tables.append(pd.DataFrame(columns))
    model.train(was_training)
    return pd.concat(tables, ignore_index=True)


def ask_data(model: GAINMTL, data: Data) -> pd.DataFrame:
    """`ask_maps` of the test part, with columns `<reading>_threshold` from the validation part.

    By the rule of all systems: at most 5 % false alarms.
    """
    table, chosen = ask_maps(model, data.test), ask_maps(model, data.val)
    labels = chosen["is_defective"].to_numpy()
    for reading in READINGS:
        table[f"{reading}_threshold"] = metrics.threshold_at_fpr(
            chosen[reading].to_numpy(), labels, MAX_FALSE_ALARMS
        )
    return table


def ask_folds(pooled: Pooled, data_of: Callable[[int], Data]) -> list[pd.DataFrame]:
    """`ask_data` of every fold's model; kept beside it and read the next time."""
    found = []
    for fold, path in enumerate(pooled.model_paths):
        data = data_of(fold)

        def ask(path: Path = path, data: Data = data) -> dict[str, pd.DataFrame]:
            return {pooled.system: ask_data(load(path), data)}

        about = facts_of(data, fold) | {"question": name_of(ask_data)}
        answers = kept_answers(path.parent, {pooled.system: path}, about, ask)
        found.append(answers[pooled.system])
    return found


def by_map(pooled: Pooled, answers: Sequence[pd.DataFrame], reading: str = "map_score") -> Pooled:
    """`pooled` with the verdicts that its defect maps give; `answers` by fold, as `ask_folds`.

    What an untrained classifier said, its evidence map and its counterfactuals are taken out: those
    columns are NaN, and the pixels of `cam` are not counted.
    """
    folds = []
    for part, table in zip(pooled.folds, answers, strict=True):
        if list(part.images["name"]) != list(table["name"]):
            raise ValueError("by_map: the answers are about other images than the scores")
        score = table[reading].to_numpy(float)
        own = {
            column: np.nan
            for column in part.images.columns
            if column.startswith(("cam.", "oracle.", "flip."))
        }
        flagged = score >= table[f"{reading}_threshold"].to_numpy(float)
        images = part.images.assign(defect_probability=score, is_flagged=flagged, **own)
        maps = {name: counts for name, counts in part.histograms.items() if name != "cam"}
        folds.append(Scores(images, maps))
    condition = {**pooled.condition, **CONDITION}
    return pooled._replace(folds=folds, scores=pool(folds), condition=condition)


def with_area(pooled: Pooled, answers: Sequence[pd.DataFrame]) -> Pooled:
    """`pooled` with a column `area`, see `ask_maps`; any system's answers on these folds serve."""
    area = pd.concat(list(answers)).set_index("name")["area"]
    folds = [
        part._replace(images=part.images.assign(area=area.loc[part.images["name"]].to_numpy()))
        for part in pooled.folds
    ]
    return pooled._replace(folds=folds, scores=pool(folds))
