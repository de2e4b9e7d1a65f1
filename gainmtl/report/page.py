"""The report of one run: one HTML page with the results and the worst mistakes."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gainmtl.files import atomic_path, user_path
from gainmtl.model import GAINMTL
from gainmtl.report import html, sections
from gainmtl.report.cases import NEW, Case
from gainmtl.report.overlays import fit_to, overlay
from gainmtl.report.verdicts import HIT, defect_map_of

THUMBNAIL = 360
"""Longer side of the images in a report, in pixels."""


def threshold_rule(verdicts: pd.DataFrame, max_false_alarms: float, inner_folds: int = 0) -> str:
    """A text: how the threshold was chosen, and its results on the validation images.

    `inner_folds` of the recipe, by which these images alone did not choose it; 0: they did.
    """
    validation = verdicts[verdicts["split"] == "val"]
    images = (
        f"the held-out images of {inner_folds} inner folds of the training and validation images"
        if inner_folds
        else "the validation images"
    )
    text = (
        "Each model has the lowest threshold with at most "
        f"{100 * max_false_alarms:g} % false alarms on {images}"
    )
    if inner_folds or not len(validation):
        return text + "; the test images were not used."
    normals, defects = (validation[validation["true_label"] == k] for k in ("normal", "defective"))
    alarms, hits = ((part["verdict"] == "defective").sum() for part in (normals, defects))
    allowed = int(np.floor(max_false_alarms * len(normals) + 1e-9))
    return (
        f"{text}: {allowed} of the {len(normals)} normal images may be flagged. "
        f"It flags {alarms} of {len(normals)} normal and {hits} of {len(defects)} defective "
        "validation images. The test images were not used."
    )


def write_report(
    path: str | Path,
    models: Sequence[GAINMTL],
    cases: Sequence[Case],
    verdicts: pd.DataFrame,
    *,
    title: str,
    rule: str,
    measures: pd.DataFrame | None = None,
    counts: Mapping[str, Mapping[str, int]] | None = None,
    facts: Mapping[str, Any] | None = None,
    examples: int = 12,
) -> Path:
    """Write one self-contained HTML file and return its path.

    Args:
        models: one per fold, as for `verdict_table`.
        verdicts: the `verdict_table` of `cases`, one row per case.
        rule: how the threshold was chosen; see `threshold_rule`.
        measures: tidy rows of the test images; only pooled ones are shown.
        counts: `Data.counts` of labelled data.
        facts: origin of the run, one table row each.
        examples: largest number of images per section, the worst first.

    Raises:
        ValueError: not one verdict per case.
    """
    if len(cases) != len(verdicts):
        raise ValueError(
            f"write_report: expected one verdict per case, got {len(verdicts)} verdicts for "
            f"{len(cases)} cases; pass the verdict_table of these cases"
        )
    case_of = dict(zip(verdicts.index, cases, strict=True))
    show = functools.partial(_gallery, models, case_of, examples)
    test = verdicts[verdicts["split"] == "test"]
    new = verdicts[verdicts["split"] == NEW]
    parts: list[tuple[str, str, list[str]]] = []
    if len(test):
        parts.append(("figures", "Results", sections.figures(test, measures)))
        chosen = [html.paragraph(rule), sections.histograms(test)]
        parts.append(("threshold", "Threshold", chosen))
        parts += sections.mistakes(test, show)
    if len(new):
        parts += sections.unlabelled(new, show, None if len(test) else rule)
    if counts is not None:
        parts.append(("data", "Data", sections.data(counts)))
    if facts:
        parts.append(("origin", "Origin", [html.table("", ("", ""), facts.items())]))
    links = "".join(f'<a href="#{key}">{html.text(name)}</a>' for key, name, _ in parts)
    body = [
        f"<header><h1>{html.text(title)}</h1>",
        html.paragraph(_lead(test, new), "lead"),
        f"<nav aria-label='Sections'>{links}</nav></header>",
        sections.tiles(test, measures) if len(test) else "",
        sections.legend(),
        *(html.section(key, name, *content) for key, name, content in parts),
    ]
    with atomic_path(path) as temporary:
        temporary.write_text(html.page(title, body), encoding="utf-8")
    return user_path(path)


def _gallery(
    models: Sequence[GAINMTL], case_of: Mapping[Any, Case], examples: int, rows: pd.DataFrame
) -> list[str]:
    """The first `examples` rows as cards, and the number of rows that are not shown."""
    shown = rows.head(examples)
    cards = [_card(models, case_of[row.name], row) for _, row in shown.iterrows()]
    rest = len(rows) - len(cards)
    more = [html.paragraph(f"{rest} more are in verdicts.csv.", "soft")] if rest else []
    return [html.gallery(cards), *more]


def _card(models: Sequence[GAINMTL], case: Case, row: pd.Series) -> html.Card:
    defect_map = defect_map_of(models[case.fold], case)
    picture = fit_to(case.read(), defect_map, case.read_mask(), THUMBNAIL)
    words = [_comparison(row["defect_probability"], row["threshold"])]
    if case.is_defective:
        words.insert(0, str(case.defect_type))
    words.append(f"highest map value {row['peak']:.2f}")
    if row["peak_to_mask"] > 0:
        words.append(f"peak {row['peak_to_mask']:.0f} px from the mask")
    if case.is_defective and not row["has_mask"]:
        words.append("no mask")
    return html.Card(
        image=picture.pixels,
        overlay=overlay(picture),
        name=case.name,
        text=" · ".join(words),
        alt=f"{case.true_label or 'unlabelled'} image {case.name}, predicted {row['verdict']}",
    )


def _comparison(probability: float, threshold: float) -> str:
    """Both numbers, with enough digits to show that they differ."""
    digits = next((d for d in range(3, 8) if f"{probability:.{d}f}" != f"{threshold:.{d}f}"), 8)
    sign = "≥" if probability >= threshold else "<"
    return f"probability {probability:.{digits}f} {sign} {threshold:.{digits}f}"


def _lead(test: pd.DataFrame, new: pd.DataFrame) -> str:
    words = []
    if len(test):
        hits, misses, alarms, rejections = sections.outcomes(test)
        words.append(
            f"{hits} of {hits + misses} defective test images were detected, and {alarms} of "
            f"{alarms + rejections} normal ones were flagged by mistake."
        )
        masked = test[(test["outcome"] == HIT) & test["peak_to_mask"].notna()]
        if len(masked):
            inside = int((masked["peak_to_mask"] == 0).sum())
            words.append(
                f"{len(masked)} of the detected defects have a mask; the model's map peaks inside "
                f"the mask for {inside} of them and outside for {len(masked) - inside}."
            )
    if len(new):
        flagged = int((new["verdict"] == "defective").sum())
        words.append(f"{flagged} of {len(new)} unlabelled images were flagged as defective.")
    return " ".join(words)
