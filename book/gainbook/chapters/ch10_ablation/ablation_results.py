"""The ablation on real parts: verdict, map, reasons and cost of every system, step against step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gainbook.chapters.ch07_localization.joint import pixel_ap_difference
from gainbook.chapters.ch08_counterfactual.flips import flip_differences, flip_rows
from gainbook.chapters.ch10_ablation.ladder import PARTS, Step, pairs_of, systems_of
from gainbook.chapters.ch10_ablation.overlap import map_overlaps, overlap_rows
from gainbook.chapters.ch10_ablation.surroundings import (
    ask_without_defects,
    surroundings_differences,
    surroundings_rows,
)
from gainbook.chapters.ch11_approaches.approach_results import cost_rows
from gainbook.lab.chapter_results import Results, command, merge, results, stored_results
from gainbook.lab.comparison import compare
from gainbook.lab.folds import ask_folds
from gainbook.lab.parameters import Parameters
from gainbook.lab.protocol import Pooled
from gainbook.lab.reference import System
from gainbook.lab.results_file import row
from gainbook.lab.tables import Value, find, pooled_row
from gainmtl.evaluation.interventions import ask
from gainmtl.evaluation.stats import bootstrap_interval
from gainmtl.strategies import get_strategy

KEPT = (
    "auroc", "average_precision", "recall_at_fpr05", "accuracy", "recall", "iou", "point_game",
    "energy_inside", "positive_energy", "false_activation", "pixel_ap", "wrong_reason",
)  # fmt: skip
"""The measures of the rows of single systems; types and further measures are other chapters'."""
BY_FOLD = ("auroc",)
"""Those of them that are kept of every fold, too: a file has room for so many rows."""
TESTED = ("auroc", "recall_at_fpr05")
"""Measures whose p-values are kept, as `<metric>_p_value`: the targets are about them."""
RATIOS = ("iou", "point_game")

