"""Does a verdict hang on what the system's own map marks? Area for area, of any system.

Five questions on the picture. A region is the mask grown by a margin: `removed` fills it, `kept`
keeps nothing else, `moved` fills as much elsewhere (`gainmtl.evaluation.interventions`). `marked`
fills *as many pixels*, those that the system's own defect map marks most; `unmarked` those it marks
least. The area is the defect's for every system, so none gains by marking much, and a picture is
asked, which every system has. `reason_marked` and `reason_unmarked` ask the same of the map that a
system offers as its reason: the evidence map where it has one, else the defect map again. ROAD
stands beside both, which takes away fixed shares of the pixels.

Masks choose areas, so all this is evaluation and never part of a prediction.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from gainmtl import metrics
from gainmtl.evaluation.interventions import (
    fill,
    intervene,
    marked_batches,
    nearest_surfaces,
    normal_images,
)
from gainmtl.interface import Inspector
from gainmtl.metrics.faithfulness import pixel_ranks
from gainmtl.types import Batch, Outputs, Sample

QUESTIONS = {
    "removed": "the defect removed: should become normal",
    "marked": "as much of what its map marks: should become normal",
    "moved": "as much removed elsewhere: should stay",
    "unmarked": "as much of what its map marks least: should stay",
    "kept": "only the defect kept: should stay",
}
"""The questions in words, in the order of figures."""
REASONS = ("reason_marked", "reason_unmarked")
"""`marked` and `unmarked` of the reason map."""
LARGEST_SHARE = 0.5
"""Above this share of the picture the most and the least marked pixels overlap: undefined."""
ROAD_SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)


def marked_regions(
    maps: Tensor, counts: Tensor, size: tuple[int, int] | None = None
) -> tuple[Tensor, Tensor]:
    """The `counts` (B,) most and least marked pixels of maps (B, 1, h, w): two of (B, 1, *size).

    `size` is that of the picture, `None` the map's own. Equal pixels in a random order: a map that
    is 0 over half of the picture says nothing there.
    """
    size = size or (maps.shape[2], maps.shape[3])
    ranks = pixel_ranks(maps, size).to(maps.device)
    wanted = counts.to(maps.device)[:, None, None, None]
    total = size[0] * size[1]
    return (ranks < wanted).to(maps.dtype), (ranks >= total - wanted).to(maps.dtype)


@torch.no_grad()
def ask_about_maps(
    models: Mapping[str, Inspector],
    dataset: Dataset[Sample],
    road: int = 0,
    batch_size: int = 32,
    seed: int = 0,
) -> dict[str, pd.DataFrame]:
    """All questions on the defective parts with a mask, the same pictures for every system.

    Args:
        models: by name; each on its own device, left in the mode it was in.
        dataset: the test part.
        road: on how many of these parts ROAD is measured, drawn by `seed`; NaN on the others.
        batch_size: parts asked about together.
        seed: of the draw, and of the places of `moved`.

    Returns:
        By model, one row per part, in the dataset's order: `name, group, defect_type,
        defect_probability, is_flagged`; `flip.<question>`, 1 where a verdict "defective" becomes
        normal, 0 where it stays, NaN where it was not "defective", or where there is no room for
        the question, for `QUESTIONS` and `REASONS`; and `road` and `reason_road`, of flagged parts.

    Raises:
        ValueError: no normal part to take surfaces from, or no defective one with a mask.
    """
    known: Any = dataset
    marked = int(np.sum(known.labels & known.has_mask))
    if not marked:
        raise ValueError("ask_about_maps: expected defective parts with a mask, found none")
    drawn = set(np.random.default_rng(seed).permutation(marked)[:road].tolist())
    normal = normal_images(dataset, batch_size)
    states = {name: model.training for name, model in models.items()}
    tables: dict[str, list[pd.DataFrame]] = {name: [] for name in models}
    places, start = torch.Generator().manual_seed(seed), 0
    for batch in marked_batches(dataset, batch_size):
        surfaces = nearest_surfaces(batch.image, batch.mask, normal)
        pictures = intervene(batch.image, batch.mask, surfaces, generator=places)
        chosen = np.array([start + i in drawn for i in range(len(batch.name))])
        start += len(batch.name)
        for name, model in models.items():
            shared = {
                "removed": (pictures.removed, None),
                "moved": (pictures.moved, pictures.has_elsewhere.numpy()),
                "kept": (pictures.kept, None),
            }
            table = _ask_one(model.eval(), batch, pictures.region, surfaces, shared, chosen)
            tables[name].append(table)
    for name, model in models.items():
        model.train(states[name])
    return {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()}


def _ask_one(
    model: Inspector,
    batch: Batch,
    region: Tensor,
    surfaces: Tensor,
    shared: Mapping[str, tuple[Tensor, NDArray[np.bool_] | None]],
    chosen: NDArray[np.bool_],
) -> pd.DataFrame:
    device = next(model.parameters()).device

    def probability(normalised: Tensor) -> Tensor:
        return 1 - model(normalised).logits.cpu().double().softmax(1)[:, 0]

    def asked(pictures: Tensor) -> NDArray[np.float64]:
        return probability(model.preprocess(pictures.to(device))).numpy()

    own = model.preprocess(batch.image.to(device))
    said = model(own)
    before = (1 - said.logits.cpu().double().softmax(1)[:, 0]).numpy()
    flagged = before >= model.threshold
    maps = {"": said.defect_map.float().cpu()}
    if isinstance(said, Outputs):
        maps["reason_"] = said.cam.float().cpu()
    counts = region.flatten(1).sum(1).long()
    fits = (counts <= LARGEST_SHARE * region[0].numel()).numpy()
    size = (region.shape[2], region.shape[3])
    pictures: dict[str, tuple[Tensor, NDArray[np.bool_] | None]] = {**shared}
    for prefix, shown in maps.items():
        for name, taken in zip(
            ("marked", "unmarked"), marked_regions(shown, counts, size), strict=True
        ):
            pictures[prefix + name] = fill(batch.image, taken, taken, surfaces), fits
    columns: dict[str, Any] = {
        "name": batch.name,
        "group": batch.group,
        "defect_type": batch.defect_type,
        "defect_probability": before,
        "is_flagged": flagged,
    }
    for question, (picture, defined) in pictures.items():
        valid = flagged if defined is None else flagged & defined
        columns[f"flip.{question}"] = np.where(valid, asked(picture) < model.threshold, math.nan)
    wanted = chosen & flagged
    pick = torch.from_numpy(wanted)
    for prefix, shown in maps.items():
        columns[f"{prefix}road"] = np.full(len(flagged), math.nan)
        if wanted.any():
            found = metrics.road(probability, own[pick.to(device)], shown[pick], ROAD_SHARES)
            columns[f"{prefix}road"][wanted] = found.combined.numpy()
    if "reason_" not in maps:  # the defect map is the reason, and has been asked
        for name in ("marked", "unmarked"):
            columns[f"flip.reason_{name}"] = columns[f"flip.{name}"]
        columns["reason_road"] = columns["road"]
    return pd.DataFrame(columns)
