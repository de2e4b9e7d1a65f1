"""The figure of measures against a dial: what is drawn where."""

from __future__ import annotations

import math

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from gainbook.chapters.ch06_guided.label_budget import Point
from gainbook.lab.tables import Value
from gainbook.render import curves
from gainbook.render.curves import against_dial

from gainmtl.training.gradient_conflict import Conflict

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


def test_lines_over_the_epochs_leave_gaps_where_nothing_is_known() -> None:
    table = pd.DataFrame(
        {"epoch": [1, 2, 3], "value": [0.5, math.nan, -0.5], "ci_low": 0.0, "ci_high": 1.0}
    )
    figure = curves.over_epochs({"Share": {"in stages": table, "rest": table}}, {"mining": 1.5})
    (axes,) = figure.axes
    assert axes.get_title("left") == "Share"
    assert axes.get_xlabel() == "epochs done"
    assert [line.get_label() for line in axes.lines[:2]] == ["in stages", "rest"]
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), table["value"])
    assert len(axes.collections) == 2  # the bands
    with pytest.raises(ValueError, match="at least one panel"):
        curves.over_epochs({})


def test_conflicts_put_each_term_in_its_place() -> None:
    cosines = np.array([[1, -0.5], [-0.5, 1]])
    found = Conflict(("mining", "guidance"), cosines, np.ones(2))
    figure = curves.conflicts({"in stages": found}, ["guidance", "localization", "mining"])
    values = figure.axes[0].images[0].get_array()
    assert values is not None
    assert values[0, 2] == values[2, 0] == -0.5
    assert np.isnan(np.ma.filled(values, np.nan)[1]).all()  # localization is off
    assert figure.axes[0].images[0].get_clim() == (-1, 1)
