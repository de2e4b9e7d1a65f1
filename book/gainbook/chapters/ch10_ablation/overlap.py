"""Do attention and localization say the same? Their soft overlap on defective parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from gainbook.lab.reference import System
from gainbook.lab.tables import pooled_row
from gainmtl import metrics
from gainmtl.cam import resize_map
from gainmtl.evaluation.interventions import marked_batches
from gainmtl.evaluation.stats import bootstrap_interval, paired_interval
from gainmtl.model import GAINMTL


def map_overlaps(models: Mapping[str, GAINMTL], dataset: Any) -> dict[str, pd.DataFrame]:
    """How far attention and localization say the same, of each model that has both.

    One row per defective part with a mask: `name, group, map_overlap`, the soft overlap of the
    attention, resized to the picture, and the localization, both as probabilities.
    """
    parts: dict[str, list[pd.DataFrame]] = {}
    for batch in marked_batches(dataset, 32):
        for name, model in models.items():
            if model.attention is None or model.localization is None:
                continue
            with torch.no_grad():
                out = model.eval()(model.preprocess(batch.image))
            assert out.attention_logits is not None
            assert out.localization_logits is not None
            size = (batch.image.shape[2], batch.image.shape[3])
            maps = resize_map(out.attention_logits, size), out.localization_logits
            found = metrics.soft_overlap(*(torch.sigmoid(m) for m in maps))
            columns = {"name": batch.name, "group": batch.group, "map_overlap": found.numpy()}
            parts.setdefault(name, []).append(pd.DataFrame(columns))
    return {name: pd.concat(tables, ignore_index=True) for name, tables in parts.items()}


def overlap_rows(
    overlaps: Mapping[str, pd.DataFrame],
    systems: Sequence[System],
    pairs: Sequence[tuple[System, System]],
    dataset: str,
    resamples: int = 2000,
) -> list[dict[str, Any]]:
    """Rows `map_overlap` of systems that have both maps, and `map_overlap_difference` of pairs."""
    rows = []
    for system in systems:
        if system.tag in overlaps:
            table = overlaps[system.tag]
            values = table["map_overlap"].to_numpy()
            found = bootstrap_interval(np.nanmean, table["group"], values, resamples=resamples)
            rows.append(pooled_row(dataset, system, "map_overlap", found))
    for a, b in pairs:
        if a.tag in overlaps and b.tag in overlaps:
            first, second = overlaps[a.tag], overlaps[b.tag]
            x, y = (t["map_overlap"].to_numpy() for t in (first, second))
            both = paired_interval(np.nanmean, first["group"], x, y, resamples=resamples)
            rows.append(pooled_row(dataset, a, "map_overlap_difference", both, **b.as_other))
    return rows
