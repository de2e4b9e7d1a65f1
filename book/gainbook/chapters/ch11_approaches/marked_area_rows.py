"""Result rows and paired differences of `marked_area`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from gainbook.chapters.ch11_approaches.marked_area import QUESTIONS, REASONS
from gainbook.lab.reference import System
from gainbook.lab.tables import pooled_row
from gainmtl.evaluation.stats import bootstrap_interval, paired_interval

Column = tuple[str, str | None, dict[str, str], pd.Series]
_IMAGE = {"level": "image"}


def columns_of(answers: pd.DataFrame) -> list[Column]:
    """Metric, map, condition and values (N,) of everything that answers are summed up in.

    `selectivity` is `removed - moved`, `map_selectivity` is `marked - unmarked`, and
    `reason_selectivity` that of the reason map; all per part and in {-1, 0, 1}: 1 where a verdict
    hangs on the place in question and on no other.
    """
    flips = {name: answers[f"flip.{name}"] for name in (*QUESTIONS, *REASONS)}
    found: list[Column] = [
        ("flip_rate", None, {**_IMAGE, "intervention": name}, values)
        for name, values in flips.items()
    ]
    found.append(("selectivity", None, _IMAGE, flips["removed"] - flips["moved"]))
    found.append(("map_selectivity", "defect_map", _IMAGE, flips["marked"] - flips["unmarked"]))
    reasons = flips["reason_marked"] - flips["reason_unmarked"]
    found.append(("reason_selectivity", None, _IMAGE, reasons))
    found.append(("road", "defect_map", {}, answers["road"]))
    found.append(("reason_road", None, {}, answers["reason_road"]))
    return found


def marked_area_rows(
    answers: pd.DataFrame, dataset: str, system: System, resamples: int = 2000
) -> list[dict[str, Any]]:
    """Means with intervals over groups, of the parts that the system called defective."""
    rows = []
    for metric, map_name, extra, values in columns_of(answers):
        keep = values.notna()
        if not keep.any():
            continue
        found = bootstrap_interval(
            np.mean, answers["group"][keep], values[keep].to_numpy(), resamples=resamples
        )
        rows.append(pooled_row(dataset, system, metric, found, map_name, **extra))
    return rows


def marked_area_differences(
    a: pd.DataFrame,
    b: pd.DataFrame,
    dataset: str,
    first: System,
    second: System,
    resamples: int = 2000,
) -> list[dict[str, Any]]:
    """Rows `<metric>_difference`, a - b on the parts that both called defective.

    So that no system gains by the parts that it misses.
    """
    if list(a["name"]) != list(b["name"]):
        raise ValueError("marked_area_differences: the systems were not asked about the same parts")
    rows = []
    for (metric, map_name, extra, x), (_, _, _, y) in zip(
        columns_of(a), columns_of(b), strict=True
    ):
        keep = x.notna() & y.notna()
        if not keep.any():
            continue
        found = paired_interval(
            np.mean,
            a["group"][keep],
            x[keep].to_numpy(),
            y[keep].to_numpy(),
            resamples=resamples,
        )
        about = {**second.as_other, **extra}
        rows.append(pooled_row(dataset, first, f"{metric}_difference", found, map_name, **about))
    return rows
