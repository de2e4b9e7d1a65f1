"""Measures of the chapter's live part, where the same part without its defect can be rendered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from gainmtl import metrics
from gainmtl.counterfactual import cell_mask
from gainmtl.datasets.synthetic import SyntheticDataset
from gainmtl.evaluation.inpainting import free_shift, inpaint, own_surface, shift
from gainmtl.evaluation.interventions import Pictures, intervene, nearest_surfaces
from gainmtl.model import GAINMTL
from gainmtl.types import Batch, collate


class Defects(NamedTuple):
    """The D defective test parts with a mask."""

    batch: Batch
    truth: Tensor
    """(D, 3, H, W) in [0, 1], the same parts rendered without their defects."""
    surfaces: Tensor
    """(D, 3, H, W), the most similar normal part of each."""
    pictures: Pictures
    """Defect removed, kept alone, and as much removed elsewhere."""


def defects_of(test: SyntheticDataset, seed: int) -> Defects:
    """The defective parts of a synthetic test set, rendered with and without their defects."""
    bad = np.flatnonzero(test.labels & test.has_mask)
    batch = collate([test[int(i)] for i in bad])
    normal = torch.stack([test[int(i)].image for i in np.flatnonzero(~test.labels)])
    truth = torch.stack([test.clean_image(int(i)) for i in bad])
    surfaces = nearest_surfaces(batch.image, batch.mask, normal)
    generator = torch.Generator().manual_seed(seed)
    return Defects(
        batch, truth, surfaces, intervene(batch.image, batch.mask, surfaces, generator=generator)
    )


def fill_error(images: Tensor, defects: Defects) -> NDArray[np.float64]:
    """Mean absolute distance to the true surface under the mask, (D,) in grey levels of 255."""
    mask = defects.batch.mask
    distance = (images - defects.truth).abs().mean(1, keepdim=True) * mask
    return (255 * distance.sum((1, 2, 3)) / mask.sum((1, 2, 3))).double().numpy()


def fill_roughness(images: Tensor, defects: Defects) -> NDArray[np.float64]:
    """Sum of horizontal gradients in the filled region over that of the true surface, (D,) >= 0.

    1 for a fill as rough as the surface.
    """
    region = defects.pictures.region
    inner = region[..., 1:] * region[..., :-1]

    def total(pixels: Tensor) -> Tensor:
        return (pixels.diff(dim=3).abs().mean(1, keepdim=True) * inner).sum((1, 2, 3))

    return (total(images) / total(defects.truth).clamp_min(1e-6)).double().numpy()


def fill_table(images: Tensor, defects: Defects) -> pd.DataFrame:
    """One row per part: `name, group, fill_error, fill_roughness` of filled images."""
    batch = defects.batch
    measures = {f.__name__: f(images, defects) for f in (fill_error, fill_roughness)}
    return pd.DataFrame({"name": batch.name, "group": batch.group, **measures})


def _is_normal(model: GAINMTL, probability: Tensor) -> Tensor:
    """(B,) bool: the verdicts "normal", from defect probabilities (B,)."""
    return ~torch.from_numpy(metrics.is_flagged(probability.double().numpy(), model.threshold))


@torch.no_grad()
def truth_table(model: GAINMTL, defects: Defects, answers: pd.DataFrame) -> pd.DataFrame:
    """One row per part that `model` flags: does the verdict fall, by the fill and by the truth?

    Columns `name, group, fill, truth, agreement`, 0 or 1. `answers` is the model's table of
    `lab.flips.score_flips` on the same parts, in order.
    """
    normal = _is_normal(model, model(model.preprocess(defects.truth)).defect_probability)
    flagged = answers["is_flagged"].to_numpy(bool)
    fill = answers.loc[flagged, "flip.image.removed"].to_numpy(float)
    truth = normal.numpy()[flagged].astype(float)
    table = answers.loc[flagged, ["name", "group"]].reset_index(drop=True)
    return table.assign(fill=fill, truth=truth, agreement=(fill == truth).astype(float))


@torch.no_grad()
def margin_means(model: GAINMTL, defects: Defects, margins: Sequence[int]) -> pd.DataFrame:
    """Intervention at the features with the mask's cells grown by each margin.

    Columns: `margin`, in cells; `leak`, the share of the features' change (part minus the same
    part without its defect, squared) outside these cells; `removed` and `moved`, the shares of
    flagged parts whose verdict becomes normal when these cells, or as many elsewhere, are replaced;
    `n_removed` and `n_moved`, the parts that count. NaN where none does.
    """
    batch = defects.batch
    features, intact = (
        model.features(model.preprocess(images)) for images in (batch.image, defects.truth)
    )
    change = (features - intact).square().sum(1, keepdim=True)
    probability = model.classify(features).output.logits.double().softmax(1)[:, 1]
    flagged = ~_is_normal(model, probability)
    rows = []
    for margin in margins:
        cells = cell_mask(batch.mask, (features.shape[2], features.shape[3]), margin)
        total = change.sum((1, 2, 3)).clamp_min(1e-12)
        leak = (change * (1 - cells)).sum((1, 2, 3)) / total
        shifts, fits = free_shift(cells, cells)
        removed, moved = (
            _is_normal(model, model.counterfactual(features, where, margin=0).removed)
            for where in (cells, shift(cells, shifts))
        )
        rows.append(
            {
                "margin": margin,
                "leak": leak.double().mean().item(),
                "removed": removed[flagged].double().mean().item(),
                "moved": moved[flagged & fits].double().mean().item(),
                "n_removed": int(flagged.sum()),
                "n_moved": int((flagged & fits).sum()),
            }
        )
    return pd.DataFrame(rows)


class MovingHole(NamedTuple):
    """A filled region at several places of one part."""

    steps: list[int]
    """Distances from the defect, in pixels to the right."""
    filled: Tensor
    """(S, 3, H, W) in [0, 1]."""
    holes: Tensor
    """(S, 1, H, W), 0 or 1."""


def moving_hole(defects: Defects, candidates: NDArray[np.bool_], count: int = 13) -> MovingHole:
    """Slide the region of one part from its left edge to the right one, filled at each place.

    The part is one of the `candidates` (D,) with a narrow region, so that there is room to move; of
    all parts, if there are none.
    """
    places = np.flatnonzero(candidates)
    places = places if len(places) else np.arange(len(candidates))
    columns = [defects.pictures.region[i].amax((0, 1)).nonzero()[:, 0] for i in places]
    extent = [(int(used[0]), int(used[-1])) for used in columns]
    order = np.argsort([last - first for first, last in extent])
    chosen = int(order[len(order) // 4])
    part, (first, last) = int(places[chosen]), extent[chosen]
    region, size = defects.pictures.region[part : part + 1], defects.truth.shape[3]
    places_of = np.linspace(-first, size - 1 - last, count).round().astype(int)
    steps = sorted({0, *places_of.tolist()})
    holes = torch.cat([region.roll(step, 3) for step in steps])
    images = defects.batch.image[part].expand(len(steps), -1, -1, -1)
    donors, fits = own_surface(images, holes, torch.maximum(holes, region))
    donors = torch.where(fits[:, None, None, None], donors, defects.surfaces[part])
    return MovingHole(steps, inpaint(images, holes, donors), holes)
