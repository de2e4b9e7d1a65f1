"""What the chapter on guided attention says of real parts: systems, mining, and what masks buy."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from gainbook.chapters.ch06_guided.label_budget import (
    MAPS,
    Marked,
    Point,
    draws_minus,
    marked,
    mean_over_draws,
    over_draws,
)
from gainbook.chapters.ch06_guided.mining import ask_erased_folds, erased_differences, erased_rows
from gainbook.lab import components
from gainbook.lab.chapter_results import Results, merge, own_note, result_rows, stored_results
from gainbook.lab.comparison import compare
from gainbook.lab.parameters import Parameters
from gainbook.lab.reference import System, is_finished, load_fold, run
from gainbook.lab.results_file import row
from gainbook.lab.tables import find
from gainmtl.datasets import limit_masks

GUIDED = (
    components.PLAIN,
    components.MINING_ALONE,
    components.SUPERVISION_ALONE,
    components.BOTH,
)
"""The four systems of the chapter, from nothing to everything."""
PAIRS = (
    (components.MINING_ALONE, components.PLAIN),
    (components.SUPERVISION_ALONE, components.PLAIN),
    (components.BOTH, components.PLAIN),
    (components.BOTH, components.SUPERVISION_ALONE),
    (components.BOTH, components.MINING_ALONE),
)
QUALITIES = ("dilated", "box")
KEPT = (
    "auroc", "average_precision", "recall_at_fpr05", "accuracy", "recall", "iou", "point_game",
    "energy_inside", "positive_energy", "false_activation", "pixel_ap",
)  # fmt: skip
"""The measures of the chapter's rows."""


WORDS: dict[tuple[str, str | None], str] = {
    ("auroc", None): "AUROC",
    ("recall_at_fpr05", None): "recall at 5 % false alarms",
    ("positive_energy", "cam"): "evidence on the defect",
    ("point_game", "cam"): "evidence peaks on the defect",
    ("iou", "defect_map"): "IoU, defect map",
    ("pixel_ap", "defect_map"): "pixel AP, defect map",
    ("false_activation", "defect_map"): "false activation on normal parts",
}
"""Measures, by metric and map, in words; all in [0, 1]."""


def wanted(draws: int) -> list[System]:
    """Every system of the chapter, with so many draws of each share of masks."""
    shared = [components.with_share(s, d) for s in components.MASK_SHARES for d in range(draws)]
    return [*GUIDED, *shared, *(components.with_quality(quality) for quality in QUALITIES)]


def absent(rows: pd.DataFrame, draws: int) -> list[System]:
    """The systems that result rows say nothing about."""
    pooled = rows[(rows["metric"] == "auroc") & rows["fold"].isna()] if "fold" in rows else rows
    there = [
        (name, dict(about))
        for name, about in zip(pooled["system"], pooled["condition"], strict=True)
    ]
    return [system for system in wanted(draws) if (system.name, system.condition) not in there]


class Place(NamedTuple):
    """A share of masks among result rows."""

    words: str
    tick: str
    groups: float
    """Defective training groups with a mask, a mean over folds and draws."""
    system: System
    draws: tuple[System, ...] = ()
    is_apart: bool = False


def places(rows: pd.DataFrame, draws: int) -> list[Place]:
    """The shares of masks that result rows know, from none to all, with the draws that are there.

    None is mining alone, which stands apart: it has no loss on the map at all, while every share
    above it has the empty masks of normal parts, too.
    """
    missing = absent(rows, draws)
    found = []
    if components.MINING_ALONE not in missing:
        found.append(
            Place("none, mining alone", "mining\nalone", 0, components.MINING_ALONE, (), True)
        )
    for share in components.MASK_SHARES:
        every = [components.with_share(share, draw) for draw in range(draws)]
        there = tuple(system for system in every if system not in missing)
        if there:
            mean = over_draws(share, len(there))
            found.append(_place(rows, share, mean, there))
    if components.BOTH not in missing:
        found.append(_place(rows, 1.0, components.BOTH, ()))
    return found


def _place(rows: pd.DataFrame, share: float, system: System, draws: tuple[System, ...]) -> Place:
    groups = find(rows, components.BOTH, "marked_groups", mask_share=share).value
    words = "all" if share == 1 else f"{share:.0%}"
    if len(draws) > 1:
        words += f", mean of {len(draws)} draws"
    return Place(words, f"{share:.0%}\n{groups:.0f}", groups, system, draws)


