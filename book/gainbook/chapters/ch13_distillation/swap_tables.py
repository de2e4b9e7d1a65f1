"""Tables of the study of the swap, for its chapter."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from gainbook.chapters.ch13_distillation.detector_results import cell
from gainbook.chapters.ch13_distillation.detector_systems import DetectorSystem
from gainbook.chapters.ch13_distillation.swap_study import (
    OF_PAIR,
    Family,
    base,
    grid,
    layers_kept,
    one_more,
    plain,
    study_systems,
    system,
    taken,
)
from gainbook.chapters.ch13_distillation.swap_verdicts import verdict_row
from gainbook.lab.tables import find, markdown, rows_of
from gainmtl.anomaly.fitting import RECIPES
from gainmtl.anomaly.reverse_distillation import ReverseDistillation

SPREAD = {
    "mean_cosine": "mean cosine",
    "participation": "participation",
    "outlier_share": "energy in the loudest 2 %",
}
"""Feature statistics that readers see, by metric."""


def spread_table(rows: pd.DataFrame, families: Sequence[Family]) -> str:
    """How the teachers' features lie, level by level from the finest, in Markdown."""
    lines = []
    for family in [*families, *_beside_pair(rows)]:
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


def factor_table(rows: pd.DataFrame, families: Sequence[Family]) -> str:
    """Each factor of the grids: image AUROC of pairs that differ in it alone, in Markdown.

    A pair's difference is the mean over seeds. One line per family and factor with the mean over
    pairs, the least and the greatest, how many pairs are above 0, and how many of all trainings of
    pairs. Pairs share systems, so this is no interval.
    """
    lines = []
    for family in families:
        others = [kind for kind in taken(family) if kind != "raw"]
        ways = list(itertools.product(taken(family), (True, False), ("paper", "modern")))
        pairs: dict[str, list[tuple[DetectorSystem, DetectorSystem]]] = {}
        for features, fusion, recipe in ways:
            one = system(family, features, fusion, recipe)
            if features in others:
                other = system(family, "raw", fusion, recipe)
                pairs.setdefault(f"{features} minus raw", []).append((one, other))
            if fusion:
                other = system(family, features, False, recipe)
                pairs.setdefault("fusion minus none", []).append((one, other))
            if recipe == "modern":
                other = system(family, features, fusion, "paper")
                pairs.setdefault("modern minus published recipe", []).append((one, other))
        if family.name == "convnext":
            pairs["trained embedding minus stage 4"] = [
                (system(family, f, False, r), layers_kept(family, f, r))
                for f, r in itertools.product(taken(family), ("paper", "modern"))
            ]
        for factor, compared in pairs.items():
            each = np.array([by_seed(rows, a) - by_seed(rows, b) for a, b in compared])
            apart = each.mean(axis=1)
            lines.append(
                [
                    f"{family.backbone}, {factor}", f"{apart.mean():+.3f}",
                    f"{apart.min():+.3f} to {apart.max():+.3f}",
                    f"{(apart > 0).sum()} of {apart.size}", f"{(each > 0).sum()} of {each.size}",
                ]
            )  # fmt: skip
    header = ["factor", "mean over pairs", "least to greatest", "pairs above 0", "by seed"]
    return markdown(header, lines)


def by_seed(rows: pd.DataFrame, one: DetectorSystem) -> pd.Series:
    """The image AUROC of one of the factors' systems on the fold that chooses, by seed.

    Raises:
        LookupError: no such rows, or several of one seed.
    """
    where: dict[str, Any] = {"study": "factors"}
    system: Any = one  # rows are found by name and condition
    every = rows_of(rows, system, "auroc", **where)
    kept = every[every["fold"].notna()]
    if kept.empty or kept["seed"].duplicated().any():
        found = list(kept["seed"])
        raise LookupError(f"expected one row per seed of {one.label}; found {found}")
    return kept.set_index("seed")["value"].sort_index().astype(float)


def seed_deviation(rows: pd.DataFrame, systems: Sequence[DetectorSystem]) -> float:
    """How far the image AUROC of `systems` moves when the seed alone is another.

    sqrt(mean over systems of the variance over seeds); NaN with a single seed.
    """
    found = np.array([by_seed(rows, one) for one in systems])
    if found.shape[1] < 2:
        return math.nan
    return float(np.sqrt(found.var(axis=1, ddof=1).mean()))


def seed_table(rows: pd.DataFrame, families: Sequence[Family]) -> str:
    """`seed_deviation` of the grids by family and recipe, in Markdown; dashes with one seed."""
    lines = []
    for family in families:
        own = ([one for one in grid(family) if one.recipe == recipe] for recipe in RECIPES)
        moved = [seed_deviation(rows, systems) for systems in own]
        lines.append([family.backbone, *("–" if math.isnan(v) else f"{v:.3f}" for v in moved)])
    header = ["standard deviation over seeds", *(f"recipe {name}" for name in RECIPES)]
    return markdown(header, lines)


