"""Figures that more than one page uses. Imported on demand, never by `import gainmtl`.

Every figure has an opaque white ground with a margin, so that it reads the same on a light and on
a dark page; the colours are Okabe and Ito's, distinct to colour-blind readers, and no figure tells
things apart by colour alone. Each function returns a matplotlib `Figure`, unshown.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from gainmtl.strategies import Strategy, get_strategy

BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE, GREY = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#6B6B6B",
)  # fmt: skip
CYCLE = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, GREY)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
"""More than colours, so that a plot of many lines has no two alike."""
STYLE: dict[str, Any] = {
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "figure.dpi": 100,
    "savefig.dpi": 100,
    "savefig.bbox": "tight",
    "savefig.pad_inches": 0.12,
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "legend.frameon": False,
}


class Column(NamedTuple):
    """One column of `panels`: maps of all images and the scale that they share.

    A fixed scale, never each map's own minimum and maximum, or a normal part could not be dark.
    """

    title: str
    maps: Tensor
    """(B, 1, h, w)."""
    low: float = 0.0
    high: float = 1.0
    """Where `low` is negative the colours diverge from white at 0."""


def use_style() -> None:
    """Set the book's look for the figures to come."""
    plt.style.use(STYLE)


def pixels(image: Tensor) -> NDArray[np.float32]:
    """(3, H, W) in [0, 1] to (H, W, 3) for `imshow`."""
    return image.detach().cpu().float().clamp(0, 1).permute(1, 2, 0).numpy()


def evidence_column(title: str, cam: Tensor, limit: float | None = None) -> Column:
    """Evidence maps on one scale, symmetric about 0; `limit` defaults to their 99.5 % quantile."""
    if limit is None:
        limit = float(torch.quantile(cam.detach().abs().float().flatten(), 0.995)) or 1.0
    return Column(title, cam, -limit, limit)


def draw_map(axes: Axes, values: Tensor, size: tuple[int, int], low: float, high: float) -> Any:
    """Draw a map (1, h, w) over an image of `size`, cell by cell, so that its grid shows."""
    return axes.imshow(
        values.detach().cpu().float()[0].numpy(),
        cmap="PuOr_r" if low < 0 else "cividis",
        vmin=low,
        vmax=high,
        extent=(-0.5, size[1] - 0.5, size[0] - 0.5, -0.5),
        interpolation="nearest",
    )


def outline(axes: Axes, mask: Tensor, colour: str = SKY) -> None:
    """The border of a mask (1, H, W), dark under light so that it shows on any ground."""
    values = mask.detach().cpu().float()[0].numpy()
    if values.any():
        for width, paint in ((2.2, "black"), (1.1, colour)):
            axes.contour(values, levels=[0.5], colors=[paint], linewidths=[width])


