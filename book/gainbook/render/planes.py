"""Points in the plane of two features, and the areas where a rule flags a point."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from numpy.typing import NDArray

from gainbook.render.theme import CYCLE, MARKERS, WIDTH, wrap


def flagged_areas(
    areas: Mapping[str, NDArray[np.bool_]],
    points: Mapping[str, NDArray[np.float64]],
    limits: tuple[float, float],
) -> Figure:
    """One panel per rule: the points by kind, and in grey where the rule flags.

    Args:
        areas: by title, (n, n) whether the rule flags each point of a grid over `limits` in both
            directions; the first axis is upwards.
        points: by name, (k, 2) points.
        limits: of both axes.
    """
    if not areas:
        raise ValueError("flagged_areas: expected at least one area to draw, got none")
    figure, grid = plt.subplots(
        1, len(areas), figsize=(WIDTH, 0.9 + (WIDTH - 0.4) / len(areas)), sharey=True,
        squeeze=False, layout="constrained",
    )  # fmt: skip
    for axes, (title, flagged) in zip(grid[0], areas.items(), strict=True):
        along = np.linspace(*limits, len(flagged))
        axes.contourf(along, along, flagged.astype(float), levels=[0.5, 1.5], colors=["0.86"])
        for name, colour, marker in zip(points, CYCLE, MARKERS, strict=False):
            axes.plot(*points[name].T, marker, color=colour, label=name, ms=7)
        axes.set(xlabel="feature 1", aspect="equal")
        axes.set_title(wrap(title, WIDTH / len(areas) - 0.4))
    grid[0, 0].set_ylabel("feature 2")
    handles = grid[0, 0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=len(points))
    return figure
