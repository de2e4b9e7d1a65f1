"""Figures, tables and the data of plots from result rows: no page has a figure typed into it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from gainbook.lab import results_file as runs
from gainbook.lab.systems import AnySystem
from gainmtl.evaluation.stats import Interval, PairedInterval
from gainmtl.evaluation.tidy import TYPE_MEAN

VERDICT_COLUMNS = {
    "AUROC": "auroc",
    "average precision": "average_precision",
    "recall at 5 % false alarms": "recall_at_fpr05",
    "accuracy": "accuracy",
    "recall": "recall",
}
MAP_COLUMNS = {
    "IoU": "iou",
    "PointGame": "point_game",
    "Energy-Inside": "energy_inside",
    "positive energy": "positive_energy",
}


class Value(NamedTuple):
    """A pooled figure of result rows, with its interval."""

    value: float
    low: float = math.nan
    high: float = math.nan
    n: int | None = None

    def __str__(self) -> str:
        return self.text()

    def text(self, digits: int = 2, signed: bool = False) -> str:
        """`0.93 [0.90, 0.95]`, without the brackets where there is no interval."""
        if math.isnan(self.value):
            return "undefined"
        sign = "+" if signed else ""
        value = f"{self.value:{sign}.{digits}f}"
        if math.isnan(self.low) or math.isnan(self.high):
            return value
        return f"{value} [{self.low:{sign}.{digits}f}, {self.high:{sign}.{digits}f}]"


def pooled_row(
    dataset: str,
    system: AnySystem,
    metric: str,
    found: Interval | PairedInterval,
    map: str | None = None,
    **condition: Any,
) -> dict[str, Any]:
    """The result row that `find` finds by the same words: no seed, no fold, with its interval."""
    about: dict[str, Any] = {"condition": {**system.condition, **condition}, "map": map}
    return runs.row(dataset, system.name, metric, found.value, **about, **found.ends)


def find(
    rows: pd.DataFrame, system: AnySystem, metric: str, map: str | None = None, **condition: Any
) -> Value:
    """The pooled figure (no seed, no fold) of exactly this system, metric, map and condition.

    `condition` is what stands beside the system's own, as `defect_type="MT_Crack"`.

    Raises:
        LookupError: no such row, or several.
    """
    every = rows_of(rows, system, metric, map, **condition)
    chosen = every[every["seed"].isna() & every["fold"].isna()]
    if len(chosen) != 1:
        wanted = {**system.condition, **condition}
        raise LookupError(
            f"expected one pooled row of {system.name}, {metric}, map {map}, {wanted}; found "
            f"{len(chosen)}"
        )
    return value_of(chosen.iloc[0])


def find_or_nan(
    rows: pd.DataFrame, system: AnySystem, metric: str, map: str | None = None, **condition: Any
) -> Value:
    """`find`, with NaN for a figure that the rows lack: nothing could be measured."""
    try:
        return find(rows, system, metric, map, **condition)
    except LookupError:
        return Value(math.nan)


def rows_of(
    rows: pd.DataFrame, system: AnySystem, metric: str, map: str | None = None, **condition: Any
) -> pd.DataFrame:
    """The rows that `find` chooses from, those of single seeds and folds with them."""
    wanted = {**system.condition, **condition}
    near = rows[(rows["system"] == system.name) & (rows["metric"] == metric)]
    near = near[near["map"].isna() if map is None else near["map"] == map]
    return near[near["condition"].map(lambda given: dict(given) == wanted).astype(bool)]


def value_of(row: Mapping[str, Any] | pd.Series) -> Value:
    """A row's figure; NaN for ends that it doesn't have."""
    value, low, high = (
        math.nan if pd.isna(row[key]) else float(row[key]) for key in ("value", "ci_low", "ci_high")
    )
    return Value(value, low, high, None if pd.isna(row["n"]) else int(row["n"]))


def cell(
    rows: pd.DataFrame | None,
    system: AnySystem,
    metric: str,
    map: str | None = None,
    digits: int = 2,
    signed: bool = False,
    **condition: Any,
) -> str:
    """A figure for a table; a dash where the rows lack it."""
    if rows is None:
        return "–"
    try:
        return find(rows, system, metric, map, **condition).text(digits, signed)
    except LookupError:
        return "–"


def present(
    rows: pd.DataFrame | None, systems: Iterable[AnySystem], metric: str = "auroc"
) -> list[AnySystem]:
    """The systems that have a pooled figure among the rows."""
    return [system for system in systems if cell(rows, system, metric) != "–"]


Column = tuple[str, str | None, Mapping[str, Any]]
"""Metric, map, and what stands in the condition beside the system's own."""


def system_table(
    rows: pd.DataFrame | None,
    systems: Iterable[AnySystem],
    columns: Mapping[str, Column],
    first: str = "system",
    digits: int = 2,
    **condition: Any,
) -> str:
    """One line per system, one column per figure; a figure that the rows lack is a dash."""
    lines = [
        [
            system.label,
            *(cell(rows, system, metric, map, digits, **{**more, **condition})
              for metric, map, more in columns.values()),
        ]
        for system in systems
    ]  # fmt: skip
    return markdown([first, *columns], lines)


