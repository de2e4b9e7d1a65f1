"""Interventions: the output of a model after a change of its features or of the image.

Three interventions at two levels:

- `removed`: without the defect. The verdict of a model that uses the defect becomes normal.
- `kept`: nothing but the defect. The verdict stays defective.
- `moved`: without as large a region beside the defect. The verdict stays defective.

At the level `features` the mean of normal features replaces cells, and only the heads are computed
again. At the level `image` intact surface replaces pixels, and the whole network is computed again.

Masks choose the regions, so this is evaluation and never part of a prediction.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from gainmtl import metrics
from gainmtl.counterfactual import cell_mask
from gainmtl.evaluation.inpainting import dilate, free_shift, inpaint, own_surface, shift
from gainmtl.interface import check_model, check_part, check_reading, evaluating
from gainmtl.model import GAINMTL
from gainmtl.types import Batch, Sample, collate

INTERVENTIONS = ("removed", "kept", "moved")
LEVELS = ("features", "image")
MARGIN_CELLS = 1
"""Margin around the mask at the features, the same as in the counterfactual term of training."""
MARGIN_PIXELS = 3
"""Margin around the mask on the image."""
SURFACES = 64
"""Number of normal images from which surfaces are chosen."""


class Pictures(NamedTuple):
    """Images (B, C, H, W) in [0, 1] after each intervention; see `intervene`."""

    removed: Tensor
    kept: Tensor
    moved: Tensor
    region: Tensor
    """(B, 1, H, W), 0 or 1: the mask with its margin, which `removed` fills and `kept` keeps."""
    elsewhere: Tensor
    """(B, 1, H, W), 0 or 1: the region that `moved` fills; empty without `has_elsewhere`."""
    has_elsewhere: Tensor
    """(B,) bool: whether the region fits into the image beside itself. A defect that covers half of
    the part does not, so it has no control of its size."""


def intervene(
    images: Tensor,
    masks: Tensor,
    surfaces: Tensor,
    margin: int = MARGIN_PIXELS,
    generator: torch.Generator | None = None,
) -> Pictures:
    """The three interventions on images, by `inpaint`.

    `removed` and `moved` take texture from the image itself, from the nearest place without defect,
    or from the `surfaces` if there is no such place. In `kept` the surface surrounds the defect.

    Args:
        images: (B, C, H, W) in [0, 1].
        masks: (B, 1, H, W), 0 or 1.
        surfaces: (B, C, H, W), an intact surface similar to each image; see `nearest_surfaces`.
        margin: pixels around the mask that count as defect, so that no part of it is at the border
            of the fill.
        generator: draws the place of `moved`; `None` is the nearest place.
    """
    region = dilate(masks, margin)
    removed = fill(images, region, region, surfaces)
    kept = inpaint(images, 1 - region, surfaces)
    shifts, has_elsewhere = free_shift(region, region, generator)
    elsewhere = shift(region, shifts) * has_elsewhere[:, None, None, None]
    moved = fill(images, elsewhere, torch.maximum(region, elsewhere), surfaces)
    return Pictures(removed, kept, moved, region, elsewhere, has_elsewhere)


def fill(images: Tensor, regions: Tensor, avoid: Tensor, surfaces: Tensor) -> Tensor:
    """Fill `regions` with intact surface: the image's own without `avoid`, else `surfaces`.

    Shapes as in `intervene`.
    """
    donors, exists = own_surface(images, regions, avoid)
    return inpaint(images, regions, torch.where(exists[:, None, None, None], donors, surfaces))


def nearest_surfaces(images: Tensor, masks: Tensor, normal: Tensor) -> Tensor:
    """For each image the intact part of `normal` (N, C, H, W) with the most similar surface.

    The distance is Euclidean in brightness, contrast and mean gradient down and across, outside the
    mask, each in units of its standard deviation over the intact parts. Returns (B, C, H, W).
    """
    reference = _texture(normal, torch.zeros_like(normal[:, :1]))
    spread = reference.std(0, correction=0).clamp_min(1e-6)
    distance = torch.cdist(_texture(images, masks) / spread, reference / spread)
    return normal[distance.argmin(1)]


def _texture(images: Tensor, masks: Tensor) -> Tensor:
    """Brightness, contrast, mean gradient down and across, outside the masks: (B, 4)."""
    grey, outside = images.mean(1, keepdim=True), (masks < 0.5).to(images.dtype)

    def mean(values: Tensor, weights: Tensor) -> Tensor:
        return (values * weights).sum((1, 2, 3)) / weights.sum((1, 2, 3)).clamp_min(1)

    level = mean(grey, outside)
    spread = mean((grey - level[:, None, None, None]).square(), outside).sqrt()
    down = mean(grey.diff(dim=2).abs(), outside[:, :, 1:] * outside[:, :, :-1])
    across = mean(grey.diff(dim=3).abs(), outside[..., 1:] * outside[..., :-1])
    return torch.stack([level, spread, down, across], 1)


@torch.no_grad()
def score_interventions(
    models: Mapping[str, GAINMTL],
    dataset: Dataset[Sample],
    batch_size: int = 32,
    margin_cells: int = MARGIN_CELLS,
    margin_pixels: int = MARGIN_PIXELS,
) -> dict[str, pd.DataFrame]:
    """All interventions on the defective parts with a mask, the same images for every model.

    Returns:
        By model, one row per such part, in the dataset's order: `name, group, defect_type,
        defect_probability, is_flagged`; for every level and intervention the defect probability
        `<level>.<intervention>` (NaN for `moved` if no region of that size fits elsewhere); and
        `flip.<level>.<intervention>`, 1 if the intervention changes the verdict from defective to
        normal, 0 if not, NaN if the verdict was not defective before.

    Raises:
        TypeError: a model without features that its heads read, or no part of the data.
        ValueError: no normal part for the surfaces, or no defective part with a mask.
    """
    for model in models.values():
        advice = "only its features can be replaced"
        check_model("score_interventions", model, (GAINMTL,), advice)
    check_part(dataset)
    normal = normal_images(dataset)
    tables: dict[str, list[pd.DataFrame]] = {name: [] for name in models}
    # Separate generators, so that the draws for one model don't depend on the other models.
    places = torch.Generator().manual_seed(0)
    cells = {name: torch.Generator().manual_seed(0) for name in models}
    with evaluating(*models.values()):
        for batch in marked_batches(dataset, batch_size):
            for model in models.values():
                check_reading(model, batch.image, dataset)
            surfaces = nearest_surfaces(batch.image, batch.mask, normal)
            pictures = intervene(batch.image, batch.mask, surfaces, margin_pixels, places)
            for name, model in models.items():
                scores = _probabilities(model, batch, pictures, margin_cells, cells[name])
                tables[name].append(_table(batch, scores, model.threshold))
    if not any(tables.values()):
        raise ValueError(
            "score_interventions: expected defective parts with a mask, got a dataset without any"
        )
    return {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()}


def _probabilities(
    model: GAINMTL, batch: Batch, pictures: Pictures, margin: int, generator: torch.Generator
) -> dict[str, NDArray[np.float64]]:
    """Defect probabilities (B,): unchanged, and after every intervention at both levels."""
    device = next(model.parameters()).device

    def features_of(images: Tensor) -> Tensor:
        return model.features(model.preprocess(images.to(device)))

    def probability(features: Tensor) -> Tensor:
        logits = model.classify(features).output.logits
        return 1 - logits.cpu().double().softmax(1)[:, 0]

    features = features_of(batch.image)
    cells = cell_mask(batch.mask, (features.shape[2], features.shape[3]), margin)
    shifts, exists = free_shift(cells, cells, generator)
    elsewhere = shift(cells, shifts)
    true = model.counterfactual(features, cells.to(device), margin=0)
    moved = model.counterfactual(features, elsewhere.to(device), margin=0)
    undefined = torch.full(exists.shape, math.nan, dtype=torch.float64)
    scores = {
        "defect_probability": probability(features),
        "features.removed": true.removed.cpu().double(),
        "features.kept": true.kept.cpu().double(),
        "features.moved": torch.where(exists, moved.removed.cpu().double(), undefined),
        "image.removed": probability(features_of(pictures.removed)),
        "image.kept": probability(features_of(pictures.kept)),
        "image.moved": torch.where(
            pictures.has_elsewhere.cpu(), probability(features_of(pictures.moved)), undefined
        ),
    }
    return {name: values.numpy() for name, values in scores.items()}


def _table(batch: Batch, scores: dict[str, NDArray[np.float64]], threshold: float) -> pd.DataFrame:
    flagged = metrics.is_flagged(scores["defect_probability"], threshold)
    columns: dict[str, Any] = {
        "name": batch.name,
        "group": batch.group,
        "defect_type": batch.defect_type,
        "defect_probability": scores["defect_probability"],
        "is_flagged": flagged,
    }
    for level, intervention in itertools.product(LEVELS, INTERVENTIONS):
        name = f"{level}.{intervention}"
        columns[name] = scores[name]
        counts = flagged & ~np.isnan(scores[name])
        columns[f"flip.{name}"] = np.full(len(flagged), math.nan)
        columns[f"flip.{name}"][counts] = ~metrics.is_flagged(scores[name][counts], threshold)
    return pd.DataFrame(columns)


def marked_batches(dataset: Dataset[Sample], batch_size: int) -> Any:
    """Batches of the defective samples with a mask."""
    chosen: list[Sample] = []
    for sample in _samples(dataset):
        if sample.is_defective and sample.has_mask:
            chosen.append(sample)
        if len(chosen) == batch_size:
            yield collate(chosen)
            chosen = []
    if chosen:
        yield collate(chosen)


def normal_images(dataset: Dataset[Sample]) -> Tensor:
    """The first `SURFACES` normal images, (N, C, H, W)."""
    normal = (sample.image for sample in _samples(dataset) if not sample.is_defective)
    images = list(itertools.islice(normal, SURFACES))
    if not images:
        raise ValueError(
            "score_interventions: expected normal parts, whose surface replaces the defect, got a "
            "dataset without any"
        )
    return torch.stack(images)


def _samples(dataset: Dataset[Sample]) -> Any:
    loader: DataLoader[Any] = DataLoader(dataset, batch_size=None)
    return iter(loader)
