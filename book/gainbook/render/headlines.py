"""The headline figures of each results file: one table per file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from gainbook.lab.results_file import RESULT_KEYS, ResultsFile, read_results
from gainbook.lab.study import Headline, own_rows
from gainbook.lab.tables import Value, cell, markdown, value_of
from gainmtl.explanation.methods import METHODS
from gainmtl.files import read_json

OWN = frozenset({"output_stride", "recipe", "refinement", "verdict", "exposures", "options"})
"""Condition keys that distinguish systems; keys that begin with `mask_` do, too."""
NOTHING = "*None of the headline figures is in this file.*"


def load_all(folder: str | Path) -> dict[str, ResultsFile]:
    """The results.json files of a folder by name, in order; other JSON is left out."""
    found = {}
    for path in sorted(Path(folder).glob("*.json")):
        content = read_json(path)
        if isinstance(content, dict) and set(content) == set(RESULT_KEYS):
            found[path.stem] = read_results(path)
    return found


def _label(system: str, own: Iterable[tuple[str, Any]]) -> str:
    """A line's name: the system, and the conditions that distinguish it."""
    parts = [system]
    for key, value in own:
        if key == "output_stride":
            parts.append(f"stride {value}")
        elif key == "method":
            parts.append(METHODS.get(value, value))
        else:
            parts.append(f"{key.replace('_', ' ')} {value}")
    return ", ".join(parts)


def headline_table(stored: ResultsFile, headline: Headline) -> str:
    """One line per system, one column per measure, from the pooled rows of the run's own data.

    A figure that the run does not have is a dash; a run that has none of them, a sentence.
    """
    rows = own_rows(stored)
    if headline.systems:
        return _by_label(rows, headline)
    pooled = rows[rows["seed"].isna() & rows["fold"].isna()]
    lines: dict[tuple[str, tuple[tuple[str, Any], ...]], dict[str, Value]] = {}
    for row in pooled.to_dict("records"):
        condition = dict(row["condition"])
        own = {
            key: condition.pop(key)
            for key in list(condition)
            if key in OWN or key in headline.varied or key.startswith("mask_")
        }
        if any(own[key] not in kept for key, kept in headline.only.items() if key in own):
            continue
        of = None if pd.isna(row["map"]) else row["map"]
        for name, (metric, map_name, extra) in headline.measures.items():
            if (metric, map_name, dict(extra)) == (row["metric"], of, condition):
                key = (row["system"], tuple((k, _plain(v)) for k, v in own.items()))
                lines.setdefault(key, {})[name] = value_of(row)
    if not lines:
        return NOTHING
    cells = [
        [_label(*key), *(str(values[n]) if n in values else "–" for n in headline.measures)]
        for key, values in lines.items()
    ]
    return markdown(["system", *headline.measures], cells)


def _by_label(rows: pd.DataFrame, headline: Headline) -> str:
    lines = []
    for system in headline.systems:
        texts = [
            cell(rows, system, metric, of, **more)
            for metric, of, more in headline.measures.values()
        ]
        if set(texts) != {"–"}:
            lines.append([system.label, *texts])
    if not lines:
        return NOTHING
    return markdown(["system", *headline.measures], lines)


def _plain(value: Any) -> Any:
    """A value that can be a key."""
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
