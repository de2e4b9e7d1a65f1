"""The ranking of parts when every defect is gone: what is left comes from the surroundings.

A photograph of a defective part differs from one of an intact part in more than the defect: it
shows another part. A classifier may rank photographs by that. So every defect is filled with intact
surface, every intact part is filled at the place of somebody's defect, and the same classifier
ranks them again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from gainbook.lab.measures import Measure
from gainmtl import metrics
from gainmtl.evaluation.inpainting import dilate
from gainmtl.evaluation.interventions import MARGIN_PIXELS, SURFACES, fill, nearest_surfaces
from gainmtl.model import GAINMTL
from gainmtl.types import Sample, collate

METRIC = "auroc_without_defects"
MEASURES = (
    Measure(METRIC, "filled", statistic=metrics.auroc, beside=("is_defective",), types="each"),
    Measure(
        "auroc", "as_it_is", statistic=metrics.auroc, beside=("is_defective",), types="only",
        pair="",
    ),
)  # fmt: skip
"""`auroc_without_defects` is the area under the ROC curve of the filled pictures, in [0, 1]: 0.5
where only the defects distinguish the two kinds."""


@torch.no_grad()
def score_without_defects(
    models: Mapping[str, GAINMTL], dataset: Dataset[Sample], batch_size: int = 32
) -> dict[str, pd.DataFrame]:
    """Defect probabilities of every model for parts as they are and with the place filled.

    A defective part with a mask is filled there; an intact one in the same way at the place of a
    drawn defective part's mask, so that the filling itself is no clue. Defective parts without
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
            "score_without_defects: expected a defective part with a mask and two intact ones, "
            f"found {len(bad)} and {len(intact)}"
        )
    drawn = torch.randint(len(bad), (len(intact),), generator=torch.Generator().manual_seed(0))
    borrowed = [s._replace(mask=bad[int(k)].mask) for s, k in zip(intact, drawn, strict=True)]
    # At most half of the intact parts at once: their surfaces come from the others.
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
