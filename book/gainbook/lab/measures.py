"""Result rows from a table with one row per image: means and paired differences, with intervals."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gainbook.lab.results_file import row
from gainbook.lab.systems import AnySystem
from gainmtl.evaluation.stats import bootstrap_interval, mean_over_types, paired_interval
from gainmtl.evaluation.tidy import TYPE_MEAN
from gainmtl.types import NORMAL

DIFFERENCE, RATIO = "difference", "ratio"


@dataclasses.dataclass(frozen=True)
class Measure:
    """A statistic of a column, over the images on which the column is not NaN."""

    metric: str
    """Its name in result rows; a pair's row has the suffix of `pair`."""
    column: str
    map: str | None = None
    condition: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """What its rows carry beside the system's own condition."""
    statistic: Callable[..., float] = np.mean
    """Of the column and `beside`, arrays over the images."""
    beside: tuple[str, ...] = ()
    """Further columns that the statistic takes, the same for both systems of a pair."""
    types: str = ""
    """`"each"`: rows per defect type too, where there are several, each against all normal images.
    `"only"`: those rows without the one over all types. `"mean"`: a row for the unweighted mean
    over the types too."""
    pair: str = DIFFERENCE
    """`"difference"`, `"ratio"` (of the statistics of the column), or `""`: no row for pairs."""


def _parts(table: pd.DataFrame, measure: Measure) -> list[tuple[dict[str, Any], Measure, Any]]:
    """(more of the condition, measure, which images) for the whole and the defect types."""
    whole: list[tuple[dict[str, Any], Measure, Any]] = [({}, measure, np.ones(len(table), bool))]
    if not measure.types:
        return whole
    kinds = table["defect_type"].to_numpy(str)
    types = sorted(set(kinds) - {NORMAL})
    if measure.types == "only":
        whole = []
    if len(types) < 2:
        return whole
    if measure.types == "mean":
        over_types = dataclasses.replace(
            measure, statistic=mean_over_types, beside=("defect_type",)
        )
        return [*whole, ({"defect_type": TYPE_MEAN}, over_types, whole[0][2])]
    normal = kinds == NORMAL
    return whole + [({"defect_type": kind}, measure, normal | (kinds == kind)) for kind in types]


def _beside(table: pd.DataFrame, measure: Measure, keep: NDArray[np.bool_]) -> list[Any]:
    return [table.loc[keep, column].to_numpy() for column in measure.beside]


def measure_rows(
    table: pd.DataFrame,
    measures: Iterable[Measure],
    dataset: str,
    system: AnySystem,
    resamples: int = 2000,
    seed: int | None = None,
    fold: int | None = None,
) -> list[dict[str, Any]]:
    """One row per measure with its bootstrap interval over groups; none where all is NaN.

    Args:
        table: one row per image; columns `group`, those of the measures and, with `types`,
            `defect_type`.
        resamples: of the bootstrap; 0 leaves the interval out.
        seed: of a row that is not pooled; likewise `fold`.
    """
    rows = []
    for measure in measures:
        if measure.column not in table:
            continue
        values = table[measure.column].to_numpy(float)
        for extra, part, chosen in _parts(table, measure):
            keep = chosen & ~np.isnan(values)
            if not keep.any():
                continue
            arrays = [values[keep], *_beside(table, part, keep)]
            if resamples:
                groups = table.loc[keep, "group"].to_numpy()
                interval = bootstrap_interval(part.statistic, groups, *arrays, resamples=resamples)
                value, ends = interval.value, interval.ends
            else:
                value, ends = float(part.statistic(*arrays)), {"n": int(keep.sum())}
            condition = {**system.condition, **measure.condition, **extra}
            rows.append(
                row(dataset, system.name, measure.metric, value, condition=condition,
                    map=measure.map, seed=seed, fold=fold, **ends)
            )  # fmt: skip
    return rows


def same_images(a: pd.DataFrame, b: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both tables in the order of the images' names.

    Raises:
        ValueError: the tables are about different images.
    """
    left, right = (t.sort_values("name", ignore_index=True) for t in (a, b))
    if list(left["name"]) != list(right["name"]):
        raise ValueError(
            "paired rows: expected two tables about the same images, found "
            f"{len(set(left['name']) ^ set(right['name']))} names that only one of them has"
        )
    return left, right


def paired_rows(
    a: pd.DataFrame,
    b: pd.DataFrame,
    measures: Iterable[Measure],
    dataset: str,
    first: AnySystem,
    second: AnySystem,
    resamples: int = 2000,
) -> list[dict[str, Any]]:
    """Rows `<metric>_difference`, a - b, or `<metric>_ratio`, a / b, on the same images.

    Of the images on which both columns are defined, with intervals over the same resampled groups.
    The condition names the second system, `against`. No rows by defect type.
    """
    left, right = same_images(a, b)
    rows = []
    for measure in measures:
        if not measure.pair or measure.column not in left or measure.column not in right:
            continue
        x, y = (t[measure.column].to_numpy(float) for t in (left, right))
        keep = ~np.isnan(x) & ~np.isnan(y)
        if not keep.any():
            continue
        groups = left.loc[keep, "group"].to_numpy()
        beside = _beside(left, measure, keep)
        interval: Any
        if measure.pair == RATIO:
            interval = bootstrap_interval(
                ratio_of(measure.statistic), groups, x[keep], y[keep], resamples=resamples
            )
        else:
            interval = paired_interval(
                measure.statistic, groups, x[keep], y[keep], beside, resamples=resamples
            )
        rows.append(
            row(dataset, first.name, f"{measure.metric}_{measure.pair}", interval.value,
                condition={**first.condition, **second.as_other, **measure.condition},
                map=measure.map, **interval.ends)
        )  # fmt: skip
    return rows


def ratio_of(statistic: Callable[..., float]) -> Callable[..., float]:
    """`statistic(x) / statistic(y)`; NaN where the denominator is 0 or either is not finite."""

    def ratio(x: NDArray[Any], y: NDArray[Any]) -> float:
        above, below = float(statistic(x)), float(statistic(y))
        return above / below if below and np.isfinite(above + below) else float("nan")

    return ratio


def pairs_among(
    tables: Mapping[str, Any], pairs: Sequence[tuple[AnySystem, AnySystem]]
) -> list[tuple[AnySystem, AnySystem]]:
    """The pairs of which both systems have a table."""
    return [(a, b) for a, b in pairs if a.tag in tables and b.tag in tables]
