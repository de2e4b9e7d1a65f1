"""Flip rates, selectivity and their differences, on answers that can be counted by hand."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest
from gainbook.lab.catalogue import S1_FINE, S5
from gainbook.lab.flips import flip_measures, flip_series, score_flips, with_selectivity
from gainbook.lab.measures import measure_rows, paired_rows
from gainbook.lab.results_file import check_rows
from gainbook.lab.tables import Value, find

from gainmtl import GAINMTL, datasets
from gainmtl.evaluation.interventions import INTERVENTIONS, LEVELS

NAN = math.nan


def answers(**flips: list[float]) -> pd.DataFrame:
    """Four parts in three groups; flips that are not named are 0."""
    names = [f"{level}.{name}" for level in LEVELS for name in INTERVENTIONS]
    table = {
        "name": ["a", "b", "c", "d"],
        "group": ["1", "1", "2", "3"],
        "defect_type": ["crack", "crack", "stain", "stain"],
    }
    given = {key.replace("_", "."): values for key, values in flips.items()}
    columns = {f"flip.{name}": given.get(name, [0.0] * 4) for name in names}
    return with_selectivity(pd.DataFrame(table | columns))


def rows_of(table: pd.DataFrame, types: str = "each") -> pd.DataFrame:
    return pd.DataFrame(check_rows(measure_rows(table, flip_measures(types), "d", S5, 50)))


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    table = answers(
        image_removed=[1.0, 1.0, 0.0, NAN],
        image_moved=[0.0, 1.0, NAN, NAN],
        features_kept=[NAN] * 4,
    )
    return rows_of(table)


def rate(rows: pd.DataFrame, metric: str, **condition: Any) -> Value:
    return find(rows, S5, metric, **condition)


def test_rates_count_the_defined_answers(rows: pd.DataFrame) -> None:
    removed = rate(rows, "flip_rate", level="image", intervention="removed")
    assert (removed.value, removed.n) == (pytest.approx(2 / 3), 3)
    assert removed.low <= removed.value <= removed.high
    crack = {"level": "image", "intervention": "removed", "defect_type": "crack"}
    assert rate(rows, "flip_rate", **crack).value == 1
    with pytest.raises(LookupError):
        rate(rows, "flip_rate", level="features", intervention="kept")  # undefined everywhere


def test_types_are_optional(rows: pd.DataFrame) -> None:
    plain = rows_of(answers(), types="")
    assert not any("defect_type" in condition for condition in plain["condition"])
    assert any("defect_type" in condition for condition in rows["condition"])


def test_selectivity_needs_both_answers(rows: pd.DataFrame) -> None:
    value = rate(rows, "selectivity", level="image")
    assert (value.value, value.n) == (0.5, 2)  # (1 - 0) and (1 - 1); c has no control
    table = answers(image_removed=[1, 1, 0, 0], image_moved=[1, 0, 1, NAN])
    assert table["selectivity.image"].tolist()[:3] == [0, 1, -1]
    assert math.isnan(table["selectivity.image"][3])


def test_a_head_that_flips_at_anything_is_not_selective() -> None:
    rows = rows_of(answers(image_removed=[1.0] * 4, image_moved=[1.0] * 4))
    assert rate(rows, "flip_rate", level="image", intervention="removed").value == 1
    assert rate(rows, "selectivity", level="image").value == 0


def test_differences_are_over_parts_that_both_flag() -> None:
    a = answers(image_removed=[1.0, 1.0, 1.0, NAN], image_moved=[0.0, 0.0, 1.0, NAN])
    b = answers(image_removed=[0.0, NAN, 1.0, 1.0], image_moved=[0.0, NAN, 0.0, 0.0])
    paired = paired_rows(a, b, flip_measures("each"), "d", S5, S1_FINE, 50)
    rows = pd.DataFrame(check_rows(paired))
    against = {"against": "S1", "against_output_stride": 4, "level": "image"}
    removed = rate(rows, "flip_rate_difference", intervention="removed", **against)
    assert (removed.value, removed.n) == (0.5, 2)  # a and c: 1 - 0 and 1 - 1
    assert rate(rows, "selectivity_difference", **against).value == 0  # 1 - 0 and 0 - 1
    with pytest.raises(ValueError, match="about the same images"):
        paired_rows(a, b[:3], flip_measures(), "d", S5, S1_FINE, 50)


def test_a_figure_leaves_out_undefined_rates(rows: pd.DataFrame) -> None:
    drawn = flip_series(rows, [S5])
    assert list(drawn.columns) == ["category", "series", "value", "ci_low", "ci_high"]
    assert set(drawn["series"]) == {S5.label}
    assert len(drawn) == 5  # two levels of three interventions, less the undefined one
    assert flip_series(pd.DataFrame(), [S5]).empty


def test_answers_of_models_have_the_measured_columns() -> None:
    data = datasets.load("synthetic", image_size=32, train=8, val=4, test=8)
    model = GAINMTL("test_efficientnet", "S1", None, output_stride=4).eval()
    table = score_flips({"model": model}, data.test)["model"]
    assert {measure.column for measure in flip_measures()} <= set(table)
