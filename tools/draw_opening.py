"""Draw the opening figure of the book from its reference results and its real crops.

python tools/draw_opening.py

Needs `book/results/09_staged_training.json` and the crops of `tools/cut_crops.py`; writes
`book/_static/opening.png`. Above, real tiles with the maps of two systems; below, how well each
system ranks parts, where its map peaks, and whether its verdict changes with the defect.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from gainbook.lab import results_file as runs
from gainbook.lab import tables
from gainbook.lab.catalogue import S1_FINE, S5
from gainbook.lab.systems import System
from gainbook.render import montage, plots
from gainbook.render.crops import Crop, read_crops
from matplotlib.figure import Figure
from PIL import Image

from gainmtl.files import atomic_path

PATH = Path(__file__).resolve().parents[1] / "book/_static/opening.png"
SHOWN = ("blowhole", "crack", "fray")
QUESTIONS: tuple[tuple[str, str, str | None, dict[str, str]], ...] = (
    ("ranks good and bad parts (AUROC)", "auroc", None, {}),
    ("map peaks on the defect (PointGame)", "point_game", "defect_map", {}),
    ("defect removed: called normal", "flip_rate", None, {"intervention": "removed"}),
    ("as much removed elsewhere: called normal", "flip_rate", None, {"intervention": "moved"}),
)
LABELS: dict[System, str] = {S1_FINE: "S1, trained on verdicts", S5: "S5, trained with masks too"}


def draw_tiles(crops: Sequence[Crop]) -> Figure:
    """One column per crop: the tile, and the defect map of each system below it."""
    maps = [[crop.maps[f"{system.tag}.defect_map"] for crop in crops] for system in LABELS]
    return montage.pictures(
        [[crop.image for crop in crops], *maps],
        [tables.short(crop.defect_type) for crop in crops],
        ["a real tile", *(f"map of {system.name}" for system in LABELS)],
        masks=[[crop.mask for crop in crops]] * 3,
    )


def draw_answers(rows: pd.DataFrame) -> Figure:
    """Each question's value for both systems, with its interval."""
    entries = [
        (words, label, system, metric, name, condition)
        for words, metric, name, condition in QUESTIONS
        for system, label in LABELS.items()
    ]
    title = "Both networks on test tiles, with 95 % intervals over tiles"
    return plots.intervals(tables.series(rows, entries), title, "value", limits=(-0.03, 1.02))


def stack(figures: Sequence[Figure], dpi: int = 130) -> Image.Image:
    """Figures below each other on white."""
    pictures = []
    for figure in figures:
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=dpi)
        pictures.append(Image.open(stream).convert("RGB"))
    size = max(one.width for one in pictures), sum(one.height for one in pictures)
    sheet, top = Image.new("RGB", size, "white"), 0
    for one in pictures:
        sheet.paste(one, ((size[0] - one.width) // 2, top))
        top += one.height
    return sheet


def main() -> None:
    mpl.use("agg")
    crops = [crop for crop in read_crops() if crop.defect_type in SHOWN]
    if not crops:
        raise SystemExit("no crops: run tools/cut_crops.py after the reference run")
    stored = runs.reference("09_staged_training")
    rows = stored.rows[stored.rows["dataset"] == stored.parameters["dataset"]]
    picture = stack([draw_tiles(crops), draw_answers(rows)])
    with atomic_path(PATH) as temporary:
        picture.quantize(128, dither=Image.Dither.NONE).save(temporary, "PNG", optimize=True)
    print(f"{PATH.name}: {PATH.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
