"""Forest plots: one line per step, one panel per measure, the interval against a line at zero.

Imported on demand, never by `import gainmtl`; the look is that of `plots`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gainbook.lab.tables import Value
from gainbook.render import plots

BETTER, WORSE, NEITHER = plots.BLUE, plots.VERMILION, plots.GREY


def mark_of(value: Value) -> tuple[str, str, bool]:
    """Colour, marker and whether it is filled: better, worse, or not shown to be either."""
    if value.low > 0:
        return BETTER, "o", True
    if value.high < 0:
        return WORSE, "D", True
    return NEITHER, "s", False


def forest(
    lines: Sequence[str],
    panels: Mapping[str, Mapping[str, Sequence[Value]]],
    title: str,
    width: float = 8.4,
) -> Figure:
    """Differences with their intervals, lines from top to bottom.

    A disc is an interval above 0, a diamond one below, an open square one that holds 0. What
    nobody measured leaves its place empty. Every panel has its own scale, symmetric about 0.

    Args:
        lines: names of the steps.
        panels: by group and measure, one value per line.
        title: says what is subtracted from what.
        width: inches.
    """
    measures = [(group, name) for group, inner in panels.items() for name in inner]
    if not lines or not measures:
        raise ValueError("forest: expected at least one line and one measure")
    wrong = [name for group, name in measures if len(panels[group][name]) != len(lines)]
    if wrong:
        raise ValueError(f"forest: expected {len(lines)} values of each measure, not so: {wrong}")
    rows = sum(0.30 + 0.13 * line.count("\n") for line in lines)
    figure, grid = plt.subplots(
        1, len(measures), figsize=(width, 1.35 + rows), sharey=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    seen, tallest = "", max(name.count("\n") + 1 for _, name in measures)
    for axes, (group, name) in zip(grid[0], measures, strict=True):
        _panel(axes, panels[group][name])
        axes.set_title(name, fontsize=8, loc="left")
        if group != seen:
            axes.annotate(
                group, (0, 1), xytext=(0, 10 + 11 * tallest), xycoords="axes fraction",
                textcoords="offset points", fontsize=9, fontweight="bold",
            )  # fmt: skip
        seen = group
    grid[0, 0].set_yticks(range(len(lines)), lines, fontsize=8)
    grid[0, 0].set_ylim(len(lines) - 0.5, -0.5)
    figure.suptitle(title, fontsize=9, x=0.01, ha="left")
    figure.supxlabel("difference; right of the line is better", fontsize=8.5)
    return figure


def _panel(axes: Axes, values: Sequence[Value]) -> None:
    reach = 0.0
    for place, value in enumerate(values):
        if math.isnan(value.value):
            continue
        colour, marker, filled = mark_of(value)
        ends = np.nan_to_num(np.abs([[value.value - value.low], [value.high - value.value]]))
        axes.errorbar(
            value.value, place, xerr=ends, fmt=marker, ms=5, color=colour, capsize=2, lw=1.3,
            mfc=colour if filled else "white",
        )  # fmt: skip
        known = [abs(end) for end in value[:3] if not math.isnan(end)]
        reach = max(reach, *known)
    reach = 1.12 * reach or 1.0
    axes.set_xlim(-reach, reach)
    axes.axvline(0, color="0.3", lw=1)
    axes.grid(axis="x", color="0.92", lw=0.6)
    axes.tick_params(labelsize=7.5)
    axes.locator_params(axis="x", nbins=3)
    axes.set_axisbelow(True)
