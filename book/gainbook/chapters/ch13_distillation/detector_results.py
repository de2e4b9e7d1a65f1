"""What detectors are worth: folds as result rows, tables, and where a page has them from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from gainbook.chapters.ch13_distillation.detector_systems import (
    DetectorSystem,
    compare_detectors,
    run_detector,
)
from gainbook.lab import results_file as runs
from gainbook.lab.chapter_results import Results, merge, own_note, stored_results
from gainbook.lab.comparison import pooled_rows
from gainbook.lab.protocol import Pooled, pool
from gainbook.lab.tables import find, markdown
from gainmtl import metrics
from gainmtl.evaluation.stats import paired_interval
from gainmtl.types import NORMAL

DETECTOR_COLUMNS: dict[str, tuple[str, str | None]] = {
    "AUROC": ("auroc", None),
    "average precision": ("average_precision", None),
    "recall at 1 % false alarms": ("recall_at_fpr01", None),
    "at 5 %": ("recall_at_fpr05", None),
    "pixel AUROC": ("pixel_auroc", "defect_map"),
    "pixel AP": ("pixel_ap", "defect_map"),
    "AUPRO": ("aupro", "defect_map"),
}
"""What a detector is judged by: of the image, of its pixels, of its regions."""


CHOSEN_ON = (0, 1)
"""Folds, of the five that seed 0 deals from the magnetic tiles, that the reference detectors'
options were chosen on. Another seed, or another number of folds, deals those pictures elsewhere."""
WITHOUT = {"without_folds": list(CHOSEN_ON)}
"""In the condition of rows that leave them out."""


def chosen_on(parameters: Any) -> tuple[int, ...]:
    """`CHOSEN_ON` for a run that has these folds, else nothing."""
    p = parameters
    same = p.dataset == "magnetic-tile" and p.folds == 5 and list(p.seeds) == [0]
    return CHOSEN_ON if same else ()


def without_folds(pooled: Sequence[Pooled], folds: Sequence[int]) -> list[Pooled]:
    """The runs as if they did not have `folds`; histories and times stay those of all.

    For runs of all folds, in their order.
    """
    found = []
    for one in pooled:
        kept = [part for fold, part in enumerate(one.folds) if fold not in folds]
        found.append(one._replace(folds=kept, scores=pool(kept)))
    return found


def detector_rows(
    pooled: Sequence[Pooled],
    seeds: Sequence[int],
    dataset: str,
    resamples: int = 2000,
    **more: Any,
) -> pd.DataFrame:
    """One set of rows per seed and fold, and one pooled over both with intervals over groups.

    A fold's rows are of all defect types together: of one type it tests a handful of images.
    `more` goes into the condition of every row. No row for the calibration error: a detector's
    score is no probability.
    """
    changed = [one._replace(condition={**one.condition, **more}) for one in pooled]
    parts = []
    for one, seed in zip(changed, seeds, strict=True):
        rows = pooled_rows(one, dataset, seed, resamples=0)
        together = rows["condition"].map(lambda condition: "defect_type" not in condition)
        parts.append(rows[rows["fold"].notna() & together])
    whole = pooled_rows(merge(changed, seeds), dataset, seeds[0], resamples)
    parts.append(whole[whole["fold"].isna()])
    rows = pd.concat(parts, ignore_index=True)
    return rows[rows["metric"] != "ece"].reset_index(drop=True)


def difference_rows(
    a: Sequence[Pooled], b: Sequence[Pooled], seeds: Sequence[int], dataset: str, **more: Any
) -> pd.DataFrame:
    """Paired differences a - b over all seeds, for the whole and for image AUROC by defect type."""
    first, second = merge(a, seeds), merge(b, seeds)
    first = first._replace(condition={**first.condition, **more})
    second = second._replace(condition={**second.condition, **more})
    rows = compare_detectors(first, second, dataset).drop(columns="p_value")
    left, right = (
        one.scores.images.sort_values("name", ignore_index=True) for one in (first, second)
    )
    kinds = left["defect_type"].to_numpy(str)
    extra = []
    types = sorted(set(kinds) - {NORMAL})
    for kind in types if len(types) > 1 else []:
        kept = (kinds == kind) | (kinds == NORMAL)
        x, y = (t.loc[kept, "defect_probability"].to_numpy(float) for t in (left, right))
        labels = left.loc[kept, "is_defective"].to_numpy(bool)
        groups = left.loc[kept, "group"].to_numpy(str)
        found = paired_interval(metrics.auroc, groups, x, y, [labels])
        extra.append(
            {
                **rows.iloc[0].to_dict(),
                "condition": {**rows.iloc[0]["condition"], "defect_type": kind},
                "map": None,
                "metric": "auroc_difference",
                "value": found.value,
                **found.ends,
            }
        )
    return pd.concat([rows, pd.DataFrame(extra)], ignore_index=True)


def detector_results(
    parameters: Any,
    systems: Sequence[DetectorSystem],
    pairs: Sequence[tuple[DetectorSystem, DetectorSystem]] = (),
) -> Results:
    """Run `systems` on the parameters' data set, or read what the book comes with.

    With `dataset="synthetic"` the committed reference results of the notebook are read. `pairs` are
    compared on the same images, first minus second; pairs of one split also without the folds that
    options were `chosen_on`, with `WITHOUT` in the condition.
    """
    p = parameters
    if p.dataset == "synthetic":
        return stored_detectors(p.notebook)
    pooled = {one.tag: run_detector(p, one, p.weights) for one in systems}
    parts = [detector_rows(one, p.seeds, p.dataset) for one in pooled.values()]
    parts += [difference_rows(pooled[a.tag], pooled[b.tag], p.seeds, p.dataset) for a, b in pairs]
    if folds := chosen_on(p):
        alike = [(a, b) for a, b in pairs if a.split == b.split]
        kept = {
            tag: without_folds(pooled[tag], folds)
            for tag in dict.fromkeys(one.tag for pair in alike for one in pair)
        }
        for a, b in alike:
            rows = difference_rows(kept[a.tag], kept[b.tag], p.seeds, p.dataset, **WITHOUT)
            parts.append(rows)
    return Results(pd.concat(parts, ignore_index=True), own_note(p), pooled)


def stored_detectors(notebook: str) -> Results:
    """The committed results of a notebook about detectors, or a note on how to make them."""
    return stored_results(notebook, command(notebook))


def command(notebook: str) -> str:
    """What makes the reference results of a chapter about detectors, in Markdown."""
    return (
        "```bash\n"
        f"papermill notebooks/{notebook}.ipynb out.ipynb -f notebooks/profiles/anomaly.yaml \\\n"
        "    -p data_root path/to/magnetic-tile -p output_dir runs/anomaly\n"
        f"cp runs/anomaly/results.json book/results/{notebook}.json\n"
        "```"
    )


def detector_table(rows: pd.DataFrame, systems: Sequence[DetectorSystem], **condition: Any) -> str:
    """What the detectors are worth, one line each."""
    lines = [
        [one.label, *(cell(rows, one, *where, **condition) for where in DETECTOR_COLUMNS.values())]
        for one in systems
    ]
    return markdown(["detector", *DETECTOR_COLUMNS], lines)


def difference_table(
    rows: pd.DataFrame,
    pairs: Sequence[tuple[DetectorSystem, DetectorSystem]],
    **condition: Any,
) -> str:
    """First minus second on the same images, one line per pair."""
    lines = []
    for a, b in pairs:
        other = {**b.as_other, **{f"against_{k}": v for k, v in condition.items()}}
        lines.append(
            [
                f"{a.label} − {b.label}",
                *(
                    cell(rows, a, f"{metric}_difference", place, True, **other, **condition)
                    for metric, place in DETECTOR_COLUMNS.values()
                ),
            ]
        )
    return markdown(["difference", *DETECTOR_COLUMNS], lines)


def cell(
    rows: pd.DataFrame,
    system: Any,
    metric: str,
    place: str | None = None,
    signed: bool = False,
    **condition: Any,
) -> str:
    """A figure for a table; a dash where nobody measured it."""
    try:
        return find(rows, system, metric, place, **condition).text(3, signed)
    except LookupError:
        return "–"


def statistics_rows(
    dataset: str, backbone: str, found: Mapping[tuple[str, int], Any]
) -> list[dict[str, Any]]:
    """Result rows of feature statistics by (features, stride of the level)."""
    return [
        runs.row(
            dataset, f"teacher-{backbone}", metric, float(value),
            condition={"features": features, "stride": stride},
        )
        for (features, stride), figures in found.items()
        for metric, value in figures._asdict().items()
        if not (isinstance(value, float) and math.isinf(value))
    ]  # fmt: skip


def shares_of(code: Sequence[int], levels: Sequence[Sequence[int]]) -> float:
    """How many numbers the code (C, h, w) holds for each one of the levels."""
    return float(np.prod(code) / sum(np.prod(shape) for shape in levels))
