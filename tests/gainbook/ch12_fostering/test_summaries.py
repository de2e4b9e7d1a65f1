"""Tables of chapter 12 from hand-made rows."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
from gainbook.chapters.ch12_fostering import summaries
from gainbook.chapters.ch12_fostering.claims import SIZES
from gainbook.chapters.ch12_fostering.systems import fostered
from gainbook.lab.catalogue import AVERAGED
from gainbook.lab.tables import Value, pooled_row

from gainmtl.evaluation.stats import Interval

ONE = fostered(1.0)


def figure(metric: str, value: float, of: str | None = "cam", **about: Any) -> dict[str, Any]:
    interval = Interval(value, value - 0.01, value + 0.01, 9, 0)
    return pooled_row("d", ONE, metric, interval, of, **about)


def rows() -> pd.DataFrame:
    other, zero = AVERAGED.as_other, {"zero": "verdict"}
    return pd.DataFrame(
        [
            figure("auroc", 0.9, None),
            figure("cam_elliptic_area", 0.02, **zero),
            figure("auroc_difference", -0.03, None, **other),
            figure("positive_energy_difference", 0.05, **other, **zero),
            figure("pixel_ap_difference", -0.02, **other),
            *(figure(f"{shape}_ratio", 0.65 + k, **other, **zero) for k, shape in enumerate(SIZES)),
        ]
    )


def test_a_small_figure_has_a_digit_more_and_a_missing_one_is_a_dash() -> None:
    columns = summaries.VERDICT | summaries.SHAPES
    (line,) = summaries.figure_table(rows(), [ONE], columns).splitlines()[2:]
    cells = "0.90 [0.89, 0.91] | – | – | 0.020 [0.010, 0.030] | – | –"
    assert line == f"| ce, beta 1 | {cells} |"
    assert summaries.figure_cell(Value(math.nan, 0, 0, None)) == "–"
    assert summaries.figure_cell(Value(0.5, 0.4, 0.6, 3), True) == "+0.50 [+0.40, +0.60]"


def test_differences_targets_and_the_paper_s_figures() -> None:
    (line,) = summaries.difference_table(rows(), [(ONE, AVERAGED)]).splitlines()[2:]
    assert line.startswith("| ce, beta 1 | plain, averaged | -0.030 [-0.040, -0.020] | – | +0.050")
    targets = summaries.target_table(rows(), ONE, AVERAGED).splitlines()[2:]
    words = [target.split(" | ")[-1].removesuffix(" |") for target in targets]
    assert words == ["met", "missed", "missed", "met", "missed"]
    paper = summaries.paper_table(rows(), ONE, AVERAGED, 1.05)
    assert "| dispersion, ratio | 6.00 | 1.65 [1.64, 1.66] |" in paper
    assert "1.05, a step" in paper
    assert set(summaries.DRAWN) >= {"AUROC", "cd", "ROAD"}
    assert len(summaries.DRAWN) == 8
