"""The label budget: sentences of the page, against figures worked out by hand."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from gainbook.chapters.ch15_own_data import budget
from gainbook.chapters.ch15_own_data.budget import STUDY, by_draw, worth_text
from gainbook.lab.catalogue import PLAIN, S5, TEXTBOOK
from gainbook.lab.seed_study import figure, first_above, seed_rows
from gainbook.lab.systems import System


def test_labels_between_points_lie_on_a_log_axis() -> None:
    curve = {10: 0.6, 30: 0.7, 300: 0.9}
    assert first_above(curve, 0.7) == 30
    assert first_above(curve, 0.8) == pytest.approx(math.sqrt(30 * 300))
    assert first_above(curve, 0.55) == 10  # reached by the first point
    assert first_above(curve, 0.91) == math.inf
    assert first_above({10: 0.6, 30: 0.5, 100: 0.7}, 0.65) == pytest.approx(30 * (10 / 3) ** 0.75)


def rows(
    masked: list[float], plain: list[dict[int, float]], system: System = TEXTBOOK
) -> pd.DataFrame:
    """Result rows of draws: S5's AUROC at 30 labels, the other system's by number of labels."""
    values = {(S5.tag, 30, draw): value for draw, value in enumerate(masked)}
    for draw, curve in enumerate(plain):
        values |= {(system.tag, labels, draw): value for labels, value in curve.items()}
    cells = [
        c for c in STUDY.cells() if (c["system"], c["labels"], c["seed"]) in values
    ]  # fmt: skip
    contents = [
        {"figures": [figure("auroc", values[c["system"], c["labels"], c["seed"]])]} for c in cells
    ]
    return pd.DataFrame(seed_rows(STUDY, cells, contents))


def test_the_sentence_has_the_median_over_draws() -> None:
    found = rows([0.9, 0.9, 0.9], [{10: 0.5, 30: 0.9}, {10: 0.9, 30: 0.9}, {10: 0.5, 30: 0.6}])
    assert by_draw(found, S5) == {0: {30: 0.9}, 1: {30: 0.9}, 2: {30: 0.9}}
    text = worth_text(found)
    assert "**about 30** defective tiles (median of 3 draws, interpolated; in 1" in text
    assert "; in 1 of them 30 are not enough)" in text
    text = worth_text(rows([0.99, 0.99], [{10: 0.5, 30: 0.6}, {10: 0.5, 30: 0.6}]))
    assert "**more than 30** defective tiles (median of 2 draws, " in text
    assert "; in all 2 of them" in text
    assert worth_text(rows([0.9], [])) == ""
    text = worth_text(rows([0.9], [{30: 0.95}], PLAIN))
    assert "S1, with the grid and the recipe of S5 but without masks, needs **at most 30** " in text


def test_table_and_curve_have_the_means_over_draws() -> None:
    found = rows([0.8, 0.9], [{30: 0.6}, {30: 0.7}])
    frame = budget.budget_frame(found).set_index(["series", "x"])["value"]
    assert frame.to_dict() == pytest.approx({(TEXTBOOK.label, 30): 0.65, ("S5, masks", 30): 0.85})
    lines = budget.budget_table(found).splitlines()
    assert len(lines) == 2 + 2  # of the systems and budgets that were run
    textbook = next(line for line in lines if TEXTBOOK.label in line)
    assert textbook.split("|")[2].strip().startswith("0.650 [")


def test_the_gain_is_the_paired_difference() -> None:
    assert budget.gain_text(rows([0.8, 0.9], [{10: 0.6}, {10: 0.7}])) == ""
    cells = [
        c for c in STUDY.cells(seed=[0, 1], labels=[30]) if c["system"] in (S5.tag, TEXTBOOK.tag)
    ]
    contents = [
        {"figures": [figure(m, v + 0.01 * c["seed"]) for m in ("auroc", "recall_at_fpr05")]}
        for c in cells
        for v in [0.9 if c["system"] == S5.tag else 0.6]
    ]
    text = budget.gain_text(pd.DataFrame(seed_rows(STUDY, cells, contents)))
    assert text.count("+0.300 [+0.300, +0.300]") == 2
    assert "AUROC **0.905 [" in text
    assert "- S5 minus the textbook fine-tune: +0.300" in text
    assert "minus S1" not in text  # not run


def test_masks_are_judged_by_the_place_of_the_map_too() -> None:
    assert budget.places_text(rows([0.8, 0.9], [{30: 0.6}, {30: 0.7}])) == ""
    cells = [c for c in STUDY.cells(seed=[0, 1], labels=[30]) if c["system"] in (S5.tag, PLAIN.tag)]
    contents = [
        {
            "figures": [
                figure("auroc", start + 0.02 * c["seed"]),
                figure("recall_at_fpr05", start),
                *(figure(metric, start - 0.1, "defect_map") for metric in ("iou", "point_game")),
            ]
        }
        for c in cells
        for start in [0.9 if c["system"] == S5.tag else 0.5]
    ]
    text = budget.places_text(pd.DataFrame(seed_rows(STUDY, cells, contents)))
    assert "S1's AUROC is between 0.500 and 0.520, S5's between 0.900 and 0.920" in text
    assert text.endswith("PointGame +0.40 [+0.40, +0.40].")
    assert "| S5, masks | 0.90 [" in text


def test_differences_are_of_the_same_draw() -> None:
    found = rows([0.8, 0.9], [{30: 0.6}, {30: 0.7}])
    gap = found[found["metric"] == "auroc_difference"].iloc[0]
    assert (gap["value"], gap["n"]) == (pytest.approx(0.2), 2)
    assert gap["condition"]["against"] == TEXTBOOK.name
    assert set(found["dataset"]) == {"deep-pcb"}


@pytest.mark.slow
@pytest.mark.skipif("GAINMTL_DATA" not in os.environ, reason="needs deep-pcb below GAINMTL_DATA")
def test_one_run_on_board_tiles() -> None:
    root = Path(os.environ["GAINMTL_DATA"]) / "deep-pcb"
    settings: dict[str, Any] = {
        **budget.SETTINGS, "data_root": str(root), "image_size": 64, "test_tiles": 40,
        "backbone": "test_efficientnet", "weights": None,
    }  # fmt: skip
    place = STUDY.cells(system=[S5.tag], labels=[10], seed=[1])[0]
    content = STUDY.train_and_measure(settings, place)
    names = {(one["metric"], one["map"]) for one in content["figures"]}
    assert {("auroc", None), ("iou", "defect_map"), ("energy_inside", "cam")} <= names
    assert content["settings"]["data_root"] == "deep-pcb"  # no path of a machine
