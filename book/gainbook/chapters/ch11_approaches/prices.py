"""What the training labels of a system are, and what its predictions cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch.utils.data import Dataset

from gainbook.chapters.ch11_approaches.approaches import NEEDS, SIX
from gainbook.lab.results_file import row
from gainbook.lab.systems import System
from gainbook.lab.tables import find_or_nan, markdown
from gainmtl.baselines.boxes import mask_boxes
from gainmtl.types import Sample


class LabelCounts(NamedTuple):
    """The labels of a training set."""

    images: float
    defective: float
    boxes: float
    """One per connected piece of a mask."""
    outline: float
    """Pixels on the border of the masks, per defective image with a mask."""


def count_labels(dataset: Dataset[Sample]) -> LabelCounts:
    """Labels, boxes and outlines of a training set that has masks."""
    labelled: Any = dataset
    boxes, outline = 0, 0
    marked = np.flatnonzero(labelled.labels & labelled.has_mask)
    for index in marked:
        mask = dataset[int(index)].mask
        boxes += len(mask_boxes(mask))
        inner = -torch.nn.functional.max_pool2d(-mask[None], 3, stride=1, padding=1)[0]
        outline += int((mask - inner).sum())
    images, defective = len(labelled.labels), int(np.sum(labelled.labels))
    return LabelCounts(images, defective, boxes, outline / max(len(marked), 1))


def label_rows(counts: LabelCounts, dataset: str) -> list[dict[str, Any]]:
    """A row `labels` per count, which the condition names."""
    return [
        row(dataset, "all", "labels", value, split="train", condition={"labels": name})
        for name, value in counts._asdict().items()
    ]


def stored_labels(rows: pd.DataFrame) -> LabelCounts:
    """The counts of `label_rows`."""
    chosen = rows[rows["metric"] == "labels"]
    by_name = zip(chosen["condition"], chosen["value"], strict=True)
    return LabelCounts(**{condition["labels"]: float(value) for condition, value in by_name})


def label_text(counts: LabelCounts) -> str:
    """The counts as a sentence."""
    return (
        f"The training part has **{counts.images:.0f}** images, **{counts.defective:.0f}** of them "
        f"defective: one label per image for the classifier, **{counts.boxes:.0f}** boxes for the "
        f"detector, and for the others outlines of **{counts.outline:.0f}** pixels each on average."
    )


def price_table(rows: pd.DataFrame, systems: Sequence[System], **network: Any) -> str:
    """A line per system of `SIX`, as `systems` in that order: labels, size, operations and times.

    Args:
        network: `backbone` and `image_size` of the rows.
    """

    def cell(system: System, metric: str, scale: float, digits: int) -> str:
        value = scale * find_or_nan(rows, system, metric, **network).value
        return "–" if np.isnan(value) else f"{value:.{digits}f}"

    lines = [
        [system.label, *NEEDS[base.tag], cell(system, "parameters", 1e-6, 2),
         cell(system, "gigaflops", 1, 3), cell(system, "milliseconds", 1, 1),
         cell(system, "training_milliseconds", 1, 1)]
        for system, base in zip(systems, SIX, strict=True)
    ]  # fmt: skip
    header = ["system", "label of the image", "drawn per defect", "million parameters", "GFLOP",
              "ms per image", "ms per training image"]  # fmt: skip
    return markdown(header, lines)
