"""Rows from a table with one row per image, against values worked out by hand."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from gainbook.lab.measures import Measure, measure_rows, paired_rows, pairs_among
from gainbook.lab.results_file import check_rows
from gainbook.lab.systems import System

from gainmtl import metrics
from gainmtl.evaluation.stats import bootstrap_interval, paired_interval
from gainmtl.evaluation.tidy import TYPE_MEAN

FIRST = System("S5-stride4", "S5", 4, "S5")
SECOND = System("S1-stride8", "S1", 8, "S1")
TABLE = pd.DataFrame(
    {
        "name": list("abcdef"),
        "group": ["g1", "g1", "g2", "g3", "g4", "g5"],
        "defect_type": ["crack", "crack", "crack", "stain", "normal", "normal"],
        "is_defective": [True, True, True, True, False, False],
        "score": [0.9, 0.7, 0.8, 0.2, 0.1, 0.4],
        "overlap": [0.2, 0.4, 0.6, 0.8, math.nan, math.nan],
        "empty": math.nan,
    }
)


def by(rows: list[dict[str, Any]], **wanted: Any) -> dict[str, Any]:
    (row,) = (
        r for r in rows if all(r["condition"].get(k, r.get(k)) == v for k, v in wanted.items())
    )
    return row


def test_means_leave_nan_out_and_columns_of_nan_have_no_row() -> None:
    measures = (
        Measure("iou", "overlap", "cam", {"level": "image"}),
        Measure("nothing", "empty"),
        Measure("absent", "no such column"),
    )
    (row,) = check_rows(measure_rows(TABLE, measures, "set", FIRST, resamples=200))
    assert row["value"] == pytest.approx(0.5)
    assert (row["n"], row["map"], row["metric"]) == (4, "cam", "iou")
    assert row["condition"] == {"output_stride": 4, "level": "image"}
    oracle = bootstrap_interval(
        np.mean, TABLE["group"][:4].to_numpy(), TABLE["overlap"][:4].to_numpy(), resamples=200
    )
    assert (row["ci_low"], row["ci_high"]) == (oracle.low, oracle.high)


def test_a_row_of_one_fold_has_no_interval() -> None:
    (row,) = measure_rows(TABLE, [Measure("iou", "overlap")], "set", FIRST, 0, seed=3, fold=1)
    assert (row["seed"], row["fold"], row["n"]) == (3, 1, 4)
    assert row["ci_low"] is None
    assert row["value"] == pytest.approx(0.5)


def test_types_apart_are_set_against_all_normal_images() -> None:
    ranking = Measure(
        "auroc", "score", statistic=metrics.auroc, beside=("is_defective",), types="each"
    )
    rows = measure_rows(TABLE, [ranking], "set", FIRST, resamples=50)
    values = {row["condition"].get("defect_type"): row["value"] for row in rows}
    # the stain's 0.2 lies between the normal 0.1 and 0.4
    assert values == pytest.approx({None: 7 / 8, "crack": 1.0, "stain": 0.5})
    apart = [dataclasses.replace(ranking, types="only")]
    assert measure_rows(TABLE, apart, "set", FIRST, resamples=50) == rows[1:]
    one_type = TABLE[TABLE["defect_type"] != "stain"]
    assert measure_rows(one_type, apart, "set", FIRST, resamples=50) == []


def test_the_mean_over_types_weighs_types_alike() -> None:
    rows = measure_rows(TABLE, [Measure("iou", "overlap", types="mean")], "set", FIRST, 50)
    assert by(rows, defect_type=TYPE_MEAN)["value"] == pytest.approx((0.4 + 0.8) / 2)
    one_type = TABLE[TABLE["defect_type"] != "stain"]
    assert (
        len(measure_rows(one_type, [Measure("iou", "overlap", types="mean")], "set", FIRST, 50))
        == 1
    )


def test_pairs_are_matched_by_name_and_where_both_are_defined() -> None:
    other = TABLE.iloc[::-1].reset_index(drop=True)
    other = other.assign(overlap=other["overlap"].where(other["name"] != "d") / 2)
    measures = (
        Measure("iou", "overlap"),
        Measure("iou", "overlap", "cam", pair="ratio"),
        Measure("score", "score", pair=""),
        Measure("auroc", "score", statistic=metrics.auroc, beside=("is_defective",)),
    )
    rows = paired_rows(TABLE, other, measures, "set", FIRST, SECOND, resamples=200)
    difference, ratio, auroc = check_rows(rows)
    assert difference["metric"] == "iou_difference"
    assert difference["value"] == pytest.approx((0.1 + 0.2 + 0.3) / 3)
    assert difference["condition"] == {
        "output_stride": 4, "against": "S1", "against_output_stride": 8,
    }  # fmt: skip
    assert difference["n"] == ratio["n"] == 3
    assert (ratio["metric"], ratio["value"]) == ("iou_ratio", pytest.approx(2.0))
    assert ratio["ci_low"] == ratio["ci_high"] == pytest.approx(2.0)
    assert (auroc["metric"], auroc["value"]) == ("auroc_difference", 0.0)
    x = TABLE["overlap"][:3].to_numpy()
    oracle = paired_interval(np.mean, TABLE["group"][:3].to_numpy(), x, x / 2, resamples=200)
    assert (difference["ci_low"], difference["ci_high"]) == (oracle.low, oracle.high)


def test_other_images_are_refused() -> None:
    with pytest.raises(ValueError, match="the same images, found 2 names"):
        paired_rows(
            TABLE,
            TABLE.replace({"name": {"a": "z"}}),
            [Measure("iou", "overlap")],
            "s",
            FIRST,
            SECOND,
        )


def test_a_ratio_to_nothing_is_undefined() -> None:
    nothing = TABLE.assign(overlap=TABLE["overlap"] * 0)
    (row,) = paired_rows(
        TABLE, nothing, [Measure("iou", "overlap", pair="ratio")], "s", FIRST, SECOND, 50
    )
    assert math.isnan(row["value"])


def test_only_pairs_with_both_tables_are_compared() -> None:
    assert pairs_among({FIRST.tag: 1, SECOND.tag: 2}, [(FIRST, SECOND)]) == [(FIRST, SECOND)]
    assert pairs_among({FIRST.tag: 1}, [(FIRST, SECOND)]) == []
