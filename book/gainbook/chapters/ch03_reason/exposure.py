"""Trained in one light, asked in another: the same test tiles, split by exposure.

Exposure says nothing about the label, so this is no shortcut but a shift: the reason stays valid,
the picture changes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from numpy.typing import NDArray

from gainbook.lab.chapter_results import Results, merge, own_note, stored_results
from gainbook.lab.components import BRIGHT, PLAIN, PLAIN_DARK, S5_DARK
from gainbook.lab.parameters import Parameters
from gainbook.lab.protocol import Pooled
from gainbook.lab.reference import System, run
from gainbook.lab.tables import pooled_row
from gainmtl import metrics
from gainmtl.datasets.exposure import exposure_of
from gainmtl.evaluation.stats import bootstrap_interval, paired_interval

NAME = "03_exposure_shift"
SYSTEMS = (PLAIN_DARK, S5_DARK, PLAIN._replace(label="S1, all exposures"))
"""The last one is trained on all light: what the data would give without the shift."""
LIGHTS = {"as in training": False, "shifted": True}
"""Is a photograph of `BRIGHT`?"""
Array = NDArray[Any]


def _mean(values: Array, labels: Array) -> float:
    """The mean of a figure by image."""
    return float(values.mean())


def false_alarms(flagged: Array, labels: Array) -> float:
    """Share of normal images that are flagged; NaN without any."""
    normal = ~labels.astype(bool)
    return float(flagged[normal].mean()) if normal.any() else math.nan


MEASURES: dict[str, tuple[str, Any, str | None]] = {
    "auroc": ("defect_probability", metrics.auroc, None),
    "recall": ("is_flagged", metrics.recall, None),
    "false_alarm_rate": ("is_flagged", false_alarms, None),
    "point_game": ("cam.point_game", _mean, "cam"),
    "positive_energy": ("cam.positive_energy", _mean, "cam"),
}  # fmt: skip
"""Metric: column of `Scores.images`, statistic of (values, labels), map."""


def by_light(pooled: Pooled) -> pd.DataFrame:
    """`Scores.images` by name with a column `is_bright`."""
    images = pooled.scores.images.sort_values("name", ignore_index=True)
    return images.assign(is_bright=[exposure_of(name) in BRIGHT for name in images["name"]])


def shift_rows(system: System, pooled: Pooled, dataset: str, resamples: int = 2000) -> Any:
    """Rows of one system: each measure in either light, and `<metric>_shift`, the second minus the
    first on the same resampled tiles. The condition's `light` says which."""
    images = by_light(pooled)
    rows: list[dict[str, Any]] = []
    for metric, (column, statistic, map_name) in MEASURES.items():
        part = images[images[column].notna()]
        values, labels, groups, bright = (
            part[key].to_numpy() for key in (column, "is_defective", "group", "is_bright")
        )
        values = values.astype(float)

        def shift(v: Array, y: Array, light: Array, f: Any = statistic) -> float:
            return float(_in(f, v, y, light) - _in(f, v, y, ~light))

        for name, light in LIGHTS.items():
            kept = bright == light
            found = bootstrap_interval(
                statistic, groups[kept], values[kept], labels[kept], resamples=resamples
            )
            rows.append(pooled_row(dataset, system, metric, found, map_name, light=name))
        found = bootstrap_interval(shift, groups, values, labels, bright, resamples=resamples)
        rows.append(pooled_row(dataset, system, f"{metric}_shift", found, map_name))
    return rows


def shift_differences(
    a: System, b: System, pooled: Mapping[str, Pooled], dataset: str, resamples: int = 2000
) -> list[dict[str, Any]]:
    """Rows a - b on the same images: each measure in either light (`<metric>_difference`), and of
    the shifts (`<metric>_shift_difference`), which says who loses less."""
    first, second = by_light(pooled[a.tag]), by_light(pooled[b.tag])
    if list(first["name"]) != list(second["name"]):
        raise ValueError("shift_differences: the two systems were not tested on the same images")
    rows = []
    for metric, (column, statistic, map_name) in MEASURES.items():
        kept = first[column].notna().to_numpy() & second[column].notna().to_numpy()
        x, y = (t.loc[kept, column].to_numpy(float) for t in (first, second))
        labels, groups, bright = (
            first.loc[kept, key].to_numpy() for key in ("is_defective", "group", "is_bright")
        )

        def shift(v: Array, truth: Array, light: Array, f: Any = statistic) -> float:
            return float(_in(f, v, truth, light) - _in(f, v, truth, ~light))

        for name, light in LIGHTS.items():
            k = bright == light
            found = paired_interval(
                statistic, groups[k], x[k], y[k], [labels[k]], resamples=resamples
            )
            extra = {**b.as_other, "light": name}
            rows.append(pooled_row(dataset, a, f"{metric}_difference", found, map_name, **extra))
        found = paired_interval(shift, groups, x, y, [labels, bright], resamples=resamples)
        name = f"{metric}_shift_difference"
        rows.append(pooled_row(dataset, a, name, found, map_name, **b.as_other))
    return rows


def _in(statistic: Any, values: Array, labels: Array, kept: Array) -> float:
    """NaN where a resample left nothing in this light."""
    return float(statistic(values[kept], labels[kept])) if kept.any() else math.nan


def shift_results(
    parameters: Parameters, asked: bool, systems: Sequence[System] = SYSTEMS
) -> Results:
    """Run on the parameters' data set where it is `asked` for, else read what is stored."""
    p = parameters
    if asked and p.dataset != "synthetic":
        pooled = {system.tag: run(p, system) for system in systems}
        whole = {tag: merge(one, p.seeds) for tag, one in pooled.items()}
        rows: list[dict[str, Any]] = []
        for system in systems:
            rows += shift_rows(system, whole[system.tag], p.dataset)
        for a, b in ((S5_DARK, PLAIN_DARK), (PLAIN, PLAIN_DARK)):
            rows += shift_differences(a, b, whole, p.dataset)
        return Results(pd.DataFrame(rows), own_note(p), pooled)
    return stored_results(NAME, absent="The results of this run are **not there yet**.")
