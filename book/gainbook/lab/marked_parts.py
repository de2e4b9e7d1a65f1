"""Synthetic parts with a printed mark and without it, and the effect of the mark on a model.

The two pictures of a part agree in every pixel except the mark: surface, defect, light and noise
are the same. A difference between the two predictions is therefore caused by the mark. Masks and
labels are used by the measures only; the model gets the pictures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from gainbook.lab.measures import Measure
from gainbook.lab.seed_study import figure
from gainmtl import metrics
from gainmtl.datasets.synthetic import SyntheticDataset
from gainmtl.evaluation.inpainting import dilate
from gainmtl.interface import evaluating
from gainmtl.model import GAINMTL

Bools = NDArray[np.bool_]

AS_IN_TRAINING, UNRELATED, REVERSED = "as in training", "unrelated", "reversed"
"""Test sets, by the agreement of the mark with the state of the part."""
ABSENT = "absent"
"""The same parts without any mark."""
MARGIN = 4
"""Pixels around defect and mark that belong to their regions: a cell of the finest grid."""


def agreements_by_test(training: float) -> dict[str, float]:
    """By test set, the share of parts on which the mark agrees with the state; see
    `SyntheticSettings.shortcut_test`. `training` is that share among the training parts."""
    return {AS_IN_TRAINING: training, UNRELATED: 0.5, REVERSED: 0.0}


class MarkedParts(NamedTuple):
    """N parts, each with the mark and without it; D of them are defective."""

    without: Tensor
    """(N, 3, H, W) in [0, 1]."""
    with_mark: Tensor
    """(N, 3, H, W) in [0, 1], the same parts with the mark printed."""
    is_defective: Bools
    """(N,)."""
    marked: dict[str, Bools]
    """(N,) by test set: the parts on which it prints the mark."""
    masks: Tensor
    """(D, 1, H, W), the exact masks of the defective parts, in order."""
    regions: dict[str, Tensor]
    """(D, 1, H, W), 0 or 1: the `defect` with a margin, and the `mark` with a margin outside the
    defect's region. The region of a mark inside the defect's region is empty."""


def marked_parts(tests: Mapping[str, SyntheticDataset], margin: int = MARGIN) -> MarkedParts:
    """Render the parts of test sets that differ in the agreement of the mark only.

    Args:
        tests: by name; equal settings except `shortcut` and `shortcut_test`.

    Raises:
        ValueError: the sets hold different parts.
    """
    test = next(iter(tests.values()))
    for name, other in tests.items():
        alike = np.array_equal(other.true_labels, test.true_labels)
        if other.settings.seed != test.settings.seed or len(other) != len(test) or not alike:
            raise ValueError(
                f"marked_parts: expected the same parts in all test sets, found other parts in "
                f"{name!r}; use one seed and one size for all"
            )
    pairs = [[test.render(i, marked=mark) for i in range(len(test))] for mark in (False, True)]
    without, with_mark = (_stack([part.image for part in parts]) / 255 for parts in pairs)
    bad = np.flatnonzero(test.true_labels)
    masks = _stack([pairs[0][i].mask for i in bad])
    defect = dilate(masks, margin)
    mark = dilate(_stack([pairs[1][i].mark_mask for i in bad]), margin) * (1 - defect)
    marked = {name: part.marked for name, part in tests.items()}
    regions = {"defect": defect, "mark": mark}
    return MarkedParts(without, with_mark, test.true_labels, marked, masks, regions)


def _stack(arrays: list[NDArray[np.uint8]]) -> Tensor:
    return torch.from_numpy(np.stack(arrays)).float()


class Predictions(NamedTuple):
    """What a model returns for both pictures of each part."""

    without: NDArray[np.float64]
    """(N,) defect probabilities of the parts without the mark."""
    with_mark: NDArray[np.float64]
    """(N,) defect probabilities of the parts with the mark."""
    cam: Tensor
    """(D, 1, h, w), evidence on the defective parts with the mark."""
    cell_prob: Tensor
    """(D, 1, h, w) in [0, 1], the evidence as probabilities; see `GAINMTL.calibrate`."""


@torch.no_grad()
def predict_both(model: GAINMTL, parts: MarkedParts, batch_size: int = 32) -> Predictions:
    """Predictions for every part with the mark and without; the model keeps its mode."""
    pair, cams, cells = [], [], []
    bad = torch.from_numpy(parts.is_defective)
    with evaluating(model):
        for pictures in (parts.without, parts.with_mark):
            probabilities = []
            for images, kept in zip(pictures.split(batch_size), bad.split(batch_size), strict=True):
                out = model(model.preprocess(images))
                probabilities.append(1 - out.logits.double().softmax(1)[:, 0].numpy())
                if pictures is parts.with_mark:
                    cams.append(out.cam[kept])
                    cells.append(torch.sigmoid(model.calibrate(out.cam, out.logits))[kept])
            pair.append(np.concatenate(probabilities))
    return Predictions(pair[0], pair[1], torch.cat(cams), torch.cat(cells))


def part_table(predictions: Predictions, parts: MarkedParts, threshold: float) -> pd.DataFrame:
    """The columns of `MEASURES`, one row per part; `threshold` decides the verdicts.

    A part that a measure is not about has NaN: `printed` is defined on the normal parts passed
    without a mark, `removed` on the defects found with it, the places of the evidence on the
    defective parts whose mark lies outside the defect's region.
    """
    bad = parts.is_defective
    off = metrics.is_flagged(predictions.without, threshold)
    on = metrics.is_flagged(predictions.with_mark, threshold)
    place = np.arange(len(bad))
    table = pd.DataFrame({"name": place, "group": place, "is_defective": bad})
    for name, marked in (parts.marked | {ABSENT: np.zeros_like(bad)}).items():
        probability = np.where(marked, predictions.with_mark, predictions.without)
        table[f"{name}.probability"] = probability
        table[f"{name}.is_right"] = metrics.is_flagged(probability, threshold) == bad
    table["verdict_change"] = on != off
    for name, kept in (("printed", ~bad & ~off), ("removed", bad & on)):
        table[name] = np.where(kept, on != off, math.nan)
    table["mark_effect"] = predictions.with_mark - predictions.without
    seen = parts.regions["mark"].flatten(1).any(1).numpy()
    rows = np.flatnonzero(bad)[seen]
    for region_name, region in parts.regions.items():
        for measure in (metrics.positive_energy, metrics.point_game):
            values = measure(predictions.cam, region).numpy()
            table.loc[rows, f"{region_name}.{measure.__name__}"] = values[seen]
        table.loc[rows, f"{region_name}.area"] = region[seen].mean().item()
    return table


MEASURES = (
    *(
        measure
        for name in (AS_IN_TRAINING, UNRELATED, REVERSED, ABSENT)
        for measure in (
            Measure("accuracy", f"{name}.is_right", None, {"mark": name}),
            Measure("auroc", f"{name}.probability", None, {"mark": name}, metrics.auroc,
                    ("is_defective",)),
        )
    ),
    Measure("verdict_change", "verdict_change"),
    Measure("flip_rate", "printed", None, {"mark": "printed"}),
    Measure("flip_rate", "removed", None, {"mark": "removed"}),
    Measure("mark_effect", "mark_effect"),
    *(
        measure
        for place in ("defect", "mark")
        for measure in (
            Measure("positive_energy", f"{place}.positive_energy", "cam", {"on": place}),
            Measure("point_game", f"{place}.point_game", "cam", {"on": place}),
            Measure("region_area", f"{place}.area", None, {"on": place}),
        )
    ),
)  # fmt: skip
"""Of `part_table`, by metric:

- `accuracy`, `auroc` by test set, and without any mark.
- `verdict_change`: of all parts, the share whose verdict differs between the two pictures.
- `flip_rate`: the share of the normal parts passed without a mark that become defective when it is
  `printed`, and of the defects found with it that are lost when it is `removed`.
- `mark_effect`: mean of p(with) - p(without), in [-1, 1], without a threshold.
- `positive_energy` and `point_game` of the evidence `on` each region, and `region_area`, the mean
  area: the score of evidence that is spread evenly.
"""


def figures(table: pd.DataFrame) -> list[dict[str, Any]]:
    """`MEASURES` of one model as a study's file keeps them; NaN where no part counts."""
    entries = []
    for measure in (one for one in MEASURES if one.column in table):
        part = table[table[measure.column].notna()]
        arrays = [part[column].to_numpy() for column in (measure.column, *measure.beside)]
        value = float(measure.statistic(*arrays)) if len(part) else math.nan
        entries.append(figure(measure.metric, value, measure.map, len(part), **measure.condition))
    return entries