def besides_table(rows: pd.DataFrame, families: Sequence[Family]) -> str:
    """What was tried beside the factors, each family's after what it changes, in Markdown."""
    own = rows["condition"].map(lambda condition: condition.get("study") == "besides")
    lines = [
        [one.label, *(cell(rows, one, *place, study="besides") for place in MEASURES)]
        for family in families
        for one in (base(family), *one_more(family))
    ]
    seeds = rows.loc[own, "seed"].nunique()
    return markdown([f"one thing changed, seeds: {seeds}", "image AUROC", "AUPRO"], lines)


MEASURES = (("auroc", None), ("aupro", "defect_map"))
"""What tables of the study show, metric and map."""
CHOSEN_AS = {
    "plain": "as published",
    "swap": "swapped in, at the best rate",
    "same": "best of the swap's structure",
    "convnext": "best of the ConvNeXt's grid",
    "resnet": "best of the ResNet's grid",
    "convnext, one more": "best ConvNeXt of what else was suspected",
    "resnet, one more": "best ResNet of what else was suspected",
}
"""What a system can be chosen for, for readers."""


def final_table(rows: pd.DataFrame, families: Sequence[Family]) -> str:
    """What was chosen and for what, where it was and on the folds that chose nothing, in Markdown.

    With the parameters that a pass uses, teacher included.
    """
    lines = []
    systems: list[Any] = study_systems(families)  # rows are found by name and condition
    choices = rows[rows["condition"].map(lambda condition: condition.get("study") == "chosen")]
    for role, words in CHOSEN_AS.items():
        for one in systems:
            chosen: dict[str, Any] = {"study": "chosen", "role": role}
            try:
                there = find(choices, one, "auroc", None, **chosen)
            except LookupError:
                continue
            final: dict[str, Any] = {"study": "final"}
            count = find(rows, one, "parameters", None, **final).value
            measures = (cell(rows, one, *place, **final) for place in MEASURES)
            lines.append([words, one.label, there.text(3), *measures, f"{count / 1e6:.1f} M"])
    header = [
        "chosen as", "", "image AUROC where it was chosen", "image AUROC on the other folds",
        "AUPRO there", "parameters",
    ]  # fmt: skip
    return markdown(header, lines)


def teacher_table(rows: pd.DataFrame, families: Sequence[Family]) -> str:
    """The published detector on every teacher of the study, in Markdown, the pair's last.

    All on the fold that chooses, with the seeds that judge.
    """
    lines = []
    for family in [*_beside_pair(rows), *families]:
        of_pair = family in families
        own: dict[str, Any] = {} if of_pair else {"teacher": family.name}
        place: dict[str, Any] = {"study": "teachers", "teacher": family.name}
        try:
            accuracy = verdict_row(rows, "accuracy", f"teacher-{family.backbone}", **own).text()
        except LookupError:
            accuracy = "–"
        lines.append(
            [
                _label(family, of_pair),
                accuracy,
                *(cell(rows, plain(family), *measure, **place) for measure in MEASURES),
            ]
        )
    return markdown(["teacher", "accuracy", "image AUROC", "AUPRO"], lines)


def against_less_accurate(rows: pd.DataFrame, families: Sequence[Family]) -> str:
    """The ConvNeXt minus the published detector on a less accurate teacher, in Markdown.

    One line for each such teacher beside the pair with the difference of accuracy and of the image
    AUROC, as swapped in and the best of the ConvNeXt's grid, while the other is as it was
    published; nothing where no such teacher was run.
    """
    convnext = next(f for f in families if f.name == "convnext")
    accuracy = verdict_row(rows, "accuracy", f"teacher-{convnext.backbone}").value
    lines = []
    for family in _beside_pair(rows):
        own = {"teacher": family.name}
        try:
            other = verdict_row(rows, "accuracy", f"teacher-{family.backbone}", **own).value
            found = [
                verdict_row(rows, "auroc_difference", role=role, **own).text(3, True)
                for role in ("swap", "convnext")
            ]
        except LookupError:  # no classifier of the pretraining's pictures, or not run there
            continue
        if other < accuracy:
            lines.append([_label(family), f"{accuracy - other:+.2f}", *found])
    header = ["ConvNeXt minus", "accuracy", "image AUROC, swapped in", "best of its grid"]
    return markdown(header, lines) if lines else ""


def _label(family: Family, of_pair: bool = False) -> str:
    """Of a teacher, for readers."""
    return f"{family.backbone}, {'of the pair' if of_pair else family.name.replace('-', ' ')}"


def _beside_pair(rows: pd.DataFrame) -> list[Family]:
    """The teachers beside the pair that `rows` know, without weights."""
    known = {}
    for name, c in zip(rows["system"], map(dict, rows["condition"]), strict=True):
        if c.get("study") == "teachers" and c["teacher"] not in OF_PAIR:
            backbone = str(name).removeprefix(f"{ReverseDistillation.kind}-")
            even = float(c.get("flat_field", 0))
            known[c["teacher"]] = Family(str(c["teacher"]), backbone, None, even)
    return list(known.values())
