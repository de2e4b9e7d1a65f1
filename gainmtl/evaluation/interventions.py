"""Ask a model again after an intervention, at the features and on the picture.

Three questions at two levels. `removed`: the defect is gone, does the verdict become normal?
`kept`: nothing but the defect is left, does it stay? `moved`: as much is gone elsewhere, does it
stay? At the `features` normal means take a cell's place and only the heads are asked again; on the
`image` intact surface takes a region's place and the whole network is.

Masks choose the regions, so all this is evaluation and never part of a prediction.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from gainmtl.counterfactual import cell_mask
from gainmtl.evaluation.inpainting import dilate, free_shift, inpaint, own_surface, shift
from gainmtl.model import GAINMTL
from gainmtl.types import Batch, Sample, collate

INTERVENTIONS = ("removed", "kept", "moved")
LEVELS = ("features", "image")
MARGIN_CELLS = 1
"""What the counterfactual term of the training loss removes, too."""
MARGIN_PIXELS = 3
SURFACES = 64


class Pictures(NamedTuple):
    """Images (B, C, H, W) in [0, 1] after each intervention; see `intervene`."""

    removed: Tensor
    kept: Tensor
    moved: Tensor
    region: Tensor
    """(B, 1, H, W), 0 or 1: what `removed` fills and `kept` keeps, the mask and its margin."""
    elsewhere: Tensor
    """(B, 1, H, W), 0 or 1: what `moved` fills; empty where `has_elsewhere` is false."""
    has_elsewhere: Tensor
    """(B,) bool: whether the region fits beside itself. A defect of half the part has no control
    of its size."""


def intervene(
    images: Tensor,
    masks: Tensor,
    surfaces: Tensor,
    margin: int = MARGIN_PIXELS,
    generator: torch.Generator | None = None,
) -> Pictures:
    """The three interventions on pictures, by `inpaint`.

    The texture of `removed` and `moved` is the image's own, from the nearest place clear of the
    defect, or the surface's where there is none; in `kept` the surface surrounds the defect.

    Args:
        images: (B, C, H, W) in [0, 1].
        masks: (B, 1, H, W), 0 or 1.
        surfaces: (B, C, H, W), an intact surface like each image; see `nearest_surfaces`.
        margin: pixels around the mask that count as the defect, so that no rest of it stands at
            the border of the fill.
        generator: draws the place of `moved`; without one it is the nearest.
    """
    region = dilate(masks, margin)
    removed = fill(images, region, region, surfaces)
    kept = inpaint(images, 1 - region, surfaces)
    shifts, has_elsewhere = free_shift(region, region, generator)
    elsewhere = shift(region, shifts) * has_elsewhere[:, None, None, None]
    moved = fill(images, elsewhere, torch.maximum(region, elsewhere), surfaces)
    return Pictures(removed, kept, moved, region, elsewhere, has_elsewhere)


def fill(images: Tensor, regions: Tensor, avoid: Tensor, surfaces: Tensor) -> Tensor:
    """Intact surface in the place of `regions`: the image's own from the nearest place clear of
    `avoid`, else the given one. Shapes as in `intervene`."""
    donors, found = own_surface(images, regions, avoid)
    return inpaint(images, regions, torch.where(found[:, None, None, None], donors, surfaces))


def nearest_surfaces(images: Tensor, masks: Tensor, normal: Tensor) -> Tensor:
    """Of intact parts (N, C, H, W) the one whose surface is most like each image: (B, C, H, W).

    Alike in brightness, contrast and the strength of the gradients down and across, outside the
    mask, each in units of its spread over the intact parts.
    """
    reference = _texture(normal, torch.zeros_like(normal[:, :1]))
    spread = reference.std(0, correction=0).clamp_min(1e-6)
    distance = torch.cdist(_texture(images, masks) / spread, reference / spread)
    return normal[distance.argmin(1)]


def _texture(images: Tensor, masks: Tensor) -> Tensor:
    """Four figures of the surface outside the masks, (B, 4)."""
    grey, known = images.mean(1, keepdim=True), (masks < 0.5).to(images.dtype)

    def mean(values: Tensor, weights: Tensor) -> Tensor:
        return (values * weights).sum((1, 2, 3)) / weights.sum((1, 2, 3)).clamp_min(1)

    level = mean(grey, known)
    spread = mean((grey - level[:, None, None, None]).square(), known).sqrt()
    down = mean(grey.diff(dim=2).abs(), known[:, :, 1:] * known[:, :, :-1])
    across = mean(grey.diff(dim=3).abs(), known[..., 1:] * known[..., :-1])
    return torch.stack([level, spread, down, across], 1)


@torch.no_grad()
def ask(
    models: Mapping[str, GAINMTL],
    dataset: Dataset[Sample],
    batch_size: int = 32,
    margin_cells: int = MARGIN_CELLS,
    margin_pixels: int = MARGIN_PIXELS,
) -> dict[str, pd.DataFrame]:
    """All interventions on the defective parts with a mask, the same pictures for every model.

    Returns:
        By model, one row per such part, in the dataset's order: `name, group, defect_type,
        defect_probability, is_flagged`; for every level and intervention the defect probability
        `<level>.<intervention>` (NaN for `moved` where nothing of that size lies elsewhere); and
        `flip.<level>.<intervention>`, 1 where a verdict "defective" becomes normal by it, 0 where
        it stays, NaN where it was not "defective" to begin with.

    Raises:
        ValueError: no normal part to take surfaces from, or no defective one with a mask.
    """
    normal = normal_images(dataset, batch_size)
    states = {name: model.training for name, model in models.items()}
    parts: dict[str, list[pd.DataFrame]] = {name: [] for name in models}
    # Of its own for every question, so that the draws of one don't hang on another's.
    places = torch.Generator().manual_seed(0)
    cells = {name: torch.Generator().manual_seed(0) for name in models}
    for batch in marked_batches(dataset, batch_size):
        surfaces = nearest_surfaces(batch.image, batch.mask, normal)
        pictures = intervene(batch.image, batch.mask, surfaces, margin_pixels, places)
        for name, model in models.items():
            said = _answers(model.eval(), batch, pictures, margin_cells, cells[name])
            parts[name].append(_table(batch, said, model.threshold))
    for name, model in models.items():
        model.train(states[name])
    if not any(parts.values()):
        raise ValueError("ask: expected defective parts with a mask, found none in the dataset")
    return {name: pd.concat(tables, ignore_index=True) for name, tables in parts.items()}


def _answers(
    model: GAINMTL,
    batch: Batch,
    pictures: Pictures,
    margin: int,
    generator: torch.Generator,
) -> dict[str, NDArray[np.float64]]:
    device = next(model.parameters()).device

    def features_of(images: Tensor) -> Tensor:
        return model.features(model.preprocess(images.to(device)))

    def verdict(features: Tensor) -> Tensor:
        logits = model.decide(features).verdict.logits
        return 1 - logits.cpu().double().softmax(1)[:, 0]

    features = features_of(batch.image)
    cells = cell_mask(batch.mask, (features.shape[2], features.shape[3]), margin)
    shifts, found = free_shift(cells, cells, generator)
    elsewhere = shift(cells, shifts)
    true = model.counterfactual(features, cells.to(device), margin=0)
    moved = model.counterfactual(features, elsewhere.to(device), margin=0)
    undefined = torch.full(found.shape, math.nan, dtype=torch.float64)
    said = {
        "defect_probability": verdict(features),
        "features.removed": true.removed.cpu().double(),
        "features.kept": true.kept.cpu().double(),
        "features.moved": torch.where(found, moved.removed.cpu().double(), undefined),
        "image.removed": verdict(features_of(pictures.removed)),
        "image.kept": verdict(features_of(pictures.kept)),
        "image.moved": torch.where(
            pictures.has_elsewhere.cpu(), verdict(features_of(pictures.moved)), undefined
        ),
    }
    return {name: values.numpy() for name, values in said.items()}


def _table(batch: Batch, said: dict[str, NDArray[np.float64]], threshold: float) -> pd.DataFrame:
    flagged = said["defect_probability"] >= threshold
    columns: dict[str, Any] = {
        "name": batch.name,
        "group": batch.group,
        "defect_type": batch.defect_type,
        "defect_probability": said["defect_probability"],
        "is_flagged": flagged,
    }
    for level, intervention in itertools.product(LEVELS, INTERVENTIONS):
        name = f"{level}.{intervention}"
        columns[name] = said[name]
        flips = np.where(np.isnan(said[name]), math.nan, said[name] < threshold)
        columns[f"flip.{name}"] = np.where(flagged, flips, math.nan)
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


def normal_images(dataset: Dataset[Sample], batch_size: int) -> Tensor:
    """The first `SURFACES` normal images, (N, C, H, W)."""
    normal = (sample.image for sample in _samples(dataset) if not sample.is_defective)
    images: Sequence[Tensor] = list(itertools.islice(normal, SURFACES))
    if not images:
        raise ValueError(
            "ask: expected normal parts, whose surface takes the defect's place, found none"
        )
    return torch.stack(list(images))


def _samples(dataset: Dataset[Sample]) -> Any:
    loader: DataLoader[Any] = DataLoader(dataset, batch_size=None)
    return iter(loader)
