"""What a verdict is worth when every defect is gone: its surroundings say the rest.

A photograph of a defective part differs from one of an intact part in more than the defect: it
shows another part. A classifier may rank photographs by that. So every defect is filled with intact
surface, every intact part is filled at the place of somebody's defect, and the same classifier
ranks them again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from gainbook.lab.reference import System
from gainbook.lab.tables import pooled_row
from gainmtl import metrics
from gainmtl.evaluation.inpainting import dilate
from gainmtl.evaluation.interventions import MARGIN_PIXELS, SURFACES, fill, nearest_surfaces
from gainmtl.evaluation.stats import bootstrap_interval, paired_interval
from gainmtl.model import GAINMTL
from gainmtl.types import Sample, collate

METRIC = "auroc_without_defects"
"""The result rows' name for it."""


@torch.no_grad()
def ask_without_defects(
    models: Mapping[str, GAINMTL], dataset: Dataset[Sample], batch_size: int = 32
) -> dict[str, pd.DataFrame]:
    """Ask every model about parts as they are and with the defect's place filled.

    A defective part with a mask is filled there; an intact one in the same way at the place of a
    drawn defective part's mask, so that the filling itself tells nothing. Defective parts without
    a mask are left out.

    Returns:
        By model, one row per part, the defective ones first: `name, group, defect_type,
        is_defective`, and the defect probabilities `as_it_is` and `filled`.

    Raises:
        ValueError: fewer than two intact parts, or no defective one with a mask.
    """
    samples: list[Sample] = list(DataLoader(dataset, batch_size=None))
    bad = [s for s in samples if s.is_defective and s.has_mask]
    intact = [s for s in samples if not s.is_defective]
    if not bad or len(intact) < 2:
        raise ValueError(
            "ask_without_defects: expected a defective part with a mask and two intact ones, found "
            f"{len(bad)} and {len(intact)}"
        )
    drawn = torch.randint(len(bad), (len(intact),), generator=torch.Generator().manual_seed(0))
    borrowed = [s._replace(mask=bad[int(k)].mask) for s, k in zip(intact, drawn, strict=True)]
    # Never more than half of them at once: their surfaces come from the others.
    size = min(batch_size, len(intact) // 2)
    states = {name: model.training for name, model in models.items()}
    parts: dict[str, list[pd.DataFrame]] = {name: [] for name in models}
    for some in (bad, borrowed):
        for start in range(0, len(some), size):
            here = range(start, start + size) if some is borrowed else range(0)
            lent = [s.image for k, s in enumerate(intact) if k not in here][:SURFACES]
            batch = collate(some[start : start + size])
            filled = _filled(batch.image, batch.mask, torch.stack(lent))
            for name, model in models.items():
                columns = {
                    "name": batch.name,
                    "group": batch.group,
                    "defect_type": batch.defect_type,
                    "is_defective": batch.is_defective.numpy(),
                    "as_it_is": _probability(model.eval(), batch.image),
                    "filled": _probability(model, filled),
                }
                parts[name].append(pd.DataFrame(columns))
    for name, model in models.items():
        model.train(states[name])
    return {name: pd.concat(tables, ignore_index=True) for name, tables in parts.items()}


def _filled(images: Tensor, masks: Tensor, intact: Tensor) -> Tensor:
    region = dilate(masks, MARGIN_PIXELS)
    return fill(images, region, region, nearest_surfaces(images, masks, intact))


def _probability(model: GAINMTL, images: Tensor) -> Any:
    images = images.to(next(model.parameters()).device)
    images = images.contiguous(memory_format=torch.channels_last)
    return model(model.preprocess(images)).defect_probability.cpu().double().numpy()


def surroundings_rows(
    answers: pd.DataFrame, dataset: str, system: System, resamples: int = 2000
) -> list[dict[str, Any]]:
    """Rows `auroc` and `auroc_without_defects`, over all types and, with several, of each.

    The second is the area under the ROC curve of the filled pictures, in [0, 1]: 0.5 where nothing
    but the defects told the two kinds apart. Rows of a type set its parts against all intact ones,
    with `defect_type` in the condition; of all types `auroc` is not repeated.
    """
    bad = answers["is_defective"].to_numpy(bool)
    kinds = sorted(set(answers.loc[bad, "defect_type"]))
    rows = []
    for kind in [None, *(kinds if len(kinds) > 1 else [])]:
        part = answers[~bad | (answers["defect_type"].to_numpy() == kind)] if kind else answers
        extra = {} if kind is None else {"defect_type": kind}
        asked = {METRIC: "filled"} | ({} if kind is None else {"auroc": "as_it_is"})
        for metric, column in asked.items():
            given = part["group"], part[column], part["is_defective"]
            found = bootstrap_interval(metrics.auroc, *given, resamples=resamples)
            rows.append(pooled_row(dataset, system, metric, found, **extra))
    return rows


def surroundings_differences(
    answers: Mapping[str, pd.DataFrame],
    pairs: Sequence[tuple[System, System]],
    dataset: str,
    resamples: int = 2000,
) -> list[dict[str, Any]]:
    """Rows `auroc_without_defects_difference`, first minus second, the same pictures for both."""
    rows = []
    for a, b in pairs:
        first, second = answers[a.tag], answers[b.tag]
        if list(first["name"]) != list(second["name"]):
            raise ValueError(
                "surroundings_differences: the two systems were not asked about the same parts"
            )
        given = first["group"], first["filled"], second["filled"], [first["is_defective"]]
        found = paired_interval(metrics.auroc, *given, resamples=resamples)
        rows.append(pooled_row(dataset, a, f"{METRIC}_difference", found, **b.as_other))
    return rows
