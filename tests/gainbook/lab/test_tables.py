"""Sentences and tables from rows: the right row or none, and figures as they are read."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from gainbook.lab import results_file as runs
from gainbook.lab import tables
from gainbook.lab.catalogue import S1_COARSE, S1_FINE, S5


def rows() -> pd.DataFrame:
    shared = {"condition": S1_FINE.condition, "n": 100}
    typed = {**S1_FINE.condition, "defect_type": "MT_Crack"}
    oracle = {**S1_FINE.condition, "oracle": True}
    return pd.DataFrame(
        [
            runs.row("set", "S1", "auroc", 0.912, ci_low=0.871, ci_high=0.9449, **shared),
            runs.row("set", "S1", "auroc", 0.5, seed=0, fold=1, **shared),
            runs.row("set", "S1", "auroc", 0.7, condition=S1_COARSE.condition),
            runs.row("set", "S1", "auroc", 0.8, condition=typed),
            runs.row("set", "S1", "iou", 0.2, map="cam", **shared),
            runs.row("set", "S1", "iou", 0.6, map="cam", condition=oracle),
            runs.row("set", "S1", "iou", 0.3, map="defect_map", **shared),
        ]
    )


def test_find_takes_the_pooled_row_of_exactly_this_condition() -> None:
    table = rows()
    found = tables.find(table, S1_FINE, "auroc")
    assert found == (0.912, 0.871, 0.9449, 100)
    assert tables.find(table, S1_COARSE, "auroc").value == 0.7
    assert tables.find(table, S1_FINE, "auroc", defect_type="MT_Crack").value == 0.8
    assert tables.find(table, S1_FINE, "iou", "cam").value == 0.2
    assert tables.find(table, S1_FINE, "iou", "cam", oracle=True).value == 0.6
    assert tables.find(table, S1_FINE, "iou", "defect_map").value == 0.3


@pytest.mark.parametrize(
    ("system", "metric", "map_name"),
    [(S5, "auroc", None), (S1_FINE, "recall", None), (S1_FINE, "iou", None)],
)
def test_a_figure_that_is_not_there_is_an_error_and_never_a_guess(
    system: tables.System, metric: str, map_name: str | None
) -> None:
    with pytest.raises(LookupError, match="found 0"):
        tables.find(rows(), system, metric, map_name)


def test_two_rows_for_one_figure_are_an_error() -> None:
    twice = pd.concat([rows(), rows()])
    with pytest.raises(LookupError, match="found 2"):
        tables.find(twice, S1_FINE, "auroc")


@pytest.mark.parametrize(
    ("value", "digits", "signed", "text"),
    [
        (tables.Value(0.912, 0.871, 0.9449, 1), 2, False, "0.91 [0.87, 0.94]"),
        (tables.Value(0.912, 0.871, 0.9449, 1), 3, True, "+0.912 [+0.871, +0.945]"),
        (tables.Value(-0.01, -0.02, 0.005, 1), 3, True, "-0.010 [-0.020, +0.005]"),
        (tables.Value(0.5, math.nan, math.nan, 1), 2, False, "0.50"),
        (tables.Value(math.nan, math.nan, math.nan, 0), 2, False, "undefined"),
    ],
)
def test_a_value_as_text(value: tables.Value, digits: int, signed: bool, text: str) -> None:
    assert value.text(digits, signed) == text
    assert str(value) == value.text()


def test_tables_line_by_line() -> None:
    table = rows()
    for metric in ("point_game", "energy_inside", "positive_energy"):
        for extra in ({}, {"oracle": True}):
            condition = {**S1_FINE.condition, **extra}
            new = runs.row("set", "S1", metric, 0.1, map="cam", condition=condition)
            table = pd.concat([table, pd.DataFrame([new])])
    lines = tables.map_quality(table, [(S1_FINE, "cam")]).splitlines()
    assert lines[0] == "| system | map | IoU | PointGame | Energy-Inside | positive energy |"
    assert lines[1] == "| :-- | --: | --: | --: | --: | --: |"
    assert lines[2] == "| S1, stride 4 | `cam` | 0.20 | 0.10 | 0.10 | 0.10 |"
    assert lines[3].startswith("| *oracle on the grid of S1, stride 4* |  | 0.60 |")
    assert len(lines) == 4
    with pytest.raises(ValueError, match="lines of 2 cells"):
        tables.markdown(["a", "b"], [["1"]])


def test_methods_line_by_line_with_a_dash_for_what_nobody_measured() -> None:
    about = {**S1_FINE.condition, "method": "grad_cam"}
    row = runs.row("set", "S1", "iou", 0.25, map="cam", condition=about)
    labels, columns = {"cam": "CAM", "grad_cam": "Grad-CAM"}, {"IoU": "iou", "ROAD": "road"}
    lines = tables.by_method(pd.DataFrame([row]), S1_FINE, labels, columns).splitlines()
    assert lines[0] == "| method | IoU | ROAD |"
    assert lines[2:] == ["| CAM | – | – |", "| Grad-CAM | 0.25 | – |"]


def test_series_keep_the_order_of_the_entries() -> None:
    entries = [
        ("crack", "S1", S1_FINE, "auroc", None, {"defect_type": "MT_Crack"}),
        ("all", "S1", S1_FINE, "auroc", None, {}),
    ]
    found = tables.series(rows(), entries)
    assert found["category"].tolist() == ["crack", "all"]
    assert found["value"].tolist() == [0.8, 0.912]
    assert found["ci_high"].tolist()[1] == 0.9449


def test_types_of_rows_without_their_mean() -> None:
    table = rows()
    mean = {**S1_FINE.condition, "defect_type": tables.TYPE_MEAN}
    table = pd.concat([table, pd.DataFrame([runs.row("set", "S1", "iou", 0.1, condition=mean)])])
    assert tables.defect_types(table) == ["MT_Crack"]
    assert tables.defect_types(table.iloc[:3]) == []
    assert tables.short("MT_Crack") == "crack"
    assert tables.short("stain") == "stain"