def point(rows: pd.DataFrame, place: Place, metric: str, map: str | None = None) -> Point:
    """What a figure draws of a measure at a share of masks."""
    value = find(rows, place.system, metric, map)
    single = tuple(find(rows, system, metric, map).value for system in place.draws)
    return Point(place.tick, value, single, place.is_apart)


def guided_results(
    parameters: Parameters, draws: int = 3, only_finished: bool = False, resamples: int = 2000
) -> Results:
    """Everything the chapter says about real parts; what is missing is named in the note.

    The systems' folds are read, or trained where they are not there. With `dataset="synthetic"`
    the chapter's reference results are read.

    Args:
        draws: of each share of masks.
        only_finished: leave out systems whose folds are not all there, instead of training them.
    """
    p = parameters
    if p.dataset == "synthetic":
        return stored_results(p.notebook)
    shared = {
        s: [components.with_share(s, d) for d in range(draws)] for s in components.MASK_SHARES
    }
    coarse = [components.with_quality(quality) for quality in QUALITIES]
    left_out = [s for s in wanted(draws) if only_finished and not is_finished(p, s)]
    pooled = {s.tag: run(p, s) for s in wanted(draws) if s not in left_out}
    whole = {tag: merge(runs, p.seeds) for tag, runs in pooled.items()}
    parts: list[pd.DataFrame] = []
    rows: list[dict[str, Any]] = []
    for system in (*GUIDED, *coarse):
        if system.tag in pooled:
            parts.append(_kept(result_rows(pooled[system.tag], p.seeds, p.dataset, resamples)))
    for a, b in (*PAIRS, *((one, components.BOTH) for one in coarse)):
        if a.tag in whole and b.tag in whole:
            found = compare(whole[a.tag], whole[b.tag], p.dataset, resamples)
            parts.append(found.drop(columns="p_value"))
    asked = {s.tag: ask_erased_folds(p, pooled[s.tag]) for s in GUIDED if s.tag in pooled}
    for system in GUIDED:
        if system.tag in asked:
            rows += erased_rows(asked[system.tag], p.dataset, system, resamples)
    for a, b in PAIRS:
        if a.tag in asked and b.tag in asked:
            pair = asked[a.tag], asked[b.tag]
            rows += erased_differences(*pair, p.dataset, a, b, resamples)
    for share, systems in shared.items():
        there = [system for system in systems if system.tag in whole]
        for system in there:
            rows += mean_over_draws([whole[system.tag].scores], p.dataset, system, resamples)
        if not there:
            continue
        mean, runs = over_draws(share, len(there)), [whole[s.tag].scores for s in there]
        rows += mean_over_draws(runs, p.dataset, mean, resamples)
        for other in (components.MINING_ALONE, components.BOTH):
            if other.tag in whole:
                rows += draws_minus(
                    runs, whole[other.tag].scores, p.dataset, mean, other, resamples
                )
    rows += _marked_rows(p, shared)
    note = own_note(p)
    if left_out:
        note += " **Not there yet, and left out**: " + ", ".join(s.tag for s in left_out) + "."
    table = pd.concat([*parts, pd.DataFrame(rows)], ignore_index=True)
    return Results(table, note, pooled)


def _marked_rows(parameters: Parameters, shared: dict[float, list[System]]) -> list[dict[str, Any]]:
    """Rows `marked_groups` and `marked_images`: means over folds and draws, of each share and 1."""
    p, rows = parameters, []
    folds = [load_fold(p, seed)(fold) for seed in p.seeds for fold in range(p.folds)]
    whole = [*shared.items(), (1.0, [components.BOTH])]
    for share, systems in whole:
        counts = [marked(limit_masks(data, **dict(s.masks))) for s in systems for data in folds]
        for name in Marked._fields:
            value = float(np.mean([getattr(count, name) for count in counts]))
            about = {**components.BOTH.condition, "mask_share": share}
            rows.append(
                row(
                    p.dataset,
                    components.BOTH.name,
                    f"marked_{name}",
                    value,
                    split="train",
                    condition=about,
                    n=len(counts),
                )
            )
    return rows


def _kept(rows: pd.DataFrame) -> pd.DataFrame:
    """The chapter's measures; by defect type only where folds are pooled."""
    typed = rows["condition"].map(lambda condition: "defect_type" in condition)
    maps = rows["map"].isna() | rows["map"].isin(MAPS)
    return rows[rows["metric"].isin(KEPT) & maps & (rows["fold"].isna() | ~typed)]
