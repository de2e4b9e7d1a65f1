"""A shift of light: training on the darker photographs of the tiles, test on all of them.

The exposure carries no information about the label, so this is no shortcut. The defects are the
same and only the brightness changes.
"""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
from numpy.typing import NDArray

from gainbook.lab.catalogue import BRIGHT
from gainbook.lab.measures import Measure, measure_rows, paired_rows
from gainbook.lab.protocol import Pooled
from gainbook.lab.study import Run
from gainmtl import metrics
from gainmtl.datasets.subsets import exposure_of

LIGHTS = {"as in training": False, "shifted": True}
"""Whether the photographs are `BRIGHT`, by the name of the light in result rows."""
Array = NDArray[Any]


def _mean(values: Array, labels: Array) -> float:
    return float(values.mean())


def false_alarm_rate(flagged: Array, labels: Array) -> float:
    """Share of normal images that are flagged; NaN without any."""
    normal = ~labels.astype(bool)
    return float(flagged[normal].mean()) if normal.any() else math.nan


MEASURES: dict[str, tuple[str, Any, str | None]] = {
    "auroc": ("defect_probability", metrics.auroc, None),
    "recall": ("is_flagged", metrics.recall, None),
    "false_alarm_rate": ("is_flagged", false_alarm_rate, None),
    "point_game": ("cam.point_game", _mean, "cam"),
    "positive_energy": ("cam.positive_energy", _mean, "cam"),
}  # fmt: skip
"""By metric: column of `Scores.images`, statistic of (values, labels), map."""


def _in_light(name: str) -> list[Measure]:
    return [
        Measure(metric, column, map, {"light": name}, statistic, ("is_defective",))
        for metric, (column, statistic, map) in MEASURES.items()
    ]


def _change(statistic: Any) -> Any:
    """The statistic on the bright photographs minus that on the dark ones."""

    def change(values: Array, labels: Array, bright: Array) -> float:
        # A resample may have drawn no photograph of one light.
        if bright.all() or not bright.any():
            return math.nan
        dark = ~bright
        return float(statistic(values[bright], labels[bright])) - float(
            statistic(values[dark], labels[dark])
        )

    return change


SHIFTS = tuple(
    Measure(f"{metric}_shift", column, map, {}, _change(statistic), ("is_defective", "is_bright"))
    for metric, (column, statistic, map) in MEASURES.items()
)
"""Bright minus dark, on the same resampled tiles."""


def by_light(pooled: Pooled) -> pd.DataFrame:
    """`Scores.images` by name with a column `is_bright`."""
    images = pooled.scores.images.sort_values("name", ignore_index=True)
    return images.assign(is_bright=[exposure_of(name) in BRIGHT for name in images["name"]])


def shift_rows(run: Run) -> list[dict[str, Any]]:
    """Rows of a run: each measure in either light, its shift, and the differences of the pairs.

    The condition's `light` names the light. A row `<metric>_shift_difference` compares the shifts
    of two systems.
    """
    dataset, resamples = run.parameters.dataset, run.resamples
    tables = {tag: by_light(pooled) for tag, pooled in run.whole.items()}
    rows: list[dict[str, Any]] = []
    for system in run.systems:
        table = tables[system.tag]
        for name, is_bright in LIGHTS.items():
            part = table[table["is_bright"] == is_bright]
            rows += measure_rows(part, _in_light(name), dataset, system, resamples)
        rows += measure_rows(table, SHIFTS, dataset, system, resamples)
    for a, b in run.pairs:
        first, second = tables[a.tag], tables[b.tag]
        for name, is_bright in LIGHTS.items():
            x, y = (table[table["is_bright"] == is_bright] for table in (first, second))
            rows += paired_rows(x, y, _in_light(name), dataset, a, b, resamples)
        rows += paired_rows(first, second, SHIFTS, dataset, a, b, resamples)
    return rows
