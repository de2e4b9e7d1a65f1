"""Result rows by the size of the defects: thirds by the share of the image under the mask."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gainbook.lab.measures import Measure, measure_rows, paired_rows, same_images
from gainbook.lab.protocol import Pooled
from gainbook.lab.results_file import row
from gainbook.lab.systems import System
from gainmtl import metrics

SIZES = ("small", "medium", "large")
"""Thirds of the defective images by the share of the image under the mask."""


def size_classes(area: NDArray[np.float64]) -> NDArray[np.str_]:
    """One of `SIZES` for each share (N,), `""` where it is NaN: thirds of the defined shares.

    Equal shares stay in one class, the lower one. The class is a property of the image, the same
    for every system.
    """
    classes = np.full(len(area), "", dtype="<U6")
    known = ~np.isnan(area)
    if known.any():
        edges = np.quantile(area[known], [1 / 3, 2 / 3])
        classes[known] = np.array(SIZES)[np.searchsorted(edges, area[known], side="left")]
    return classes


def measures(size: str) -> tuple[Measure, ...]:
    """AUROC against all normal images, recall, and three measures of the defect map."""
    condition = {"size": size}
    return (
        Measure(
            "auroc", "defect_probability", None, condition, metrics.auroc,
            beside=("is_defective",),
        ),
        Measure("recall", "is_found", None, condition),
        *(
            Measure(name, f"defect_map.{name}", "defect_map", condition)
            for name in ("iou", "point_game", "positive_energy")
        ),
    )  # fmt: skip


def of_size(images: pd.DataFrame, size: str) -> pd.DataFrame:
    """The defective images of a size and all normal images, with a column `is_found`."""
    classes = size_classes(images["area"].to_numpy(float))
    bad = images["is_defective"].to_numpy(bool)
    found = np.where(bad, images["is_flagged"].to_numpy(float), np.nan)
    return images.assign(is_found=found)[(classes == size) | ~bad]


def size_rows(
    pooled: Pooled, dataset: str, system: System, resamples: int = 2000
) -> list[dict[str, Any]]:
    """Rows of `measures` by size, and `area`, the largest share of the size."""
    rows = []
    for size in SIZES:
        part = of_size(pooled.scores.images, size)
        condition = {**system.condition, "size": size}
        largest = float(part["area"].max())
        rows.append(row(dataset, system.name, "area", largest, condition=condition))
        rows += measure_rows(part, measures(size), dataset, system, resamples)
    return rows


def size_differences(
    a: Pooled, b: Pooled, dataset: str, first: System, second: System, resamples: int = 2000
) -> list[dict[str, Any]]:
    """Rows `<metric>_difference` of `measures` by size, a - b on the same images."""
    left, right = same_images(a.scores.images, b.scores.images)
    rows = []
    for size in SIZES:
        pair = of_size(left, size), of_size(right, size)
        rows += paired_rows(*pair, measures(size), dataset, first, second, resamples)
    return rows
