"""Figures of measures against a dial, as how many parts somebody has marked, or over the epochs.

Imported on demand, never by `import gainmtl`; the look is that of `plots`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gainbook.chapters.ch06_guided.label_budget import Point
from gainbook.render import plots
from gainmtl.training.gradient_conflict import Conflict


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


def over_epochs(
    panels: Mapping[str, Mapping[str, pd.DataFrame]], starts: Mapping[str, float] | None = None
) -> Figure:
    """One plot per measure: a line per series over the epochs, with a band where there is one.

    Args:
        panels: by title, then by series: columns `epoch`, `value` and, for the band, `ci_low` and
            `ci_high`. Undefined values leave a gap.
        starts: by word, epochs that get a dotted vertical line.
    """
    if not panels:
        raise ValueError("over_epochs: expected at least one panel")
    figure, grid = plt.subplots(
        1, len(panels), figsize=(2.9 * len(panels), 2.9), squeeze=False, layout="constrained"
    )
    for axes, (title, lines) in zip(grid[0], panels.items(), strict=True):
        for place, (name, table) in enumerate(lines.items()):
            colour = plots.CYCLE[place % len(plots.CYCLE)]
            marker = plots.MARKERS[place % len(plots.MARKERS)]
            axes.plot(
                table["epoch"], table["value"], marker=marker, ms=3.5, lw=1.2, color=colour,
                label=name,
            )  # fmt: skip
            if {"ci_low", "ci_high"} <= set(table):
                low, high = (table[key].astype(float) for key in ("ci_low", "ci_high"))
                axes.fill_between(table["epoch"], low, high, color=colour, alpha=0.13, lw=0)
        for word, epoch in (starts or {}).items():
            axes.axvline(epoch, color="0.55", ls=":", lw=1)
            axes.text(
                epoch, 1.0, f" {word}", fontsize=6.5, rotation=90, va="top", ha="right",
                color="0.35", transform=axes.get_xaxis_transform(),
            )  # fmt: skip
        if any((table["value"] < 0).any() for table in lines.values()):
            axes.axhline(0, color="0.3", lw=0.8)
        axes.set_title(title, loc="left", fontsize=8.5)
        axes.set_xlabel("epochs done")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.grid(axis="y", color="0.9", lw=0.7)
        axes.set_axisbelow(True)
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def conflicts(found: Mapping[str, Conflict], terms: Sequence[str]) -> Figure:
    """The cosines of every pair of `terms`, one square per series on one scale from -1 to 1.

    A term that is off, or has no gradient, is hatched.
    """
    figure, grid = plt.subplots(
        1, len(found), figsize=(3.0 * len(found) + 1.0, 3.3), squeeze=False, layout="constrained"
    )
    names = [term.replace("_", " ") for term in terms]
    drawn = None
    for place, (axes, (title, one)) in enumerate(zip(grid[0], found.items(), strict=True)):
        values = np.full((len(terms), len(terms)), np.nan)
        on = [place for place, term in enumerate(terms) if term in one.terms]
        own = [one.terms.index(terms[place]) for place in on]
        values[np.ix_(on, on)] = one.cosines[np.ix_(own, own)]
        axes.set_facecolor("0.93")
        axes.patch.set_hatch("///")
        axes.patch.set_edgecolor("0.8")
        drawn = axes.imshow(values, cmap="RdBu", vmin=-1, vmax=1)
        axes.set_xticks(range(len(terms)), names, rotation=90, fontsize=7)
        axes.set_yticks(range(len(terms)), names if place == 0 else [], fontsize=7)
        axes.set_title(title, loc="left")
    if drawn is not None:
        figure.colorbar(drawn, ax=list(grid[0]), label="cosine", shrink=0.7)
    return figure
