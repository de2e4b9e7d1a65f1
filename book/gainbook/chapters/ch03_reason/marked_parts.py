"""Does a verdict hang on a printed mark? Synthetic parts, photographed with the mark and without.

The pair of pictures is the experiment: surface, defect, light and noise are the same pixel for
pixel, so whatever the model says differently it says because of the mark. Masks and labels measure;
the model sees pictures only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gainmtl import metrics
from gainmtl.datasets.synthetic import SyntheticDataset
from gainmtl.evaluation.inpainting import dilate
from gainmtl.model import GAINMTL

Bools = NDArray[np.bool_]

HABITS = {"unrelated": 0.5, "reversed": 0.0}
"""How often the mark agrees with the part's state in the other test sets; see `Dials`."""
AS_IN_TRAINING = "as in training"
ABSENT = "absent"
MARGIN = 4
"""Pixels around defect and mark that count as theirs: a cell of the finest grid."""


class MarkedParts(NamedTuple):
    """N parts, each with and without the mark."""

    without: Tensor
    """(N, 3, H, W) in [0, 1]."""
    with_mark: Tensor
    """(N, 3, H, W), the same parts with the mark printed."""
    is_defective: Bools
    """(N,)."""
    marked: dict[str, Bools]
    """(N,) by habit of the mark: on which parts that test set prints it. Equal parts otherwise."""
    masks: Tensor
    """(D, 1, H, W), the exact masks of the D defective parts, in order."""
    regions: dict[str, Tensor]
    """(D, 1, H, W), 0 or 1: the `defect` and its margin, the `mark` and its margin without the
    defect's. A mark that lies in the defect's margin altogether leaves its region empty."""


def marked_parts(tests: Mapping[str, SyntheticDataset], margin: int = MARGIN) -> MarkedParts:
    """Render the parts of test sets that differ in the mark's habit and in nothing else.

    Args:
        tests: by habit; equal dials but for `shortcut` and `shortcut_test`.

    Raises:
        ValueError: the sets hold different parts.
    """
    test = next(iter(tests.values()))
    for habit, other in tests.items():
        alike = np.array_equal(other.true_labels, test.true_labels)
        if other.dials.seed != test.dials.seed or len(other) != len(test) or not alike:
            raise ValueError(f"marked_parts: the parts of {habit!r} are not those of the others")
    everyone = range(len(test))
    pairs = [[test.render(i, marked=mark) for i in everyone] for mark in (False, True)]
    pictures = [_stack([part.image for part in parts]) / 255 for parts in pairs]
    bad = np.flatnonzero(test.true_labels)
    masks = _stack([pairs[0][i].mask for i in bad])
    defect = dilate(masks, margin)
    mark = dilate(_stack([pairs[1][i].mark_mask for i in bad]), margin) * (1 - defect)
    return MarkedParts(
        pictures[0],
        pictures[1],
        test.true_labels,
        {habit: part.marked for habit, part in tests.items()},
        masks,
        {"defect": defect, "mark": mark},
    )


def _stack(arrays: list[NDArray[np.uint8]]) -> Tensor:
    return torch.from_numpy(np.stack(arrays)).float()


class Answers(NamedTuple):
    """What a model says about both pictures of each part."""

    without: NDArray[np.float64]
    """(N,) defect probabilities of the parts without the mark."""
    with_mark: NDArray[np.float64]
    cam: Tensor
    """(D, 1, h, w), evidence on the defective parts with the mark."""
    cell_prob: Tensor
    """(D, 1, h, w) in [0, 1], the same as probabilities; see `GAINMTL.calibrate`."""


@torch.no_grad()
def ask_both(model: GAINMTL, parts: MarkedParts, batch_size: int = 32) -> Answers:
    """Ask `model` about every part with the mark and without."""
    was_training = model.training
    model.eval()
    said, cams, cells = [], [], []
    bad = torch.from_numpy(parts.is_defective)
    for pictures in (parts.without, parts.with_mark):
        probabilities = []
        for images, kept in zip(pictures.split(batch_size), bad.split(batch_size), strict=True):
            out = model(model.preprocess(images))
            probabilities.append(1 - out.logits.double().softmax(1)[:, 0].numpy())
            if pictures is parts.with_mark:
                cams.append(out.cam[kept])
                cells.append(torch.sigmoid(model.calibrate(out.cam, out.logits))[kept])
        said.append(np.concatenate(probabilities))
    model.train(was_training)
    return Answers(said[0], said[1], torch.cat(cams), torch.cat(cells))


def measure(answers: Answers, parts: MarkedParts, threshold: float) -> list[dict[str, Any]]:
    """Figures of one model: entries `metric`, `map`, `condition`, `value`, `n`.

    - `accuracy`, `auroc` by the mark's habit in the test set, and with no mark at all.
    - `verdict_change`: of all parts, the share whose verdict differs between the two pictures.
    - `flip_rate`: of the normal parts passed without a mark (`printed`) the share that it
      condemns; of the defects found with it (`removed`) the share lost without it. NaN where
      nothing was passed or found.
    - `mark_effect`: mean of p(with) - p(without) over all parts, in [-1, 1]. No threshold.
    - on the defective parts with the mark: `positive_energy` and `point_game` of the evidence
      `on` the two regions, and `region_area`, what evidence spread evenly would have there.
    """
    bad = parts.is_defective
    found: list[dict[str, Any]] = []

    def keep(metric: str, value: float, n: int, map: str | None = None, **condition: Any) -> None:
        entry = {"metric": metric, "map": map, "condition": condition}
        found.append({**entry, "value": float(value), "n": int(n)})

    nowhere = np.zeros_like(bad)
    for habit, marked in (parts.marked | {ABSENT: nowhere}).items():
        probability = np.where(marked, answers.with_mark, answers.without)
        keep("accuracy", metrics.accuracy(probability >= threshold, bad), len(bad), mark=habit)
        keep("auroc", metrics.auroc(probability, bad), len(bad), mark=habit)
    off, on = answers.without >= threshold, answers.with_mark >= threshold
    keep("verdict_change", (on != off).mean(), len(bad))
    for name, asked in (("printed", ~bad & ~off), ("removed", bad & on)):
        rate = float((on != off)[asked].mean()) if asked.any() else math.nan
        keep("flip_rate", rate, asked.sum(), mark=name)
    keep("mark_effect", (answers.with_mark - answers.without).mean(), len(bad))
    seen = parts.regions["mark"].flatten(1).any(1)
    for place, region in parts.regions.items():
        cam, region = answers.cam[seen], region[seen]
        for metric in ("positive_energy", "point_game"):
            values = getattr(metrics, metric)(cam, region)
            keep(metric, values.mean().item(), len(values), "cam", on=place)
        keep("region_area", region.mean().item(), len(region), on=place)
    return found
