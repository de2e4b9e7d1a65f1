"""Draw the opening figure of the book from its reference results and its real crops.

python tools/draw_opening.py

Needs `book/results/09_staged_training.json` and the crops of `tools/cut_crops.py`; writes
`book/_static/opening.png`. Three questions, one figure: does the verdict hold, does the map lie on
the defect, does the verdict fall when the defect is taken away?
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from gainbook.lab import results_file as runs
from gainbook.lab import tables
from gainbook.lab.reference import S1_FINE, S5, System
from gainbook.render import plots
from gainbook.render.crops import Crop, read_crops
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from PIL import Image

from gainmtl.files import atomic_path

PATH = Path(__file__).resolve().parents[1] / "book/_static/opening.png"
SHOWN = ("blowhole", "crack", "fray")
QUESTIONS: tuple[tuple[str, str, str | None, dict[str, str]], ...] = (
    ("ranks good and bad parts (AUROC)", "auroc", None, {}),
    ("its map peaks on the defect (PointGame)", "point_game", "defect_map", {}),
    ("defect removed: verdict falls", "flip_rate", None, {"intervention": "removed"}),
    ("as much removed elsewhere: it falls", "flip_rate", None, {"intervention": "moved"}),
)
LABELS: dict[System, str] = {S1_FINE: "S1, paid for verdicts", S5: "S5, taught where to look"}


def draw_tiles(grid: Sequence[Sequence[Axes]], crops: Sequence[Crop]) -> None:
    """One row per crop: the tile, and where each system says the defect is."""
    for axes, title in zip(grid[0], ("a real tile", *(s.name for s in LABELS)), strict=True):
        axes.set_title(title)
    for line, crop in zip(grid, crops, strict=True):
        size = (crop.image.shape[1], crop.image.shape[2])
        line[0].imshow(plots.pixels(crop.image))
        for axes, system in zip(line[1:], LABELS, strict=True):
            plots.draw_map(axes, crop.maps[f"{system.tag}.defect_map"], size, 0, 1)
        for axes in line:
            plots.outline(axes, crop.mask)
            axes.set(xticks=[], yticks=[])
        line[0].set_ylabel(tables.short(crop.defect_type))


def draw_answers(axes: Axes, rows: pd.DataFrame) -> None:
    """Each question's figure for both systems, with its interval."""
    for index, (system, label) in enumerate(LABELS.items()):
        for place, (_, metric, name, condition) in enumerate(QUESTIONS):
            found = tables.find(rows, system, metric, name, **condition)
            height = place + (index - 0.5) * 0.3
            ends = [[found.value - found.low], [found.high - found.value]]
            axes.errorbar(
                found.value, height, xerr=ends, fmt=plots.MARKERS[index], ms=6,
                color=plots.CYCLE[index], capsize=3, lw=1.4, label=label if place == 0 else None,
            )  # fmt: skip
    axes.set(yticks=range(len(QUESTIONS)), yticklabels=[q[0] for q in QUESTIONS], xlim=(0, 1.02))
    axes.set_ylim(len(QUESTIONS) - 0.5, -0.5)
    axes.grid(axis="x", color="0.9", lw=0.7)
    axes.set_axisbelow(True)
    axes.yaxis.tick_right()
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("share of test parts; bars: 95 % intervals over tiles")
    axes.legend(loc="lower center", bbox_to_anchor=(0.6, 1.0), ncols=2)


def main() -> None:
    mpl.use("agg")
    plots.use_style()
    crops = [crop for crop in read_crops() if crop.defect_type in SHOWN]
    if not crops:
        raise SystemExit("no crops: run tools/cut_crops.py after the reference run")
    stored = runs.reference("09_staged_training")
    rows = stored.rows[stored.rows["dataset"] == stored.parameters["dataset"]]
    figure = plt.figure(figsize=(8.6, 3.5), layout="constrained")
    halves: Any = figure.subfigures(1, 2, width_ratios=(1, 1.45))
    left, right = halves
    grid = left.subplots(len(crops), 3, squeeze=False)
    draw_tiles(grid, crops)
    draw_answers(right.subplots(), rows)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=130)
    with atomic_path(PATH) as temporary:
        picture = Image.open(stream).convert("RGB").quantize(128, dither=Image.Dither.NONE)
        picture.save(temporary, "PNG", optimize=True)
    print(f"{PATH.name}: {PATH.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
