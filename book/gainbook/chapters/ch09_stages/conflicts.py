"""Conflict between the terms of a loss over the epochs, from the histories of runs with a probe.

`gainmtl.training.gradient_conflict` measures it after every epoch on a few training images.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from gainbook.lab.protocol import Pooled
from gainbook.lab.results_file import row
from gainbook.lab.systems import System
from gainbook.lab.tables import find
from gainmtl.evaluation.stats import Interval, student_interval
from gainmtl.training.gradient_conflict import Conflict, from_columns

VERDICT_TERM = "attended_classification"
"""The term of the head that decides."""
COMPLETE = 0.5
"""From this share of the run on, every plan has every term at its full weight."""
LATE = {"epochs": "second half"}
"""In the condition of rows that average over the epochs from `COMPLETE` on."""
MEASURES = {
    "conflicting_share": "pairs of terms that conflict",
    "mean_cosine": "mean cosine of pairs",
    "verdict_cosine": "verdict's term with the rest, cosine",
}
_RANGES = {"conflicting_share": (0.0, 1.0)}
"""The scale of a measure; cosines have -1 and 1."""


def summary(conflict: Conflict) -> dict[str, float]:
    """The `MEASURES` of one moment."""
    return {
        "conflicting_share": conflict.conflicting_share,
        "mean_cosine": conflict.mean_cosine,
        "verdict_cosine": conflict.with_others(VERDICT_TERM),
    }


def by_epoch(history: pd.DataFrame) -> pd.DataFrame:
    """The `MEASURES` after each epoch of one run; `epoch` from 1, `done` the share of the run."""
    epochs = history["epoch"].to_numpy() + 1
    lines = [summary(from_columns(line)) for line in history.to_dict("records")]
    return pd.DataFrame(lines).assign(epoch=epochs, done=epochs / len(history))


def late_means(history: pd.DataFrame) -> dict[str, float]:
    """The mean of each of the `MEASURES` over the epochs from `COMPLETE` on."""
    table = by_epoch(history)
    return {name: float(table.loc[table["done"] >= COMPLETE, name].mean()) for name in MEASURES}


def runs_of(pooled: Sequence[Pooled]) -> dict[tuple[int, int], pd.DataFrame]:
    """The history of every run of a system, by place of its seed and by fold."""
    return {
        (place, int(fold)): history.sort_values("epoch", ignore_index=True)
        for place, seed_runs in enumerate(pooled)
        for fold, history in seed_runs.histories.groupby("fold")
    }


def _row(
    system: System, dataset: str, metric: str, values: Iterable[float], **condition: Any
) -> dict[str, Any]:
    """The mean over runs with Student's interval, which is cut at the ends of the scale."""
    interval: Interval = student_interval(list(values))
    if not math.isnan(interval.low) and not metric.endswith("_difference"):
        least, most = _RANGES.get(metric, (-1.0, 1.0))
        interval = interval._replace(low=max(interval.low, least), high=min(interval.high, most))
    return row(
        dataset, system.name, metric, interval.value, split="train",
        condition={**system.condition, **condition}, **interval.ends,
    )  # fmt: skip


def conflict_rows(
    system: System, pooled: Sequence[Pooled], seeds: Sequence[int], dataset: str
) -> list[dict[str, Any]]:
    """Rows of one system's conflicts; none where its runs had no probe.

    The `MEASURES` of each fold over the late epochs; pooled, their means by epoch and over the late
    epochs; and `gradient_cosine` of every pair of terms by epoch. Pooled rows have Student's
    interval over the runs. Runs share training images, so five folds are fewer than five
    independent runs.
    """
    runs = runs_of(pooled)
    if not any(name.startswith("pull.") for history in runs.values() for name in history.columns):
        return []
    late = {key: late_means(history) for key, history in runs.items()}
    rows = [
        row(
            dataset, system.name, name, value, split="train", seed=seeds[place],
            condition={**system.condition, **LATE}, fold=fold,
        )
        for (place, fold), means in late.items()
        for name, value in means.items()
    ]  # fmt: skip
    measured = pd.concat([by_epoch(history) for history in runs.values()])
    for name in MEASURES:
        for epoch, part in measured.groupby("epoch"):
            rows.append(_row(system, dataset, name, part[name], epoch=int(epoch)))
        rows.append(_row(system, dataset, name, [m[name] for m in late.values()], **LATE))
    stacked = pd.concat(runs.values())
    for column in (c for c in stacked.columns if c.startswith("cosine.")):
        pair = ", ".join(column.split(".")[1:])
        for epoch, part in stacked.groupby("epoch"):
            if part[column].notna().any():
                about = {"epoch": int(epoch) + 1, "pair": pair}
                rows.append(_row(system, dataset, "gradient_cosine", part[column], **about))
    return rows


def conflict_difference_rows(
    a: System, b: System, pooled: Mapping[str, Sequence[Pooled]], dataset: str
) -> list[dict[str, Any]]:
    """Rows `<measure>_difference` of the late epochs, a - b, fold by fold of the same seed."""
    first, second = (
        {key: late_means(history) for key, history in runs_of(pooled[system.tag]).items()}
        for system in (a, b)
    )
    shared = sorted(set(first) & set(second))
    return [
        _row(
            a, dataset, f"{name}_difference",
            [first[key][name] - second[key][name] for key in shared], **LATE, **b.as_other,
        )
        for name in MEASURES
    ]  # fmt: skip


def epoch_table(rows: pd.DataFrame, systems: Sequence[System]) -> pd.DataFrame:
    """The data of `plots.curves`: a panel per measure, a series per system, means over the runs."""
    epochs = sorted({c["epoch"] for c in map(dict, rows["condition"]) if set(c) >= {"epoch"}})
    lines = [
        (title.capitalize(), system.label, epoch, *find(rows, system, metric, epoch=epoch)[:3])
        for metric, title in MEASURES.items()
        for system in systems
        for epoch in epochs
    ]
    return pd.DataFrame(lines, columns=["panel", "series", "x", "value", "ci_low", "ci_high"])


def lowest_pairs(conflict: Conflict, count: int = 3) -> list[tuple[str, str, float]]:
    """The pairs of terms with the lowest cosines, lowest first."""
    pairs = [
        (a, conflict.terms[j], float(conflict.cosines[i, j]))
        for i, a in enumerate(conflict.terms)
        for j in range(i + 1, len(conflict.terms))
        if not math.isnan(conflict.cosines[i, j])
    ]
    return sorted(pairs, key=lambda pair: pair[2])[:count]
