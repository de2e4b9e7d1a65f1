"""Pictures and maps side by side. Each function returns a matplotlib `Figure`, unshown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from gainbook.render.theme import ORANGE, SKY, WIDTH, wrap


class Column(NamedTuple):
    """One column of `panels`: the maps of all images and the scale that they share.

    The scale is fixed. Scaling each map to its own minimum and maximum would give a normal part
    bright cells too.
    """

    title: str
    maps: Tensor
    """(B, 1, h, w)."""
    low: float = 0.0
    """A negative value selects colours that diverge from white at 0."""
    high: float = 1.0


def pixels(image: Tensor) -> NDArray[np.float32]:
    """(3, H, W) in [0, 1] to (H, W, 3) for `imshow`."""
    return image.detach().cpu().float().clamp(0, 1).permute(1, 2, 0).numpy()


def evidence_column(title: str, cam: Tensor, limit: float | None = None) -> Column:
    """Evidence maps on one scale, symmetric about 0.

    Args:
        cam: (B, 1, h, w), unbounded.
        limit: end of the scale; by default the 99.5 % quantile of the absolute values, so that
            one large cell does not set it.
    """
    if limit is None:
        limit = float(torch.quantile(cam.detach().abs().float().flatten(), 0.995)) or 1.0
    return Column(title, cam, -limit, limit)


def draw_map(axes: Axes, values: Tensor, size: tuple[int, int], low: float, high: float) -> Any:
    """Draw a map (1, h, w) over an image of `size` (H, W), unsmoothed, so that its cells show."""
    return axes.imshow(
        values.detach().cpu().float()[0].numpy(),
        cmap="PuOr_r" if low < 0 else "cividis",
        vmin=low,
        vmax=high,
        extent=(-0.5, size[1] - 0.5, size[0] - 0.5, -0.5),
        interpolation="nearest",
    )


def outline(axes: Axes, mask: Tensor, colour: str = SKY) -> None:
    """Draw the border of a mask (1, H, W), dark under light so that it shows on any ground."""
    values = mask.detach().cpu().float()[0].numpy()
    if values.any():
        for width, paint in ((2.2, "black"), (1.1, colour)):
            axes.contour(values, levels=[0.5], colors=[paint], linewidths=[width])


def _subplots(rows: int, columns: int, cell: float, extra: float) -> tuple[Figure, Any, float]:
    """A grid of square axes without ticks, and the side of one of them in inches."""
    cell = min(cell, (WIDTH - 0.4) / columns)
    figure, grid = plt.subplots(
        rows, columns, figsize=(cell * columns + 0.4, cell * rows + extra), squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    return figure, grid, cell


def _title(axes: Axes, text: str, cell: float) -> None:
    axes.set_title(wrap(text, cell, 10), loc="center", fontsize=10)


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
        marks: (B, 1, H, W), a second region, outlined in orange: a printed mark.
        cell: side of one picture, inches; less where the figure would become too wide.
    """
    count, size = len(images), (images.shape[2], images.shape[3])
    figure, grid, cell = _subplots(count, len(columns) + 1, cell, 0.7)
    for axes, title in zip(grid[0], ["image", *(c.title for c in columns)], strict=True):
        _title(axes, title, cell)
    for row, line in enumerate(grid):
        line[0].imshow(pixels(images[row]))
        if rows is not None:
            line[0].set_ylabel(wrap(rows[row], cell, 10), fontsize=10)
    for index, (_, maps, low, high) in enumerate(columns, 1):
        drawn = [draw_map(grid[row, index], maps[row], size, low, high) for row in range(count)]
        bar = figure.colorbar(
            drawn[-1], ax=grid[:, index], location="bottom", shrink=0.9, aspect=14, pad=0.03,
            ticks=[low, high] if cell < 1.1 else [low, (low + high) / 2, high], format="%.2g",
        )  # fmt: skip
        bar.ax.tick_params(labelsize=9)
    # An empty bar below the images keeps them level with the maps.
    empty = figure.colorbar(drawn[-1], ax=grid[:, 0], location="bottom", aspect=14, pad=0.03)
    empty.ax.set_visible(False)
    for row, line in enumerate(grid):
        for axes in line:
            if masks is not None:
                outline(axes, masks[row])
            if marks is not None:
                outline(axes, marks[row], ORANGE)
            axes.set(xlim=(-0.5, size[1] - 0.5), ylim=(size[0] - 0.5, -0.5))
    return figure


def pictures(
    pictures: Sequence[Sequence[Any]],
    titles: Sequence[str] | None = None,
    rows: Sequence[str] | None = None,
    masks: Sequence[Sequence[Tensor | None]] | None = None,
    marks: Sequence[Sequence[Tensor | None]] | None = None,
    notes: Sequence[Sequence[str]] | None = None,
    cell: float = 1.5,
) -> Figure:
    """Rows of pictures and maps, each with an optional outline and words below it.

    Args:
        pictures: lines of (3, H, W) images or (1, h, w) maps in [0, 1], of PIL images or arrays
            that `imshow` takes; `None` leaves a place empty. Lines may differ in length.
        titles: one per column, above the first line.
        rows: one per line, beside it.
        masks: like `pictures`: (1, H, W) outlined in light blue.
        marks: like `pictures`: (1, H, W) outlined in orange.
        notes: like `pictures`: words below a picture.
        cell: side of one picture, inches; less where the figure would become too wide.
    """
    if not pictures or not any(len(line) for line in pictures):
        raise ValueError("pictures: expected at least one picture, got none")
    across = max(len(line) for line in pictures)
    figure, grid, cell = _subplots(len(pictures), across, cell, 0.35 if notes is None else 0.7)
    for axes, title in zip(grid[0], titles or (), strict=False):
        _title(axes, title, cell)
    for index, line in enumerate(pictures):
        if rows is not None:
            grid[index, 0].set_ylabel(wrap(rows[index], cell, 10), fontsize=10)
        for place, picture in enumerate(line):
            axes = grid[index, place]
            if notes is not None:
                axes.set_xlabel(wrap(notes[index][place], cell, 10), fontsize=10)
            for regions, colour in ((masks, SKY), (marks, ORANGE)):
                region = None if regions is None else regions[index][place]
                if region is not None:
                    outline(axes, region, colour)
            if isinstance(picture, Tensor) and len(picture) == 1:
                region = None if masks is None else masks[index][place]
                size = picture.shape[1:] if region is None else region.shape[1:]
                draw_map(axes, picture, (size[0], size[1]), 0, 1)
            elif picture is not None:
                axes.imshow(pixels(picture) if isinstance(picture, Tensor) else picture)
    return figure
