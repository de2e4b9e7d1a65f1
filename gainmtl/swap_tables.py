"""Tables of the study of the swap, for its chapter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from gainmtl.detector_results import DETECTOR_COLUMNS, cell
from gainmtl.distillation import ReverseDistillation
from gainmtl.swap_study import Family, plain, study_systems, taken
from gainmtl.swap_verdicts import verdict_row
from gainmtl.tables import find, markdown

SPREAD = {
    "mean_cosine": "mean cosine",
    "participation": "participation",
    "outlier_share": "energy in the loudest 2 %",
}
"""Feature statistics that readers see, by metric."""


def spread_table(rows: pd.DataFrame, families: Sequence[Family]) -> str:
    """How the teachers' features lie, level by level from the finest, in Markdown."""
    lines = []
    for family in [*families, *_beside_pair(rows, families)]:
        of_pair = family in families
        own = {"study": "statistics"} | ({} if of_pair else {"teacher": family.name})
        for kind in taken(family):
            wanted = {**own, "features": kind, "stride": None}
            kept = rows[
                (rows["system"] == f"teacher-{family.backbone}")
                & rows["condition"].map(lambda c, wanted=wanted: {**c, "stride": None} == wanted)
            ]
            strides = kept["condition"].map(lambda given: given["stride"])
            kept = kept.loc[strides.sort_values(kind="stable").index]
            values = [
                ", ".join(f"{value:.2f}" for value in kept.loc[kept["metric"] == metric, "value"])
                for metric in SPREAD
            ]
            lines.append([_label(family, of_pair), kind, *(value or "–" for value in values)])
    return markdown(["teacher", "features", *SPREAD.values()], lines)


def final_table(rows: pd.DataFrame, families: Sequence[Family]) -> str:
    """What was chosen, on the folds that chose nothing, with its parameters, in Markdown."""
    where: dict[str, Any] = {"study": "final"}
    lines = []
    systems: list[Any] = study_systems(families)  # rows are found by name and condition
    for one in systems:
        try:
            count = find(rows, one, "parameters", **where).value
        except LookupError:  # not chosen
            continue
        lines.append(
            [
                one.label,
                *(cell(rows, one, *place, **where) for place in DETECTOR_COLUMNS.values()),
                f"{count / 1e6:.1f} M",
            ]
        )
    return markdown(["chosen", *DETECTOR_COLUMNS, "parameters"], lines)


def teacher_table(rows: pd.DataFrame, families: Sequence[Family]) -> str:
    """The published detector on every teacher of the study, in Markdown, the pair's last."""
    lines = []
    for family in [*_beside_pair(rows, families), *families]:
        of_pair = family in families
        own: dict[str, Any] = {} if of_pair else {"teacher": family.name}
        place = {"study": "factors" if of_pair else "teachers", **own}
        try:
            accuracy = verdict_row(rows, "accuracy", f"teacher-{family.backbone}", **own).text()
        except LookupError:
            accuracy = "–"
        lines.append(
            [
                _label(family, of_pair),
                accuracy,
                cell(rows, plain(family), "auroc", None, **place),
                cell(rows, plain(family), "aupro", "defect_map", **place),
            ]
        )
    return markdown(["teacher", "accuracy", "image AUROC", "AUPRO"], lines)


def against_less_accurate(rows: pd.DataFrame, families: Sequence[Family]) -> str:
    """The ConvNeXt minus each teacher beside the pair that is less accurate, in Markdown.

    One line each with the difference of accuracy and of the image AUROC, as swapped in and at its
    best; nothing where no such teacher was run.
    """
    convnext = next(f for f in families if f.name == "convnext")
    accuracy = verdict_row(rows, "accuracy", f"teacher-{convnext.backbone}").value
    lines = []
    for family in _beside_pair(rows, families):
        own = {"teacher": family.name}
        try:
            other = verdict_row(rows, "accuracy", f"teacher-{family.backbone}", **own).value
        except LookupError:
            continue
        if other < accuracy:
            found = (
                verdict_row(rows, "auroc_difference", role=role, **own).text(3, True)
                for role in ("swap", "convnext")
            )
            lines.append([_label(family), f"{accuracy - other:+.2f}", *found])
    header = ["ConvNeXt minus", "accuracy", "image AUROC, swapped in", "image AUROC, at its best"]
    return markdown(header, lines) if lines else ""


def _label(family: Family, of_pair: bool = False) -> str:
    """Of a teacher, for readers."""
    return f"{family.backbone}, {'of the pair' if of_pair else family.name.replace('-', ' ')}"


def _beside_pair(rows: pd.DataFrame, families: Sequence[Family]) -> list[Family]:
    """The teachers beside the pair that `rows` know, without weights."""
    known = {
        str(c["teacher"]): str(name).removeprefix(f"{ReverseDistillation.kind}-")
        for name, c in zip(rows["system"], map(dict, rows["condition"]), strict=True)
        if c.get("study") == "teachers"
    }
    even = families[0].flat_field
    return [Family(name, backbone, None, even) for name, backbone in known.items()]