def panels(
    images: Tensor,
    columns: Sequence[Column],
    masks: Tensor | None = None,
    rows: Sequence[str] | None = None,
    marks: Tensor | None = None,
    cell: float = 1.35,
) -> Figure:
    """One row per image: the image, then one map per column, with a colour bar below each.

    Args:
        images: (B, 3, H, W) in [0, 1].
        masks: (B, 1, H, W), outlined in light blue on image and maps.
        rows: a few words beside each row.
        marks: (B, 1, H, W), another region, outlined in orange: a printed mark.
        cell: side of one picture, inches.
    """
    count, size = len(images), (images.shape[2], images.shape[3])
    width = len(columns) + 1
    figure, grid = plt.subplots(
        count, width, figsize=(cell * width + 0.5, cell * count + 0.55), squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for column, title in enumerate(["image", *(c.title for c in columns)]):
        grid[0, column].set_title(title)
    for row in range(count):
        grid[row, 0].imshow(pixels(images[row]))
        if rows is not None:
            grid[row, 0].set_ylabel(rows[row])
        for axes in grid[row]:
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
    for index, (_, maps, low, high) in enumerate(columns, 1):
        drawn = [draw_map(grid[row, index], maps[row], size, low, high) for row in range(count)]
        figure.colorbar(
            drawn[-1], ax=grid[:, index], location="bottom", shrink=0.9, aspect=14, pad=0.03,
            ticks=[low, (low + high) / 2, high], format="%.2g",
        )  # fmt: skip
    for row in range(count):
        for axes in grid[row]:
            if masks is not None:
                outline(axes, masks[row])
            if marks is not None:
                outline(axes, marks[row], ORANGE)
            axes.set(xlim=(-0.5, size[1] - 0.5), ylim=(size[0] - 0.5, -0.5))
    return figure


def intervals(
    table: pd.DataFrame,
    title: str,
    label: str,
    zero: bool = False,
    limits: tuple[float, float] | None = None,
    width: float = 6.0,
) -> Figure:
    """Figures with their intervals, one line per `category`, side by side the `series` in it.

    Args:
        table: columns `category`, `series`, `value`, `ci_low`, `ci_high`; NaN ends are not drawn.
        title: says the quantity.
        label: of the horizontal axis.
        zero: draw the line at 0, for differences.
        limits: of the horizontal axis.
    """
    if table.empty:
        raise ValueError("intervals: expected at least one figure to draw, got an empty table")
    categories = list(dict.fromkeys(table["category"]))
    series = list(dict.fromkeys(table["series"]))
    step = 0.7 / len(series)
    height = 0.8 + len(categories) * max(0.32, 0.17 * len(series))
    figure, axes = plt.subplots(figsize=(width, height), layout="constrained")
    for index, name in enumerate(series):
        part = table[table["series"] == name]
        place = np.array([categories.index(c) for c in part["category"]], float)
        place += (index - (len(series) - 1) / 2) * step
        value = part["value"].to_numpy(float)
        ends = np.abs(np.stack([part["ci_low"], part["ci_high"]]).astype(float) - value)
        axes.errorbar(
            value, place, xerr=np.nan_to_num(ends), fmt=MARKERS[index % len(MARKERS)], ms=5,
            color=CYCLE[index % len(CYCLE)], capsize=2.5, lw=1.3, label=name,
        )  # fmt: skip
    axes.set(yticks=range(len(categories)), yticklabels=categories, xlabel=label)
    axes.set_title(title, loc="left")
    axes.set_ylim(len(categories) - 0.5, -0.5)
    axes.grid(axis="x", color="0.9", lw=0.7)
    axes.set_axisbelow(True)
    if limits is not None:
        axes.set_xlim(limits)
    if zero:
        axes.axvline(0, color="0.3", lw=1)
    if len(series) > 1:
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def schedule(strategy: str | Strategy, epochs: int = 12, steps: int = 200) -> Figure:
    """The weight of every term of a strategy over the share of the run that is done."""
    plan = get_strategy(strategy)
    terms = plan.weights.active()
    progress = np.linspace(0, 1, steps, endpoint=False)
    figure, axes = plt.subplots(figsize=(6.0, 0.34 * len(terms) + 0.9), layout="constrained")
    for place, term in enumerate(terms):
        weights = np.array([getattr(plan.weights_at(p), term) for p in progress])
        full = getattr(plan.weights, term)
        colour = CYCLE[place % len(CYCLE)]
        axes.fill_between(
            progress * epochs, place + 0.38, place + 0.38 - 0.76 * weights / full,
            color=colour, alpha=0.75, lw=0,
        )  # fmt: skip
        axes.text(epochs * 1.01, place, f"{full:g}", va="center")
    axes.text(epochs * 1.01, -0.8, "weight", va="center", color="0.3")
    names = [term.replace("_", " ") for term in terms]
    axes.set(xlim=(0, epochs), ylim=(len(terms) - 0.5, -0.5), xlabel="epochs done")
    axes.set_yticks(range(len(terms)), names)
    axes.set_title(f"{plan.name}: which term is on, and how strongly", loc="left")
    return figure


def losses(history: pd.DataFrame) -> Figure:
    """Every loss term of `fit`'s history over the epochs, unweighted, one small plot each.

    An epoch whose term was off is left out; epochs before the full weight are drawn thinner.
    """
    terms = [n.removeprefix("weight_") for n in history.columns if n.startswith("weight_")]
    terms = [term for term in terms if term in history.columns and history[term].notna().any()]
    if not terms:
        raise ValueError("losses: the history holds no loss terms; give what `fit` returned")
    across = min(4, len(terms))
    down = -(-len(terms) // across)
    figure, grid = plt.subplots(
        down, across, figsize=(1.75 * across + 0.3, 1.45 * down + 0.3), squeeze=False,
        sharex=True, layout="constrained",
    )  # fmt: skip
    epochs = history["epoch"].to_numpy() + 1
    for place, axes in enumerate(grid.flat):
        if place >= len(terms):
            axes.set_visible(False)
            continue
        term = terms[place]
        weights = history[f"weight_{term}"].to_numpy(float)
        colour = CYCLE[place % len(CYCLE)]
        axes.plot(epochs, history[term], color=colour, lw=1)
        full = weights >= np.nanmax(weights)
        axes.plot(epochs[full], history[term].to_numpy(float)[full], color=colour, lw=2.4)
        axes.set_title(term.replace("_", " "), fontsize=8.5)
        axes.set_xlim(0.5, epochs[-1] + 0.5)
        axes.set_ylim(bottom=0)
        axes.grid(color="0.92", lw=0.6)
    figure.supxlabel("epoch", fontsize=9)
    return figure
