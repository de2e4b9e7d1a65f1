"""What the chapter on guided attention says of real parts: systems, mining, and what masks buy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from gainmtl import components
from gainmtl.datasets import limit_masks
from gainmtl.findings import Results, merge, own_note, result_rows, stored_results
from gainmtl.label_budget import MAPS, Marked, draws_minus, marked, mean_over_draws, over_draws
from gainmtl.mining import ask_erased_folds, erased_differences, erased_rows
from gainmtl.parameters import Parameters
from gainmtl.protocol import compare
from gainmtl.reference import System, is_finished, load_fold, run
from gainmtl.runs import row

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
