"""The tables, sentences and figure data of the page, from result rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from gainbook.chapters.ch10_ablation.ladder import (
    CANDIDATES,
    S1,
    S5_NO_MINING,
    SIX,
    STANDARDS,
    STEPS,
    WHOLE_STEPS,
    Step,
    changes,
    needs_masks,
)
from gainbook.chapters.ch10_ablation.study import PROMISES
from gainbook.chapters.ch10_ablation.surroundings import METRIC
from gainbook.chapters.ch10_ablation.targets import (
    IOU_TARGET,
    POINT_TARGET,
    judge_gains,
    judge_ratio,
    simplest,
)
from gainbook.lab.study import Measured
from gainbook.lab.systems import System
from gainbook.lab.tables import Value, defect_types, find, find_or_nan, markdown, short

CONTRIBUTES, HARMS, OPEN = "contributes", "harms", "not shown"
PANELS: dict[str, dict[str, Measured]] = {
    "verdict": {
        "AUROC": ("auroc", None, {}),
        "recall at 5 %\nfalse alarms": ("recall_at_fpr05", None, {}),
    },
    "map": {
        "IoU,\ndefect map": ("iou", "defect_map", {}),
        "PointGame,\ndefect map": ("point_game", "defect_map", {}),
        "evidence on\nthe defect": ("positive_energy", "cam", {}),
    },
    "reasons": {"selectivity\non the image": ("selectivity", None, {"level": "image"})},
}
"""The measures of the forest figures by group and title. Of all of them more is better."""
NEEDS: dict[str, Measured] = {
    "recall first": ("recall_at_fpr05", None, {}),
    "ranking of parts": ("auroc", None, {}),
    "map first": ("iou", "defect_map", {}),
    "pointing": ("point_game", "defect_map", {}),
    "reasons first": ("selectivity", None, {"level": "image"}),
}
UNKNOWN = Value(math.nan, math.nan, math.nan, None)


def figure_of(
    rows: pd.DataFrame | None, system: System, measure: Measured, **condition: Any
) -> Value:
    """A measure of one system; NaN where the rows lack it."""
    metric, map, own = measure
    return UNKNOWN if rows is None else find_or_nan(rows, system, metric, map, **own, **condition)


def difference(
    rows: pd.DataFrame | None, a: System, b: System, measure: Measured, **condition: Any
) -> Value:
    """a minus b of a measure; NaN where the rows lack it."""
    metric, map, own = measure
    return figure_of(rows, a, (f"{metric}_difference", map, own), **b.as_other, **condition)


def step_values(
    rows: pd.DataFrame | None, steps: Sequence[Step], **condition: Any
) -> dict[str, dict[str, list[Value]]]:
    """The data of `plots.forest`: the measures of `PANELS`, one difference per step."""
    return {
        group: {
            name: [difference(rows, *step.pair, measure, **condition) for step in steps]
            for name, measure in inner.items()
        }
        for group, inner in PANELS.items()
    }


def step_verdict(value: Value) -> str:
    """`CONTRIBUTES` with an interval above 0, `HARMS` with one below, else `OPEN`."""
    if value.low > 0:
        return CONTRIBUTES
    return HARMS if value.high < 0 else OPEN


def promised(rows: pd.DataFrame | None) -> dict[str, Value]:
    """By words of each whole step and its purpose, the difference that decides about it."""
    return {
        f"{step.name}, {words}": difference(rows, *step.pair, measure)
        for step in WHOLE_STEPS
        for words, measure in [PROMISES[step.system.name]]
    }


def apart_from_zero(
    rows: pd.DataFrame | None, steps: Sequence[Step], word: str, **condition: Any
) -> str:
    """The differences of `PANELS` whose interval lies above 0 (`CONTRIBUTES`) or below (`HARMS`),
    as a sentence's list; "none" without any."""
    texts = [
        f"{step.name}, {name.replace(chr(10), ' ')} {value.text(2, True)}"
        for step in steps
        for inner in PANELS.values()
        for name, measure in inner.items()
        for value in [difference(rows, *step.pair, measure, **condition)]
        if step_verdict(value) == word
    ]
    return "; ".join(texts) or "none"


def _yes(answer: bool) -> str:
    return "yes" if answer else "no"


def steps_table() -> str:
    """Every system of the ladder, what it changes and whether it needs masks."""
    lines = [["S1", "", "classification alone", _yes(needs_masks("S1"))]]
    lines += [
        [
            step.system.label,
            step.before.label,
            "; ".join(changes(step.system.name, step.before.name)),
            _yes(needs_masks(step.system.name)),
        ]
        for step in STEPS
    ]
    return markdown(["system", "minus", "what changes", "masks"], lines, is_text=True)


def cost_of(rows: pd.DataFrame, system: System, metric: str) -> Value:
    """A row of `lab.cost.cost_rows`, whose condition also has backbone and image size."""
    chosen = rows[(rows["system"] == system.name) & (rows["metric"] == metric)]
    for about in map(dict, chosen["condition"]):
        extra = {key: value for key, value in about.items() if key not in system.condition}
        if {**system.condition, **extra} == about and set(extra) == {"backbone", "image_size"}:
            return figure_of(rows, system, (metric, None, extra))
    return UNKNOWN


