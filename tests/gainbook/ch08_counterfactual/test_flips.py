"""Flip rates, differences and the verdict on the claim, on answers one can count."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest
from gainbook.chapters.ch08_counterfactual.flips import (
    flip_differences,
    flip_rows,
    flip_series,
    judge_term,
    selectivity,
)
from gainbook.lab.reference import S1_FINE, S5
from gainbook.lab.results_file import check_rows
from gainbook.lab.tables import Value, find

from gainmtl.evaluation.interventions import INTERVENTIONS, LEVELS

NAN = math.nan


def answers(**flips: list[float]) -> pd.DataFrame:
    """Four parts in three groups; flips not given are 0."""
    names = [f"{level}.{name}" for level in LEVELS for name in INTERVENTIONS]
    table = {
        "name": ["a", "b", "c", "d"],
        "group": ["1", "1", "2", "3"],
        "defect_type": ["crack", "crack", "stain", "stain"],
    }
    given = {key.replace("_", "."): values for key, values in flips.items()}
    return pd.DataFrame(table | {f"flip.{n}": given.get(n, [0.0] * 4) for n in names})


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    given = answers(
        image_removed=[1.0, 1.0, 0.0, NAN],
        image_moved=[0.0, 1.0, NAN, NAN],
        features_kept=[NAN] * 4,
    )
    return pd.DataFrame(check_rows(flip_rows(given, "d", "S5", S5.condition, resamples=50)))


def rate(rows: pd.DataFrame, metric: str, **condition: Any) -> Value:
    return find(rows, S5, metric, **condition)


def test_rates_count_the_defined_answers(rows: pd.DataFrame) -> None:
    removed = rate(rows, "flip_rate", level="image", intervention="removed")
    assert (removed.value, removed.n) == (pytest.approx(2 / 3), 3)
    assert removed.low <= removed.value <= removed.high
    crack = {"level": "image", "intervention": "removed", "defect_type": "crack"}
    assert rate(rows, "flip_rate", **crack).value == 1
    with pytest.raises(LookupError):
        rate(rows, "flip_rate", level="features", intervention="kept")  # nobody could be asked


def test_selectivity_needs_both_answers(rows: pd.DataFrame) -> None:
    found = rate(rows, "selectivity", level="image")
    assert (found.value, found.n) == (0.5, 2)  # (1 - 0) and (1 - 1); c has no control
    given = answers(image_removed=[1, 1, 0, 0], image_moved=[1, 0, 1, NAN])
    assert selectivity(given, "image").tolist()[:3] == [0, 1, -1]


def test_a_head_that_flips_at_anything_is_not_selective() -> None:
    timid = answers(image_removed=[1.0] * 4, image_moved=[1.0] * 4)
    rows = pd.DataFrame(flip_rows(timid, "d", "S5", S5.condition, resamples=20))
    assert rate(rows, "flip_rate", level="image", intervention="removed").value == 1
    assert rate(rows, "selectivity", level="image").value == 0


def test_differences_are_over_parts_that_both_found() -> None:
    a = answers(image_removed=[1.0, 1.0, 1.0, NAN], image_moved=[0.0, 0.0, 1.0, NAN])
    b = answers(image_removed=[0.0, NAN, 1.0, 1.0], image_moved=[0.0, NAN, 0.0, 0.0])
    rows = pd.DataFrame(check_rows(flip_differences(a, b, "d", S5, S1_FINE, resamples=50)))
    against = {"against": "S1", "against_output_stride": 4, "level": "image"}
    removed = rate(rows, "flip_rate_difference", intervention="removed", **against)
    assert (removed.value, removed.n) == (0.5, 2)  # a and c: 1 - 0 and 1 - 1
    assert rate(rows, "selectivity_difference", **against).value == 0  # 1 - 0 and 0 - 1
    with pytest.raises(ValueError, match="the same parts"):
        flip_differences(a, b[:3], "d", S5, S1_FINE)


def v(value: float, low: float, high: float) -> Value:
    return Value(value, low, high, 10)


@pytest.mark.parametrize(
    ("image", "features", "kept", "auroc", "verdict"),
    [
        (v(0.2, 0.1, 0.3), v(0.2, 0.1, 0.3), v(0.0, -0.05, 0.05), v(0, -0.01, 0.01), "confirmed"),
        (v(0.2, 0.1, 0.3), v(0.0, -0.1, 0.1), v(0.0, -0.05, 0.05), v(0, -0.01, 0.01), "confirmed"),
        (v(0.1, -0.1, 0.3), v(0.2, 0.1, 0.3), v(0.0, -0.05, 0.05), v(0, -0.01, 0.01), "refined"),
        (v(0.2, 0.1, 0.3), v(0.2, 0.1, 0.3), v(0.1, 0.0, 0.2), v(0, -0.01, 0.01), "refined"),
        (v(0.2, 0.1, 0.3), v(0.2, 0.1, 0.3), v(0, -0.05, 0.05), v(-0.1, -0.2, 0.01), "refined"),
        (v(0.1, -0.1, 0.3), v(0.0, -0.1, 0.3), v(0, -0.05, 0.05), v(0, -0.01, 0.01), "refuted"),
        (v(NAN, NAN, NAN), v(NAN, NAN, NAN), v(NAN, NAN, NAN), v(NAN, NAN, NAN), "refuted"),
    ],
)  # fmt: skip
def test_the_criterion(
    image: Value, features: Value, kept: Value, auroc: Value, verdict: str
) -> None:
    judged = judge_term(image, features, kept, auroc)
    assert judged.verdict == verdict
    assert judged.figures["AUROC"] is auroc


def test_a_figure_leaves_out_what_nobody_could_be_asked(rows: pd.DataFrame) -> None:
    drawn = flip_series(rows, [S5])
    assert list(drawn.columns) == ["category", "series", "value", "ci_low", "ci_high"]
    assert set(drawn["series"]) == {S5.label}
    assert len(drawn) == 5  # two levels of three questions, less one without an answer
    assert flip_series(pd.DataFrame(), [S5]).empty
