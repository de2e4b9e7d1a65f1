"""Parts and what can be changed on them: erase, move, keep, or take the twin.

Masks choose the regions, and no prediction reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from gainmtl.evaluation.inpainting import free_shift, shift
from gainmtl.evaluation.interventions import intervene, nearest_surfaces, normal_images
from gainmtl.evaluation.prediction import predict
from gainmtl.types import NORMAL, Sample

AS_IT_IS, ERASED, MOVED, ELSEWHERE, KEPT, TWIN = (
    "as it is", "defect erased", "defect moved", "as much erased elsewhere",
    "nothing but the defect", "twin without the defect",
)  # fmt: skip
FOLLOWS = "map's peak on the moved defect"


class Changed(NamedTuple):
    """An image after a change."""

    image: Tensor
    """(3, H, W) in [0, 1]."""
    mask: Tensor | None
    """(1, H, W), 0 or 1, of the defect that is on it; `None` without a defect or a mask."""


class Part(NamedTuple):
    """An image with its changes, `AS_IT_IS` first."""

    name: str
    group: str
    changes: dict[str, Changed]


def changes_of(sample: Sample, surface: Tensor, twin: Tensor | None = None) -> dict[str, Changed]:
    """Every change that is possible on an image: without a mask, the image and its twin.

    *Erased*, *elsewhere* and *kept* are those of `gainmtl.evaluation.interventions.intervene`.
    *Moved* erases the defect and adds its difference from the erased image at the nearest place
    that is free: `x' = erased + shift(x - erased)`, cut to [0, 1].

    Args:
        surface: (3, H, W), an intact surface similar to the image's.
        twin: (3, H, W), the same part without the defect; `None`: there is none.
    """
    image, mask = sample.image[None], sample.mask[None]
    has_mask = bool(sample.is_defective and sample.has_mask and mask.any())
    found = {AS_IT_IS: Changed(sample.image, sample.mask if has_mask else None)}
    if has_mask:
        made = intervene(image, mask, surface[None])
        found[ERASED] = Changed(made.removed[0], None)
        if bool(made.has_elsewhere[0]):
            shifts, _ = free_shift(made.region, made.region)
            pasted = made.removed + shift((image - made.removed) * made.region, shifts)
            found[MOVED] = Changed(pasted[0].clamp(0, 1), shift(mask, shifts)[0])
            found[ELSEWHERE] = Changed(made.moved[0], sample.mask)
        found[KEPT] = Changed(made.kept[0], sample.mask)
    if sample.is_defective and twin is not None:
        found[TWIN] = Changed(twin, None)
    return found


def chosen(labels: Sequence[str], each: int, most: int) -> list[int]:
    """The first `each` images of every defect type, at most `most`, then as many normal ones."""
    order: list[int] = []
    for kind in [*sorted(set(labels) - {NORMAL}), NORMAL]:
        order += [i for i, label in enumerate(labels) if label == kind][:each]
    defective = [i for i in order if labels[i] != NORMAL][:most]
    return defective + [i for i in order if labels[i] == NORMAL]


def parts_of(dataset: Any, rows: Sequence[int]) -> list[Part]:
    """Parts of a dataset with their changes, by name and type.

    The twin of a synthetic part is rendered; that of another is its `twin`, if the set has one.
    """
    normal, clean = normal_images(dataset), getattr(dataset, "clean_image", None)
    parts = []
    for i in rows:
        sample = dataset[i]
        surface = nearest_surfaces(sample.image[None], sample.mask[None], normal)[0]
        twin = sample.twin if clean is None else clean(i)
        kind = sample.defect_type.replace("_", " ")
        parts.append(
            Part(f"{kind} ({sample.name})", sample.group, changes_of(sample, surface, twin))
        )
    return parts


def stay_table(model: Any, parts: Sequence[Part]) -> pd.DataFrame:
    """Which defects stay *defective* under which change: a line per part that a model finds.

    Columns: `group`, and the changes, 0 or 1, NaN where one is not possible. `FOLLOWS`: of a moved
    defect that stays so, whether the peak of the defect map lies on it.
    """
    lines: list[dict[str, Any]] = []
    for part in parts:
        table = predict(model, torch.stack([one.image for one in part.changes.values()])).table
        flagged = (table["verdict"] == "defective").tolist()
        if not flagged[0]:
            continue
        line: dict[str, Any] = {"group": part.group}
        for row, (name, one) in enumerate(part.changes.items()):
            line[name] = float(flagged[row])
            if name == MOVED and flagged[row] and one.mask is not None:
                at = [int(table[column].iloc[row]) for column in ("peak_row", "peak_column")]
                line[FOLLOWS] = float(one.mask[0, at[0], at[1]])
        lines.append(line)
    order = [AS_IT_IS, ERASED, TWIN, MOVED, FOLLOWS, ELSEWHERE, KEPT]
    found = pd.DataFrame(lines, columns=["group", *order])
    return found.dropna(axis="columns", how="all")
