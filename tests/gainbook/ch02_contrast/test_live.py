"""The toy's areas and the live comparison with a small backbone."""

from __future__ import annotations

import math

import numpy as np
import pytest
from gainbook.chapters.ch02_contrast import live
from gainbook.chapters.ch02_contrast.crossing import BANK, PROBE
from gainbook.lab.parameters import Parameters
from gainbook.lab.run_system import SMALL

P = Parameters(
    notebook="02", dataset="synthetic", seeds=(0,), image_size=64, texture="cast", bank_size=50,
    **SMALL,
)  # fmt: skip


@pytest.fixture(scope="module")
def found() -> live.LiveContrast:
    return live.compare(P)


def test_areas_of_the_toy() -> None:
    normal, known = np.array([[0.0, 0]]), np.array([[4.0, 0]])
    areas = live.toy_areas(normal, known, (-4, 4), cells=9)  # the grid's cells are whole numbers
    classifier, detector = areas.values()
    assert classifier.sum(0).tolist() == [0] * 7 + [9] * 2  # x = 3 and 4 are beyond x = 2
    assert (~detector).sum() == 5  # the origin and its four neighbours


def test_live_rows_and_words_have_the_figures(found: live.LiveContrast) -> None:
    rows = live.live_rows(found)
    assert {row["dataset"] for row in rows} == {"synthetic"}
    assert all(0 <= row["value"] <= 1 for row in rows if not math.isnan(row["value"]))
    value = found.value(PROBE, "recall", defects=25, types="seen")
    assert f"the probe's recall is {value:.2f}" in live.noticed(found)
    with pytest.raises(LookupError, match="bank has no recall"):
        found.value(BANK, "recall", defects=3)


def test_the_table_has_both_kinds_of_types(found: live.LiveContrast) -> None:
    table = live.recall_table(found)
    assert set(table["panel"]) == {"types of training", "a type left out"}
    assert len(table) == 2 * 3 * len(live.COUNTS)


def test_pictures_are_of_every_type(found: live.LiveContrast) -> None:
    shown = live.type_pictures(found)
    assert len(shown.titles) == len(shown.images[0]) == 5
    assert all(mask.any() for line in shown.masks for mask in line)


def test_impossible_parameters_are_named_together() -> None:
    with pytest.raises(ValueError, match=r"(?s)dataset: the live part.*multiple of 32"):
        live.check(P.with_values(dataset="deep-pcb", image_size=50))