def cost_table(rows: pd.DataFrame, systems: Sequence[System]) -> str:
    """Parameters, operations and time of each system, and whether it needs masks."""
    lines = []
    for system in systems:
        size, flops, alone, step = (
            cost_of(rows, system, metric).value
            for metric in ("parameters", "gigaflops", "milliseconds", "training_milliseconds")
        )
        epoch = figure_of(rows, system, ("seconds_per_epoch", None, {})).value
        lines.append(
            [system.label, f"{size / 1e6:.2f} M", f"{flops:.2f}", f"{alone:.0f}", f"{step:.0f}",
             f"{epoch:.0f}", _yes(needs_masks(system.name))]
        )  # fmt: skip
    header = ["system", "parameters", "GFLOP", "ms per image", "ms per image, training",
              "s per epoch", "masks"]  # fmt: skip
    return markdown(header, lines)


def cheapest(rows: pd.DataFrame) -> System:
    """The first of the six whose training step takes at most a tenth longer than the fastest: the
    clock is no more accurate than that."""
    steps = {system: cost_of(rows, system, "training_milliseconds").value for system in SIX}
    least = min(steps.values())
    return next((system for system in SIX if steps[system] <= 1.1 * least), SIX[0])


def needs_table(rows: pd.DataFrame, **condition: Any) -> str:
    """For each of `NEEDS` the best of the six and the simplest that it is not clearly better than.

    Needs that the rows have no figure for are left out.
    """
    lines, of = [], {system.name: system for system in SIX}
    for need, measure in NEEDS.items():
        figures = {s.name: figure_of(rows, s, measure, **condition) for s in SIX}
        values = {name: figure.value for name, figure in figures.items()}
        pairs = {
            (b.name, a.name): difference(rows, b, a, measure, **condition)
            for i, a in enumerate(SIX)
            for b in SIX[i + 1 :]
        }
        simple = simplest(values, pairs)
        if simple is not None:
            best = max(values, key=lambda name: float(np.nan_to_num(values[name], nan=-np.inf)))
            shown = [f"{of[name].label}, {figures[name].text()}" for name in (best, simple)]
            lines.append([need, *shown, _yes(needs_masks(simple))])
    return markdown(["need", "best figure", "simplest as good", "masks"], lines)


def gains_table(rows: pd.DataFrame, systems: Sequence[System]) -> str:
    """Gains over S1 beside the targets of `judge_gains`, p-values corrected over all `systems`."""
    measures: tuple[Measured, ...] = (("recall_at_fpr05", None, {}), ("auroc", None, {}))
    gains: dict[str, Any] = {}
    p_values: dict[str, Any] = {}
    for s in systems:
        gains[s.label] = tuple(difference(rows, s, S1, measure) for measure in measures)
        p_values[s.label] = tuple(
            find(rows, s, f"{metric}_p_value", **S1.as_other).value for metric, _, _ in measures
        )
    lines = [
        [name, g.recall.text(2, True), f"{g.recall_p:.3f}", g.auroc.text(3, True),
         f"{g.auroc_p:.3f}", g.verdict]
        for name, g in judge_gains(gains, p_values).items()
    ]  # fmt: skip
    header = ["minus S1", "recall at 5 %", "p (Holm)", "AUROC", "p (Holm)", "target"]
    return markdown(header, lines)


def ratio_table(rows: pd.DataFrame) -> str:
    """IoU and PointGame of the official map as multiples of each reading of S1."""
    targets: Mapping[str, float] = {"iou": IOU_TARGET, "point_game": POINT_TARGET}
    lines = []
    for system in (*CANDIDATES, S5_NO_MINING):
        for base in (S1, *STANDARDS[::-1]):
            cells = [system.label, base.label if base != S1 else "S1, stride 4"]
            for metric, target in targets.items():
                ratio = find(rows, system, f"{metric}_ratio", "defect_map", **base.as_other)
                cells += [ratio.text(), judge_ratio(ratio, target)]
            lines.append(cells)
    return markdown(["system", "times that of", "IoU", "x 2", "PointGame", "x 2.5"], lines)


def surroundings_series(rows: pd.DataFrame, systems: Sequence[System]) -> pd.DataFrame:
    """The data of `plots.intervals`: AUROC by defect type; open marks with the defects filled."""
    lines = [
        (short(kind), system.label, *value[:3], metric == METRIC)
        for kind in defect_types(rows)
        for system in systems
        for metric in ("auroc", METRIC)
        for value in [figure_of(rows, system, (metric, None, {"defect_type": kind}))]
    ]
    columns = ["category", "series", "value", "ci_low", "ci_high", "is_open"]
    return pd.DataFrame(lines, columns=columns).dropna(subset=["value"])
