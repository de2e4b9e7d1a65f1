"""Figures of measures against a dial, as how many parts somebody has marked.

Imported on demand, never by `import gainmtl`; the look is that of `plots`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gainmtl import plots
from gainmtl.label_budget import Point


def against_dial(
    panels: Mapping[str, Sequence[Point]],
    label: str,
    limits: Mapping[str, tuple[float, float]] | None = None,
    width: float = 2.5,
) -> Figure:
    """One small plot per measure: values with intervals, evenly spaced in the order given.

    Args:
        panels: by title, points; every panel with the same ticks.
        label: of the dial.
        limits: of a panel's vertical axis; where none is given it follows the points.
        width: of a panel, inches.
    """
    if not panels or not all(panels.values()):
        raise ValueError("against_dial: expected at least one panel, and points in every one")
    figure, grid = plt.subplots(
        1, len(panels), figsize=(width * len(panels), 2.5), squeeze=False, layout="constrained"
    )
    for axes, (title, points) in zip(grid[0], panels.items(), strict=True):
        _draw(axes, points)
        axes.set_title(title, loc="left")
        if limits is not None and title in limits:
            axes.set_ylim(limits[title])
    figure.supxlabel(label, fontsize=9)
    return figure


def _draw(axes: Axes, points: Sequence[Point]) -> None:
    joined = [place for place, point in enumerate(points) if not point.is_apart]
    axes.plot(joined, [points[place].value.value for place in joined], color=plots.BLUE, lw=1)
    for place, point in enumerate(points):
        value, low, high, _ = point.value
        ends = np.nan_to_num(np.abs([[low - value], [high - value]]))
        axes.errorbar(
            [place], [value], yerr=ends, fmt="s" if point.is_apart else "o", ms=5, capsize=2.5,
            color=plots.GREY if point.is_apart else plots.BLUE, lw=1.3,
            mfc="white" if point.is_apart else None,
        )  # fmt: skip
        if len(point.draws) > 1:
            beside = np.full(len(point.draws), place + 0.22)
            axes.plot(beside, point.draws, "_", color=plots.VERMILION, ms=7, mew=1.4)
    axes.set_xticks(range(len(points)), [point.tick for point in points])
    axes.set_xlim(-0.5, len(points) - 0.5)
    axes.grid(axis="y", color="0.9", lw=0.7)
    axes.set_axisbelow(True)
