"""What the shortcut study found: result rows, intervals over seeds, and what they decide."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from gainbook.chapters.ch03_reason.shortcut_study import AGREEMENTS, PLAIN, SYSTEMS, Task
from gainbook.lab import results_file as runs
from gainbook.lab import study_runs
from gainbook.lab.judge import Judgement
from gainbook.lab.reference import System
from gainbook.lab.results_file import row
from gainbook.lab.tables import Value, find
from gainmtl.evaluation.stats import Interval, student_interval
from gainmtl.files import read_json

NAME = "03_shortcut_study"
COMMAND = "python tools/shortcut_study.py --output-dir runs/shortcut --workers 2"
REPEAT = (
    f"```bash\n{COMMAND}\n"
    f"cp runs/shortcut/results.json book/results/{NAME}.json\n"
    f"cp runs/shortcut/maps.json book/results/{NAME}_maps.json\n```"
)
"""How the stored results are made, in Markdown."""
CONTROL = AGREEMENTS[0]
"""Trained with a mark that says nothing: what verdicts hang on a mark by mere disturbance."""
EXCESS = "verdict_change_excess"
"""`verdict_change` minus the same system's at the control, seed by seed."""

Key = tuple[str, float, tuple[tuple[str, Any], ...], str, str | None]


def study_rows(
    contents: Sequence[Mapping[str, Any]], wanted: Sequence[Task], baseline: System = PLAIN
) -> list[dict[str, Any]]:
    """Result rows: each figure of each run, its mean over seeds, and differences to `baseline`.

    Pooled rows (no seed) have Student's interval over seeds and the number of seeds as `n`; the
    ends of what lives in [0, 1] are kept there. `<metric>_difference` is taken seed by seed: the
    same parts, order of images and test set; `EXCESS` likewise.
    """
    found: dict[Key, dict[int, float]] = {}
    systems = {task.system.tag: task.system for task in wanted}
    rows: list[dict[str, Any]] = []
    for task, content in zip(wanted, contents, strict=True):
        for figure in content["figures"]:
            value = math.nan if figure["value"] is None else float(figure["value"])
            extra, metric, map_name = figure["condition"], figure["metric"], figure["map"]
            key = (task.system.tag, task.agreement, tuple(extra.items()), metric, map_name)
            found.setdefault(key, {})[task.seed] = value
            rows.append(
                row(
                    "synthetic", task.system.name, metric, value,
                    condition=_condition(task.system, key), map=map_name, seed=task.seed, fold=0,
                    n=figure["n"],
                )
            )  # fmt: skip
    for key, by_seed in found.items():
        tag, agreement, extra_items, metric, map_name = key
        system = systems[tag]

        mean = student_interval(list(by_seed.values()))
        if metric != "mark_effect" and not math.isnan(mean.low):
            mean = mean._replace(low=max(mean.low, 0.0), high=min(mean.high, 1.0))
        pooled: list[tuple[str, Interval, dict[str, Any]]] = [(metric, mean, {})]
        other = found.get((baseline.tag, agreement, extra_items, metric, map_name), {})
        if tag != baseline.tag and other and metric != "region_area":
            less = _difference(by_seed, other)
            pooled.append((f"{metric}_difference", less, baseline.as_other))
        control = found.get((tag, CONTROL, extra_items, metric, map_name), {})
        if metric == "verdict_change" and agreement != CONTROL and control:
            pooled.append((EXCESS, _difference(by_seed, control), {}))
        for name, interval, more in pooled:
            rows.append(
                row(
                    "synthetic", system.name, name, interval.value, map=map_name,
                    condition={**_condition(system, key), **more},
                    **interval.ends,
                )
            )  # fmt: skip
    return rows


def _condition(system: System, key: Key) -> dict[str, Any]:
    return {**system.condition, "agreement": key[1], **dict(key[2])}


def _difference(a: Mapping[int, float], b: Mapping[int, float]) -> Interval:
    return student_interval([a[seed] - b[seed] for seed in sorted(set(a) & set(b))])


class Study(NamedTuple):
    """What the page shows."""

    rows: pd.DataFrame | None
    """`None` where nobody has run it yet."""
    systems: tuple[System, ...]
    agreements: tuple[float, ...]
    maps: dict[str, list[Tensor]]
    """Cell probabilities (1, h, w) of the first defective test parts, by `<tag> <agreement>`."""
    settings: dict[str, Any]
    note: str


def stored_study() -> Study:
    """The committed study, or a note on how to make it."""
    found = study_runs.stored_study(NAME, "the study", REPEAT, timed=True)
    if found.rows is None:
        return Study(None, (), (), {}, {}, found.note)
    names, given = set(found.rows["system"]), runs.reference(NAME).parameters
    return Study(
        found.rows,
        tuple(system for system in SYSTEMS if system.name in names),
        tuple(given["agreements"]),
        _stored_maps(),
        given,
        found.note,
    )


def _stored_maps() -> dict[str, list[Tensor]]:
    try:
        stored = read_json(runs.results_file(f"{NAME}_maps"))["maps"]
    except FileNotFoundError:
        return {}
    return {key: [_square(torch.tensor(cells)) for cells in maps] for key, maps in stored.items()}


def _square(cells: Tensor) -> Tensor:
    side = math.isqrt(len(cells))
    return cells.reshape(1, side, side)


NEEDED = (0.9, 1.0)
"""The agreements that the claim is judged at."""
EXCESS_MARGIN = 0.05


def judge_guidance(rows: pd.DataFrame, system: System, baseline: System = PLAIN) -> Judgement:
    """Does guidance keep a verdict off a spurious mark? Fixed before the study was run.

    At an agreement of 0.9 and of 1, system minus baseline, seed by seed, with 95 % intervals over
    seeds. Guidance *helps* at an agreement if fewer verdicts hang on the mark (`verdict_change`
    falls, interval below 0) and parts with an unrelated mark are ranked better (AUROC rises,
    interval above 0): a network that has merely become timid passes the first and not the second.

    *Confirmed*, it prevents: it helps at both, and at an agreement of 1 at most 0.05 more verdicts
    hang on the mark than of the same system trained with a mark that says nothing (upper end).
    *Refined*, it reduces: it helps at one of the two, or at both without the last condition. Else
    *refuted*.
    """
    figures: dict[str, Value] = {}
    helped = []
    for agreement in NEEDED:
        about = {"agreement": agreement, **baseline.as_other}
        change = find(rows, system, "verdict_change_difference", **about)
        auroc = find(rows, system, "auroc_difference", mark="unrelated", **about)
        figures[f"verdicts that hang on the mark, agreement {agreement:g}"] = change
        figures[f"AUROC with an unrelated mark, agreement {agreement:g}"] = auroc
        helped.append(change.high < 0 and auroc.low > 0)
    excess = find(rows, system, EXCESS, agreement=NEEDED[-1])
    figures["verdicts that hang on the mark, more than at the control"] = excess
    prevents = all(helped) and excess.high < EXCESS_MARGIN
    return Judgement("confirmed" if prevents else "refined" if any(helped) else "refuted", figures)
