"""Forest plots show what they are given, and leave empty what nobody measured."""

from __future__ import annotations

import math

import pytest
from gainbook.lab.tables import Value
from gainbook.render.forests import BETTER, NEITHER, WORSE, forest, mark_of
from matplotlib import pyplot as plt

UP, DOWN, FLAT = Value(0.1, 0.05, 0.15, 9), Value(-0.1, -0.15, -0.05, 9), Value(0.0, -0.1, 0.1, 9)
UNKNOWN = Value(math.nan, math.nan, math.nan, None)


def test_marks_differ_in_colour_and_shape() -> None:
    marks = [mark_of(value) for value in (UP, DOWN, FLAT)]
    assert [mark[0] for mark in marks] == [BETTER, WORSE, NEITHER]
    assert len({mark[1] for mark in marks}) == 3
    assert [mark[2] for mark in marks] == [True, True, False]


def test_panels_lines_and_scales() -> None:
    panels = {"verdict": {"a": [UP, DOWN], "b": [FLAT, UNKNOWN]}, "map": {"c": [UNKNOWN] * 2}}
    figure = forest(["one", "two"], panels, "differences")
    axes = figure.axes
    assert [one.get_title(loc="left") for one in axes] == ["a", "b", "c"]
    headings = [[text.get_text() for text in one.texts] for one in axes]
    assert headings == [["verdict"], [], ["map"]]
    assert [text.get_text() for text in axes[0].get_yticklabels()] == ["one", "two"]
    assert [len(one.containers) for one in axes] == [2, 1, 0]
    for one in axes:
        low, high = one.get_xlim()
        assert low == -high
    plt.close(figure)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one line"):
        forest([], {"a": {"b": []}}, "t")
    with pytest.raises(ValueError, match="expected 2 values"):
        forest(["one", "two"], {"a": {"b": [UP]}}, "t")
