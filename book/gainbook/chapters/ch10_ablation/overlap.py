"""The soft overlap of attention and localization on defective parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch

from gainmtl import metrics
from gainmtl.cam import resize_map
from gainmtl.evaluation.interventions import marked_batches
from gainmtl.model import GAINMTL


@torch.no_grad()
def map_overlaps(models: Mapping[str, GAINMTL], dataset: Any) -> dict[str, pd.DataFrame]:
    """The overlap of the two maps, of each model that has both.

    One row per defective part with a mask: `name, group, map_overlap`, the soft overlap of the
    attention, resized to the image, and the localization, both as probabilities.
    """
    parts: dict[str, list[pd.DataFrame]] = {}
    for batch in marked_batches(dataset, 32):
        for name, model in models.items():
            if model.attention is None or model.localization is None:
                continue
            out = model.eval()(model.preprocess(batch.image))
            assert out.attention_logits is not None
            assert out.localization_logits is not None
            size = (batch.image.shape[2], batch.image.shape[3])
            maps = resize_map(out.attention_logits, size), out.localization_logits
            overlap = metrics.soft_overlap(*(torch.sigmoid(m) for m in maps))
            columns = {"name": batch.name, "group": batch.group, "map_overlap": overlap.numpy()}
            parts.setdefault(name, []).append(pd.DataFrame(columns))
    return {name: pd.concat(tables, ignore_index=True) for name, tables in parts.items()}
