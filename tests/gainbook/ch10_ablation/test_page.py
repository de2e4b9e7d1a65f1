"""Tables and sentences of the page from made-up rows."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest
from gainbook.chapters.ch10_ablation import ladder, page
from gainbook.chapters.ch10_ablation.ladder import S1, S2, S5, SIX
from gainbook.lab import results_file as runs
from gainbook.lab.systems import System
from gainbook.lab.tables import Value

UP, DOWN, FLAT = Value(0.1, 0.05, 0.15, 9), Value(-0.1, -0.15, -0.05, 9), Value(0.0, -0.1, 0.1, 9)
EMPTY = pd.DataFrame(columns=list(runs.ROW_RULES))


def row(system: System, metric: str, value: Value, map: str | None = None, **about: Any) -> Any:
    return runs.row(
        "set", system.name, metric, value.value, map=map, ci_low=value.low, ci_high=value.high,
        n=9, condition={**system.condition, **about},
    )  # fmt: skip


def test_what_nobody_measured_is_nan() -> None:
    assert math.isnan(page.difference(None, S5, S1, ("auroc", None, {})).value)
    assert math.isnan(page.figure_of(EMPTY, S5, ("x", None, {})).low)
    assert math.isnan(page.cost_of(EMPTY, S5, "parameters").value)


def test_a_step() -> None:
    verdicts = [page.step_verdict(value) for value in (UP, DOWN, FLAT, page.UNKNOWN)]
    assert verdicts == [page.CONTRIBUTES, page.HARMS, page.OPEN, page.OPEN]


def test_differences_apart_from_zero_are_listed() -> None:
    rows = pd.DataFrame(
        [
            row(S2, "iou_difference", UP, "defect_map", **S1.as_other),
            row(S2, "auroc_difference", DOWN, **S1.as_other),
            row(S2, "recall_at_fpr05_difference", FLAT, **S1.as_other),
        ]
    )
    steps = ladder.WHOLE_STEPS[:1]
    better = page.apart_from_zero(rows, steps, page.CONTRIBUTES)
    assert better == "S1 to S2, IoU, defect map +0.10 [+0.05, +0.15]"
    assert page.apart_from_zero(rows, steps, page.HARMS).startswith("S1 to S2, AUROC -0.10")
    assert page.apart_from_zero(EMPTY, steps, page.HARMS) == "none"
    values = page.step_values(rows, steps)
    assert values["map"]["IoU,\ndefect map"] == [UP]
    assert math.isnan(values["reasons"]["selectivity\non the image"][0].value)
    assert math.isnan(next(iter(page.promised(rows).values())).value)


def test_the_steps_table_has_every_rung() -> None:
    lines = page.steps_table().split("\n")[2:]
    assert len(lines) == len(ladder.RUNGS)
    assert lines[0] == "| S1 |  | classification alone | no |"
    assert lines[-1].startswith("| S6 | S5 | + true mask")


def test_the_simplest_as_good_as_the_best() -> None:
    value = {system: 0.8 + 0.01 * place for place, system in enumerate(SIX)}
    rows = [row(s, "auroc", Value(value[s], 0.7, 1.0, 9)) for s in SIX]
    rows += [
        row(b, "auroc_difference", UP if a == S1 else FLAT, **a.as_other)
        for i, a in enumerate(SIX)
        for b in SIX[i + 1 :]
    ]
    (line,) = page.needs_table(pd.DataFrame(rows)).split("\n")[2:]
    assert line == "| ranking of parts | S6, 0.85 [0.70, 1.00] | S2, 0.81 [0.70, 1.00] | yes |"


def test_cost_and_the_cheapest() -> None:
    made_at = {"backbone": "b", "image_size": 64}
    nan = math.nan
    rows = pd.DataFrame(
        [
            row(s, metric, Value(number, nan, nan, 9), **made_at)
            for place, s in enumerate(SIX)
            for metric, number in (
                ("parameters", 2e6), ("gigaflops", 0.5), ("milliseconds", 10.0),
                ("training_milliseconds", 21.0 if place == 0 else 20.0 + 5 * (place > 1)),
            )
        ]
    )  # fmt: skip
    assert page.cheapest(rows) == S1  # within a tenth of the fastest
    first = page.cost_table(rows, SIX).split("\n")[2]
    assert first == "| S1 | 2.00 M | 0.50 | 10 | 21 | nan | no |"


def test_gains_and_ratios_beside_the_targets() -> None:
    rows = []
    for s in ladder.CANDIDATES:
        for metric in ("recall_at_fpr05", "auroc"):
            rows.append(row(s, f"{metric}_difference", UP, **S1.as_other))
            rows.append(row(s, f"{metric}_p_value", Value(0.001, 0.0, 0.0, 9), **S1.as_other))
    table = page.gains_table(pd.DataFrame(rows), ladder.CANDIDATES)
    assert table.count("| 0.008 | +0.100 [+0.050, +0.150] | 0.008 | reached |") == 4
    twice = Value(2.1, 1.5, 3.0, 9)
    rows = [
        row(s, f"{metric}_ratio", twice, "defect_map", **base.as_other)
        for s in (*ladder.CANDIDATES, ladder.S5_NO_MINING)
        for base in (S1, *ladder.STANDARDS)
        for metric in ("iou", "point_game")
    ]
    lines = page.ratio_table(pd.DataFrame(rows)).split("\n")[2:]
    assert len(lines) == 20
    assert "| reached | 2.10 [1.50, 3.00] | missed |" in lines[0]


def test_surroundings_have_open_marks_without_defects() -> None:
    about = {"defect_type": "MT_Crack"}
    rows = pd.DataFrame(
        [row(S5, "auroc", UP, **about), row(S5, "auroc_without_defects", FLAT, **about)]
    )
    table = page.surroundings_series(rows, [S5, S1])
    assert table["category"].tolist() == ["crack", "crack"]
    assert table["is_open"].tolist() == [False, True]
    assert table["value"].tolist() == pytest.approx([0.1, 0.0])
