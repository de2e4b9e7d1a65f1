"""The figure of measures against a dial: what is drawn where."""

from __future__ import annotations

import math

import matplotlib as mpl
import pytest

from gainmtl.curves import against_dial
from gainmtl.label_budget import Point
from gainmtl.tables import Value

mpl.use("agg")
POINTS = [
    Point("none", Value(0.2, math.nan, math.nan, 4), is_apart=True),
    Point("5 %", Value(0.5, 0.4, 0.7, 4), (0.45, 0.55)),
    Point("all", Value(0.8, 0.7, 0.9, 4)),
]


def test_a_panel_per_measure_and_a_place_per_point() -> None:
    figure = against_dial({"AUROC": POINTS, "IoU": POINTS}, "masks", {"IoU": (0, 1)})
    first, second = figure.axes
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["AUROC", "IoU"]
    assert [tick.get_text() for tick in first.get_xticklabels()] == ["none", "5 %", "all"]
    assert second.get_ylim() == (0, 1)
    line = first.get_lines()[0]
    assert line.get_xdata().tolist() == [1, 2]  # what stands apart is not joined
    assert line.get_ydata().tolist() == [0.5, 0.8]
    dashes = [
        one for one in first.get_lines() if one.get_marker() == "_" and len(one.get_xdata()) == 2
    ]
    assert [list(one.get_ydata()) for one in dashes] == [[0.45, 0.55]]


def test_nothing_to_draw() -> None:
    for empty in ({}, {"AUROC": []}):
        with pytest.raises(ValueError, match="at least one panel"):
            against_dial(empty, "masks")
