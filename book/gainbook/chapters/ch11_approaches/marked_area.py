"""Does a verdict depend on the area that the system's own map marks? Measured on the image.

Every intervention replaces a region by intact surface. The region is the mask grown by a margin:
`removed` fills it, `kept` fills everything else, `moved` fills as much elsewhere
(`gainmtl.evaluation.interventions`). `marked` fills *as many pixels*, those with the highest values
of the system's own defect map, and `unmarked` those with the lowest. The area is the defect's for
every system, so no map gains by marking much. `reason_marked` and `reason_unmarked` do the same
with the map that a system offers as its reason: the evidence map where it has one, otherwise the
defect map. ROAD, which removes fixed shares of the pixels, is measured besides.

Masks choose areas, so all this is evaluation and never part of a prediction.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from gainbook.lab.measures import Measure
from gainbook.lab.systems import System
from gainbook.lab.tables import find
from gainmtl import metrics
from gainmtl.evaluation.interventions import (
    fill,
    intervene,
    marked_batches,
    nearest_surfaces,
    normal_images,
)
from gainmtl.interface import DefectModel
from gainmtl.metrics.faithfulness import pixel_ranks
from gainmtl.types import Batch, Outputs, Sample

INTERVENTION_WORDS = {
    "removed": "without the defect",
    "marked": "without what its map marks most",
    "moved": "without as much elsewhere",
    "unmarked": "without what its map marks least",
    "kept": "with the defect alone",
}
"""The interventions in words, in the order of figures: a verdict "defective" should become normal
by the first two and stay by the others."""
REASONS = ("reason_marked", "reason_unmarked")
"""`marked` and `unmarked` of the reason map."""
LARGEST_SHARE = 0.5
"""Above this share of the image the most and the least marked pixels overlap: undefined."""
ROAD_SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
_IMAGE = {"level": "image"}
MEASURES = (
    *(
        Measure("flip_rate", f"flip.{name}", condition={**_IMAGE, "intervention": name})
        for name in (*INTERVENTION_WORDS, *REASONS)
    ),
    Measure("selectivity", "selectivity", condition=_IMAGE),
    Measure("map_selectivity", "map_selectivity", "defect_map", _IMAGE),
    Measure("reason_selectivity", "reason_selectivity", condition=_IMAGE),
    Measure("road", "road", "defect_map"),
    Measure("reason_road", "reason_road"),
)
"""Means over the parts that a system flags; the rows of a pair are of the parts that both flag, so
that no system gains by the parts that it misses."""


def marked_regions(
    maps: Tensor, counts: Tensor, size: tuple[int, int] | None = None
) -> tuple[Tensor, Tensor]:
    """The `counts` (B,) most and least marked pixels of maps (B, 1, h, w): two of (B, 1, *size).

    Equal values are ordered at random: a map that is 0 over half of the image does not order it.

    Args:
        size: of the image; `None`: that of the maps.
    """
    size = size or (maps.shape[2], maps.shape[3])
    ranks = pixel_ranks(maps, size).to(maps.device)
    wanted = counts.to(maps.device)[:, None, None, None]
    total = size[0] * size[1]
    return (ranks < wanted).to(maps.dtype), (ranks >= total - wanted).to(maps.dtype)


def with_selectivities(flips: pd.DataFrame) -> pd.DataFrame:
    """The table with the columns `selectivity`, `map_selectivity` and `reason_selectivity`.

    `removed - moved`, `marked - unmarked`, and that of the reason map. Per part in {-1, 0, 1}: 1
    where the verdict depends on the place in question and not on the control.
    """
    return flips.assign(
        selectivity=flips["flip.removed"] - flips["flip.moved"],
        map_selectivity=flips["flip.marked"] - flips["flip.unmarked"],
        reason_selectivity=flips["flip.reason_marked"] - flips["flip.reason_unmarked"],
    )


@torch.no_grad()
def score_marked_areas(
    models: Mapping[str, DefectModel],
    dataset: Dataset[Sample],
    road: int = 0,
    batch_size: int = 32,
    seed: int = 0,
) -> dict[str, pd.DataFrame]:
    """All interventions on the defective parts with a mask, the same regions for every system.

    Args:
        models: by name; each stays on its device and in its mode.
        dataset: the test part.
        road: number of parts on which ROAD is measured, drawn by `seed`; NaN on the others.
        batch_size: parts per batch.
        seed: of that draw and of the places of `moved`.

    Returns:
        By model, one row per part in the dataset's order: `name, group, defect_type,
        defect_probability, is_flagged`; `flip.<intervention>` for `INTERVENTION_WORDS` and
        `REASONS`, 1 where a verdict "defective" becomes normal, 0 where it stays, NaN where it was
        not "defective" or where the image is too small for the region; `road` and `reason_road` of
        flagged parts; and the columns of `with_selectivities`.

    Raises:
        ValueError: no normal part to take surfaces from, or no defective one with a mask.
    """
    labelled: Any = dataset
    marked = int(np.sum(labelled.labels & labelled.has_mask))
    if not marked:
        raise ValueError("score_marked_areas: expected defective parts with a mask, found none")
    drawn = set(np.random.default_rng(seed).permutation(marked)[:road].tolist())
    normal = normal_images(dataset)
    states = {name: model.training for name, model in models.items()}
    tables: dict[str, list[pd.DataFrame]] = {name: [] for name in models}
    places, start = torch.Generator().manual_seed(seed), 0
    for batch in marked_batches(dataset, batch_size):
        surfaces = nearest_surfaces(batch.image, batch.mask, normal)
        changed = intervene(batch.image, batch.mask, surfaces, generator=places)
        chosen = np.array([start + i in drawn for i in range(len(batch.name))])
        start += len(batch.name)
        for name, model in models.items():
            shared = {
                "removed": (changed.removed, None),
                "moved": (changed.moved, changed.has_elsewhere.numpy()),
                "kept": (changed.kept, None),
            }
            table = _score_batch(model.eval(), batch, changed.region, surfaces, shared, chosen)
            tables[name].append(table)
    for name, model in models.items():
        model.train(states[name])
    return {
        name: with_selectivities(pd.concat(parts, ignore_index=True))
        for name, parts in tables.items()
    }


def _score_batch(
    model: DefectModel,
    batch: Batch,
    region: Tensor,
    surfaces: Tensor,
    shared: Mapping[str, tuple[Tensor, NDArray[np.bool_] | None]],
    chosen: NDArray[np.bool_],
) -> pd.DataFrame:
    """`shared`: by intervention the images, and for which parts they are defined (`None`: all)."""
    device = next(model.parameters()).device

    def probability(normalised: Tensor) -> Tensor:
        return 1 - model(normalised).logits.cpu().double().softmax(1)[:, 0]

    images = model.preprocess(batch.image.to(device))
    out = model(images)
    before = (1 - out.logits.cpu().double().softmax(1)[:, 0]).numpy()
    flagged = metrics.is_flagged(before, model.threshold)
    maps = {"": out.defect_map.float().cpu()}
    if isinstance(out, Outputs):
        maps["reason_"] = out.cam.float().cpu()
    counts = region.flatten(1).sum(1).long()
    fits = (counts <= LARGEST_SHARE * region[0].numel()).numpy()
    size = (region.shape[2], region.shape[3])
    changed: dict[str, tuple[Tensor, NDArray[np.bool_] | None]] = {**shared}
    for prefix, values in maps.items():
        regions = marked_regions(values, counts, size)
        for name, taken in zip(("marked", "unmarked"), regions, strict=True):
            changed[prefix + name] = fill(batch.image, taken, taken, surfaces), fits
    columns: dict[str, Any] = {
        "name": batch.name,
        "group": batch.group,
        "defect_type": batch.defect_type,
        "defect_probability": before,
        "is_flagged": flagged,
    }
    for name, (filled, defined) in changed.items():
        valid = flagged if defined is None else flagged & defined
        after = probability(model.preprocess(filled.to(device))).numpy()
        is_normal = ~metrics.is_flagged(after, model.threshold)
        columns[f"flip.{name}"] = np.where(valid, is_normal, math.nan)
    wanted = chosen & flagged
    pick = torch.from_numpy(wanted)
    for prefix, values in maps.items():
        columns[f"{prefix}road"] = np.full(len(flagged), math.nan)
        if wanted.any():
            scores = metrics.road(probability, images[pick.to(device)], values[pick], ROAD_SHARES)
            columns[f"{prefix}road"][wanted] = scores.combined.numpy()
    if "reason_" not in maps:  # the defect map is the reason
        for name in ("marked", "unmarked"):
            columns[f"flip.reason_{name}"] = columns[f"flip.{name}"]
        columns["reason_road"] = columns["road"]
    return pd.DataFrame(columns)


@torch.no_grad()
def remove_marked(
    model: DefectModel, image: Tensor, share: float, surface: Tensor
) -> tuple[Tensor, Tensor, float]:
    """An image without the share of its pixels that the model's defect map marks most.

    Args:
        image: (1, 3, H, W) in [0, 1].
        surface: an intact surface like it, of the same shape; see `nearest_surfaces`.

    Returns:
        The filled image (3, H, W), the filled region (1, H, W), and the model's defect probability
        of the filled image.
    """
    count = torch.tensor([round(share * image.shape[2] * image.shape[3])])
    region, _ = marked_regions(model(model.preprocess(image)).defect_map, count)
    left = fill(image, region, region, surface) if count else image
    probability = model(model.preprocess(left)).defect_probability
    return left[0], region[0], float(probability)


def intervention_series(rows: pd.DataFrame, systems: Sequence[System]) -> pd.DataFrame:
    """The data of `plots.intervals`: a category per intervention, a series per system.

    A rate that the rows lack is left out: a system that flags no defect has no verdict to change.
    """
    lines = []
    for name, words in INTERVENTION_WORDS.items():
        for system in systems:
            try:
                value = find(rows, system, "flip_rate", level="image", intervention=name)
            except LookupError:
                continue
            lines.append((words, system.label, *value[:3]))
    return pd.DataFrame(lines, columns=["category", "series", "value", "ci_low", "ci_high"])
