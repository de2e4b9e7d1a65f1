"""Flagged areas of a plane: one panel per rule, the grid over the limits."""

from __future__ import annotations

import numpy as np
import pytest
from gainbook.render.planes import flagged_areas
from matplotlib import pyplot as plt


def test_a_panel_per_rule_with_all_points() -> None:
    flagged = np.zeros((5, 5), dtype=bool)
    flagged[:, 3:] = True
    points = {"normal": np.array([[0.0, 0]]), "defect": np.array([[3.0, 1], [4, 2]])}
    figure = flagged_areas({"right": flagged, "above": flagged.T}, points, (0, 4))
    assert [axes.get_title("left") for axes in figure.axes] == ["right", "above"]
    lines = figure.axes[0].get_lines()
    assert [line.get_label() for line in lines] == ["normal", "defect"]
    assert lines[1].get_xydata().tolist() == [[3, 1], [4, 2]]
    (area,) = figure.axes[0].collections
    edge = area.get_paths()[0].get_extents()
    assert (edge.x0, edge.x1) == (pytest.approx(2.5), 4)  # halfway from column 2 to column 3
    plt.close(figure)


def test_nothing_to_draw_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one area"):
        flagged_areas({}, {}, (0, 1))