def pair_table(
    rows: pd.DataFrame | None,
    pairs: Iterable[tuple[AnySystem, AnySystem]],
    columns: Mapping[str, Column],
    first: str = "difference",
    digits: int = 2,
    **condition: Any,
) -> str:
    """One line per pair, first minus second, one column per figure with its sign and interval."""
    lines = []
    for a, b in pairs:
        values = [
            cell(rows, a, f"{metric}_difference", map, digits, True,
                 **{**b.as_other, **more, **condition})
            for metric, map, more in columns.values()
        ]  # fmt: skip
        lines.append([f"{a.label} − {b.label}", *values])
    return markdown([first, *columns], lines)


def measure_table(
    rows: pd.DataFrame | None,
    systems: Iterable[AnySystem],
    measures: Mapping[str, Column],
    first: str = "",
    minus: AnySystem | None = None,
    digits: int = 2,
) -> str:
    """One line per measure, one column per system; with `minus`, the differences from it."""
    systems, lines = list(systems), []
    suffix, other = ("", {}) if minus is None else ("_difference", minus.as_other)
    for words, (metric, map, more) in measures.items():
        values = [
            cell(rows, system, metric + suffix, map, digits, minus is not None, **other, **more)
            for system in systems
        ]
        lines.append([words, *values])
    return markdown([first, *(system.label for system in systems)], lines)


def defect_types(rows: pd.DataFrame) -> list[str]:
    """The defect types that have rows; none where there is only one."""
    found = {str(c["defect_type"]) for c in map(dict, rows["condition"]) if "defect_type" in c}
    return sorted(found - {TYPE_MEAN})


def short(kind: str) -> str:
    """A defect type for readers: the magnetic tiles' `MT_Crack` is a crack."""
    return kind.removeprefix("MT_").lower()


def markdown(header: Sequence[str], lines: Iterable[Sequence[str]], is_text: bool = False) -> str:
    """A Markdown table: the first column left, the others right, or left if they are text."""
    cells = [list(line) for line in lines]
    if any(len(line) != len(header) for line in cells):
        raise ValueError(f"expected lines of {len(header)} cells, got {[len(x) for x in cells]}")
    marks = [":--"] + [":--" if is_text else "--:"] * (len(header) - 1)
    return "\n".join("| " + " | ".join(line) + " |" for line in [list(header), marks, *cells])


def verdicts(rows: pd.DataFrame, systems: Iterable[AnySystem]) -> str:
    """The table of the verdicts' measures."""
    lines = [
        [system.label, *(find(rows, system, metric).text() for metric in VERDICT_COLUMNS.values())]
        for system in systems
    ]
    return markdown(["system", *VERDICT_COLUMNS], lines)


def map_quality(
    rows: pd.DataFrame, entries: Iterable[tuple[AnySystem, str]], types: bool = False
) -> str:
    """The table of the maps' measures, each line followed by the oracle of its grid.

    `entries` are systems and map names. `types`: means over defect types instead of over images.
    The oracle is defined on the evidence grid only, so it follows `cam` lines.
    """
    extra: dict[str, Any] = {"defect_type": TYPE_MEAN} if types else {}
    lines = []
    for system, name in entries:
        for oracle in ({}, {"oracle": True}) if name == "cam" else ({},):
            label = f"*oracle on the grid of {system.label}*" if oracle else system.label
            found = [
                find(rows, system, metric, name, **oracle, **extra).text()
                for metric in MAP_COLUMNS.values()
            ]
            lines.append([label, "" if oracle else f"`{name}`", *found])
    return markdown(["system", "map", *MAP_COLUMNS], lines)


TRIAL_COLUMNS = {
    "AUROC": "auroc",
    "recall at 5 % false alarms": "recall_at_fpr05",
    "IoU of the defect map": "defect_map.iou",
}


def trials(entries: Iterable[Mapping[str, Any]], labels: Mapping[str, str]) -> str:
    """The table of the trials before the reference run; `labels` names systems by tag."""
    lines = []
    for entry in entries:
        change = ", ".join(f"{key} {value}" for key, value in entry["change"].items())
        texts = [Value(*entry["figures"][key]).text() for key in TRIAL_COLUMNS.values()]
        lines.append([labels[entry["system"]], change or "as in the reference run", *texts])
    return markdown(["system", "changed", *TRIAL_COLUMNS], lines)


def series(
    rows: pd.DataFrame,
    entries: Iterable[tuple[str, str, AnySystem, str, str | None, Mapping[str, Any]]],
) -> pd.DataFrame:
    """The data of `plots.intervals`; entries: category, series, system, metric, map, condition."""
    lines = []
    for category, name, system, metric, map_name, condition in entries:
        found = find(rows, system, metric, map_name, **condition)
        lines.append((category, name, *found[:3]))
    return pd.DataFrame(lines, columns=["category", "series", "value", "ci_low", "ci_high"])


def by_method(
    rows: pd.DataFrame,
    system: AnySystem,
    labels: Mapping[str, str],
    columns: Mapping[str, str],
    **condition: Any,
) -> str:
    """A table of explanation methods: `labels` by method, `columns` from heading to metric.

    A figure that the rows lack is a dash.
    """
    lines = []
    for method, label in labels.items():
        about = {"method": method, **condition}
        cells = [cell(rows, system, metric, "cam", **about) for metric in columns.values()]
        lines.append([label, *cells])
    return markdown(["method", *columns], lines)
