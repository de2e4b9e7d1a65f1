"""Figures of what a weight buys and costs: measures of systems that differ in one number.

Imported on demand, never by `import gainmtl`; the look is that of `plots`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from gainbook.lab.reference import System
from gainbook.lab.tables import find
from gainbook.render import plots


def over_weight(
    rows: pd.DataFrame,
    systems: Mapping[float, System],
    panels: Mapping[str, tuple[str, str | None, Mapping[str, Any]]],
    label: str,
    across: int = 4,
    chosen: float | None = None,
) -> Figure:
    """One small plot per measure: pooled figures with their intervals, evenly spaced by weight.

    Args:
        rows: result rows.
        systems: by weight, in order.
        panels: metric, map and condition by title. A figure that nobody measured leaves a gap.
        label: of the horizontal axis.
        across: plots per line.
        chosen: the weight that is marked by a grey band.
    """
    if not panels or len(systems) < 2:
        raise ValueError("over_weight: expected at least one measure and two weights")
    down = -(-len(panels) // across)
    figure, grid = plt.subplots(
        down, across, figsize=(2.05 * across, 1.75 * down + 0.3), squeeze=False, sharex=True,
        layout="constrained",
    )  # fmt: skip
    for axes, (title, (metric, map_name, condition)) in zip(
        grid.flat, panels.items(), strict=False
    ):
        found = []
        for place, system in enumerate(systems.values()):
            try:
                value, low, high, _ = find(rows, system, metric, map_name, **condition)
            except LookupError:
                continue
            if np.isfinite(value):
                found.append((place, value, value - low, high - value))
        if found:
            place, value, below, above = np.nan_to_num(np.array(found).T)
            axes.errorbar(
                place, value, yerr=np.abs([below, above]), fmt="o-", ms=4, capsize=2.5, lw=1.2,
                color=plots.BLUE,
            )  # fmt: skip
        if chosen is not None and chosen in systems:
            axes.axvspan(*(list(systems).index(chosen) + np.array([-0.3, 0.3])), color="0.92", lw=0)
        axes.set_title(title, loc="left", fontsize=8.5)
        axes.set_xticks(range(len(systems)), [f"{weight:g}" for weight in systems])
        axes.set_xlim(-0.5, len(systems) - 0.5)
        axes.grid(axis="y", color="0.92", lw=0.6)
        axes.set_axisbelow(True)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    figure.supxlabel(label, fontsize=9)
    return figure
