"""The look of every figure in the book. Importing this module applies it.

The colours are those of Okabe and Ito, which stay distinct to colour-blind readers; every series
also has a marker of its own. The ground is opaque white with a margin, so that a figure reads the
same on a light and on a dark page. No figure is wider than `WIDTH`: a telephone shrinks a picture
to its screen, so a narrow figure keeps its letters large.
"""

from __future__ import annotations

import textwrap
from typing import Any

from cycler import cycler
from matplotlib import style

BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE, GREY = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#6B6B6B",
)  # fmt: skip
CYCLE = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, GREY)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
"""More than colours: two series that share a colour differ in their marker."""
LINES = ("-", "--", "-.", ":")
WIDTH = 6.0
"""Widest figure, in inches."""
STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.labelsize": 11,
    "axes.prop_cycle": cycler(color=CYCLE),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "figure.dpi": 100,
    "figure.facecolor": "white",
    "figure.labelsize": 11,
    "figure.titlesize": 11,
    "font.size": 11,
    "grid.color": "0.9",
    "grid.linewidth": 0.7,
    "legend.fontsize": 10,
    "legend.frameon": False,
    "lines.markersize": 5,
    "savefig.bbox": "tight",
    "savefig.dpi": 100,
    "savefig.facecolor": "white",
    "savefig.pad_inches": 0.12,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
}


def wrap(text: str, inches: float, points: float = 11) -> str:
    """`text` in lines that fit a width; line breaks that it already has stay."""
    letters = max(6, int(inches * 72 / (0.58 * points)))  # 0.58: mean width over height
    return "\n".join(
        textwrap.fill(line, letters, break_long_words=False) for line in text.split("\n")
    )


style.use(STYLE)