Measure = tuple[str, str | None, dict[str, str]]
PANELS: dict[str, dict[str, Measure]] = {
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
"""What the figures of this chapter show, by group and title: metric, map, condition. Of all of
them more is better."""


def ratio_rows(
    a: System, b: System, first: Pooled, second: Pooled, dataset: str, resamples: int = 2000
) -> list[dict[str, Any]]:
    """Rows `<metric>_ratio` of the official maps: mean of a over mean of b on the same tiles."""
    left, right = (p.scores.images.sort_values("name", ignore_index=True) for p in (first, second))
    rows = []
    for metric in RATIOS:
        x, y = (t[f"defect_map.{metric}"].to_numpy(float) for t in (left, right))
        keep = ~np.isnan(x) & ~np.isnan(y)
        if not keep.any():
            continue
        found = bootstrap_interval(
            ratio, left["group"].to_numpy()[keep], x[keep], y[keep], resamples=resamples
        )
        rows.append(pooled_row(dataset, a, f"{metric}_ratio", found, "defect_map", **b.as_other))
    return rows


def ratio(x: NDArray[Any], y: NDArray[Any]) -> float:
    """mean(x) / mean(y); NaN where the latter is 0."""
    below = float(y.mean())
    return float(x.mean()) / below if below else float("nan")


def pair_rows(
    a: System, b: System, first: Pooled, second: Pooled, dataset: str, resamples: int = 2000
) -> list[dict[str, Any]]:
    """All rows of a minus b that need no further question to the models."""
    found = compare(first, second, dataset, resamples)
    found = found[found["condition"].map(lambda c: "defect_type" not in c)]
    rows: list[dict[str, Any]] = found.drop(columns="p_value").to_dict("records")
    for metric in TESTED:
        (one,) = found[found["metric"] == f"{metric}_difference"].to_dict("records")
        p_value = one.pop("p_value")
        about = {"metric": f"{metric}_p_value", "value": p_value, "ci_low": None, "ci_high": None}
        rows.append(one | about)
    rows += ratio_rows(a, b, first, second, dataset, resamples)
    if a.split == b.split:  # else the images of the two stand in another order
        for name in ("cam", "defect_map"):
            rows += pixel_ap_difference(first, second, dataset, resamples, name)
    return rows


def training_rows(system: System, pooled: Pooled, dataset: str) -> list[dict[str, Any]]:
    """Rows `seconds` of all folds, `seconds_per_epoch`, the median epoch of a fold, and
    `validation_auroc`, the mean over folds after the last epoch: all that may choose a system."""
    history = pooled.histories
    epochs = history["seconds"].to_numpy(float)
    last = history.loc[history["epoch"] == history["epoch"].max(), "auroc"]
    about: dict[str, Any] = {"condition": system.condition, "split": "train"}
    value, known = float(last.mean()), about | {"split": "val"}
    return [
        row(dataset, system.name, "validation_auroc", value, **known),
        row(dataset, system.name, "seconds", pooled.seconds, **about),
        row(dataset, system.name, "seconds_per_epoch", float(np.median(epochs)), **about),
    ]


def part_results(parameters: Parameters, part: str, asked: bool, resamples: int = 2000) -> Results:
    """One of `ablation.PARTS`: run on the parameters' data set where `asked` for, else stored.

    Folds that are there are read. The leaking part is asked about its verdicts and maps only.
    """
    p = parameters
    if not asked or p.dataset == "synthetic":
        return stored_part(part)
    systems, pairs = systems_of(part), pairs_of(part)
    found = results(p, systems)
    assert found.rows is not None
    plain = found.rows["condition"].map(lambda c: "defect_type" not in c)
    whole_run = found.rows["fold"].isna() | found.rows["metric"].isin(BY_FOLD)
    table = found.rows[found.rows["metric"].isin(KEPT) & plain & whole_run]
    rows: list[dict[str, Any]] = []
    whole = {tag: merge(one, p.seeds) for tag, one in found.pooled.items()}
    for a, b in pairs:
        rows += pair_rows(a, b, whole[a.tag], whole[b.tag], p.dataset, resamples)
    for system in systems:
        rows += training_rows(system, whole[system.tag], p.dataset)
    if part != "leaking":
        answers = ask_folds(p, found.pooled, ask)
        for system in systems:
            about = p.dataset, system.name, system.condition
            asked_rows = flip_rows(answers[system.tag], *about, resamples=resamples)
            rows += [one for one in asked_rows if "defect_type" not in one["condition"]]
        for a, b in pairs:
            rows += flip_differences(
                answers[a.tag], answers[b.tag], p.dataset, a, b, resamples=resamples
            )
        overlaps = ask_folds(p, found.pooled, map_overlaps)
        rows += overlap_rows(overlaps, systems, pairs, p.dataset, resamples)
        rows += cost_rows(systems, p.backbone, p.image_size, p.dataset)
    if part == "ladder":
        filled = ask_folds(p, found.pooled, ask_without_defects)
        for system in systems:
            rows += surroundings_rows(filled[system.tag], p.dataset, system, resamples)
        rows += surroundings_differences(filled, pairs, p.dataset, resamples)
    return found._replace(rows=pd.concat([table, pd.DataFrame(rows)], ignore_index=True))


def part_command(part: str) -> str:
    """What makes the results of a part, in Markdown."""
    return command(PARTS[part])


def stored_part(part: str) -> Results:
    """The committed results of a part, or a note on how to make them."""
    absent = "The results of this part are **missing**."
    return stored_results(PARTS[part], part_command(part), absent)


def difference(
    rows: pd.DataFrame | None, a: System, b: System, measure: Measure, **extra: Any
) -> Value:
    """a minus b of a measure; NaN where nobody measured it. `extra` stands in the condition."""
    metric, map_name, condition = measure
    return _find(rows, a, f"{metric}_difference", map_name, **condition, **b.as_other, **extra)


def step_values(
    rows: pd.DataFrame | None, steps: Sequence[Step], **extra: Any
) -> dict[str, dict[str, list[Value]]]:
    """The data of `forests.forest`: the measures of `PANELS`, one difference per step."""
    return {
        group: {
            name: [difference(rows, s.system, s.before, measure, **extra) for s in steps]
            for name, measure in inner.items()
        }
        for group, inner in PANELS.items()
    }


def figure_of(rows: pd.DataFrame | None, system: System, measure: Measure, **extra: Any) -> Value:
    """A measure of one system; NaN where nobody measured it."""
    metric, map_name, condition = measure
    return _find(rows, system, metric, map_name, **condition, **extra)


def _find(
    rows: pd.DataFrame | None, system: System, metric: str, map_name: str | None, **about: Any
) -> Value:
    try:
        if rows is not None:
            return find(rows, system, metric, map_name, **about)
    except LookupError:
        pass
    return Value(float("nan"), float("nan"), float("nan"), None)


def cost_of(rows: pd.DataFrame, system: System, metric: str) -> Value:
    """A row of `cost_rows`, whose condition also says backbone and size."""
    chosen = rows[(rows["system"] == system.name) & (rows["metric"] == metric)]
    for about in map(dict, chosen["condition"]):
        extra = {key: value for key, value in about.items() if key not in system.condition}
        if {**system.condition, **extra} == about and set(extra) == {"backbone", "image_size"}:
            return _find(rows, system, metric, None, **extra)
    return Value(float("nan"), float("nan"), float("nan"), None)


def trained_by(systems: Sequence[System]) -> dict[str, dict[str, float]]:
    """The loss weights of systems, by folder, for the provenance."""
    return {s.tag: get_strategy(s.strategy).weights.asdict() for s in systems}
