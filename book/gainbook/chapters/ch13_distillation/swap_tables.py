"""Tables of the swap study, in Markdown."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from gainbook.chapters.ch13_distillation.swap import (
    OF_PAIR,
    RATES,
    Family,
    base,
    feature_kinds,
    grid,
    layers_kept,
    pair_of,
    published,
    same_structure,
    single_changes,
    study_systems,
    swapped,
    variant,
)
from gainbook.chapters.ch13_distillation.swap_rows import verdict_row
from gainbook.chapters.ch13_distillation.systems import DetectorSystem
from gainbook.lab.tables import Column, Value, cell, find, markdown, rows_of, system_table
from gainmtl.anomaly.fitting import RECIPES
from gainmtl.anomaly.reverse_distillation import ReverseDistillation

MEASURES: dict[str, Column] = {
    "image AUROC": ("auroc", None, {}),
    "AUPRO": ("aupro", "defect_map", {}),
}
"""The measures that the study's tables show."""
STATISTICS = {
    "mean_cosine": "mean cosine",
    "participation": "participation",
    "outlier_share": "energy in the loudest 2 %",
}
"""Words for the statistics of features, by metric."""
ROLE_WORDS = {
    "plain": "as published",
    "swap": "swapped in, at the best rate",
    "same": "best of the swap's structure",
    "convnext": "best of the ConvNeXt's grid",
    "resnet": "best of the ResNet's grid",
    "convnext, one more": "best single change of the ConvNeXt's base",
    "resnet, one more": "best single change of the ResNet's base",
}
"""Words for the roles that systems are chosen for."""


def statistics_table(rows: pd.DataFrame, families: Sequence[Family]) -> str:
    """Statistics of the teachers' features, level by level from the finest."""
    lines = []
    for family in [*families, *_further_teachers(rows)]:
        of_pair = family in families
        teacher = {} if of_pair else {"teacher": family.name}
        for kind in feature_kinds(family):
            wanted = {"study": "statistics", "features": kind, "stride": None, **teacher}
            kept = rows[
                (rows["system"] == f"teacher-{family.backbone}")
                & rows["condition"].map(lambda c, wanted=wanted: {**c, "stride": None} == wanted)
            ]
            strides = kept["condition"].map(lambda condition: condition["stride"])
            kept = kept.loc[strides.sort_values(kind="stable").index]
            values = [
                ", ".join(f"{value:.2f}" for value in kept.loc[kept["metric"] == metric, "value"])
                for metric in STATISTICS
            ]
            lines.append([_label(family, of_pair), kind, *(value or "–" for value in values)])
    return markdown(["teacher", "features", *STATISTICS.values()], lines)


def grid_table(rows: pd.DataFrame, families: Sequence[Family]) -> str:
    """Every system of the factors on the fold that chooses, with the image AUROC by seed."""
    resnet, convnext = pair_of(families)
    systems = [published(resnet), *(swapped(convnext, rate) for rate in RATES)]
    systems += [*grid(resnet), *same_structure(convnext), *grid(convnext)]
    lines = [
        [system.label, *_cells(rows, system, study="factors"),
         ", ".join(f"{value:.2f}" for value in by_seed(rows, system))]
        for system in {system.label: system for system in systems}.values()
    ]  # fmt: skip
    seeds = rows["seed"].dropna().nunique()
    return markdown([f"one fold, seeds: {seeds}", *MEASURES, "image AUROC by seed"], lines)


def factor_pairs(family: Family) -> dict[str, list[tuple[DetectorSystem, DetectorSystem]]]:
    """Pairs of the grid's systems that differ in one factor alone, by that factor."""
    pairs: dict[str, list[tuple[DetectorSystem, DetectorSystem]]] = {}
    kinds = feature_kinds(family)
    for features, fusion, recipe in itertools.product(kinds, (True, False), ("paper", "modern")):
        system = variant(family, features, fusion, recipe)
        if features != "raw":
            other = variant(family, "raw", fusion, recipe)
            pairs.setdefault(f"{features} minus raw", []).append((system, other))
        if fusion:
            other = variant(family, features, False, recipe)
            pairs.setdefault("fusion minus none", []).append((system, other))
        if recipe == "modern":
            other = variant(family, features, fusion, "paper")
            pairs.setdefault("modern minus published recipe", []).append((system, other))
    if family.name == "convnext":
        pairs["trained embedding minus stage 4"] = [
            (variant(family, f, False, r), layers_kept(family, f, r))
            for f, r in itertools.product(kinds, ("paper", "modern"))
        ]
    return pairs


def factor_table(rows: pd.DataFrame, families: Sequence[Family]) -> str:
    """Differences of image AUROC by factor, over the pairs that differ in it alone.

    A pair's difference is the mean over seeds. The last two columns count differences above 0,
    among pairs and among single trainings. Pairs share systems, so there is no interval.
    """
    lines = []
    for family in families:
        for factor, pairs in factor_pairs(family).items():
            each = np.array([by_seed(rows, a) - by_seed(rows, b) for a, b in pairs])
            means = each.mean(axis=1)
            lines.append(
                [
                    f"{family.backbone}, {factor}", f"{means.mean():+.3f}",
                    f"{means.min():+.3f} to {means.max():+.3f}",
                    f"{(means > 0).sum()} of {means.size}", f"{(each > 0).sum()} of {each.size}",
                ]
            )  # fmt: skip
    header = ["factor", "mean over pairs", "least to greatest", "pairs above 0", "by seed"]
    return markdown(header, lines)


def by_seed(rows: pd.DataFrame, system: DetectorSystem) -> pd.Series:
    """The image AUROC of one of the factors' systems on the fold that chooses, by seed.

    Raises:
        LookupError: no such rows, or several of one seed.
    """
    every = rows_of(rows, system, "auroc", study="factors")
    kept = every[every["fold"].notna()]
    if kept.empty or kept["seed"].duplicated().any():
        raise LookupError(
            f"expected one row per seed of {system.label}; found {list(kept['seed'])}"
        )
    return kept.set_index("seed")["value"].sort_index().astype(float)


def seed_deviation(rows: pd.DataFrame, systems: Sequence[DetectorSystem]) -> float:
    """Standard deviation of the image AUROC over seeds; NaN with a single seed.

    sqrt(mean over systems of the variance over seeds).
    """
    values = np.array([by_seed(rows, system) for system in systems])
    if values.shape[1] < 2:
        return math.nan
    return float(np.sqrt(values.var(axis=1, ddof=1).mean()))


def seed_table(rows: pd.DataFrame, families: Sequence[Family]) -> str:
    """`seed_deviation` of the grids by family and recipe; dashes with one seed."""
    lines = []
    for family in families:
        chosen = ([s for s in grid(family) if s.recipe == recipe] for recipe in RECIPES)
        values = [seed_deviation(rows, systems) for systems in chosen]
        lines.append([family.backbone, *("–" if math.isnan(v) else f"{v:.3f}" for v in values)])
    header = ["standard deviation over seeds", *(f"recipe {name}" for name in RECIPES)]
    return markdown(header, lines)


def single_change_table(rows: pd.DataFrame, families: Sequence[Family]) -> str:
    """The single changes, after each family's base."""
    systems = [s for family in families for s in (base(family), *single_changes(family))]
    of_study = rows["condition"].map(lambda condition: condition.get("study") == "besides")
    first = f"one thing changed, seeds: {rows.loc[of_study, 'seed'].nunique()}"
    return system_table(rows, systems, MEASURES, first, 3, study="besides")


def final_table(rows: pd.DataFrame, families: Sequence[Family]) -> str:
    """The chosen systems: their role, figures on the fold that chose and on the others, size."""
    lines = []
    choices = rows[rows["condition"].map(lambda condition: condition.get("study") == "chosen")]
    for role, words in ROLE_WORDS.items():
        for system in study_systems(families):
            try:
                choice = find(choices, system, "auroc", study="chosen", role=role)
            except LookupError:
                continue
            count = find(rows, system, "parameters", study="final").value
            final = _cells(rows, system, study="final")
            lines.append([words, system.label, choice.text(3), *final, f"{count / 1e6:.1f} M"])
    header = [
        "chosen as", "", "image AUROC where it was chosen", "image AUROC on the other folds",
        "AUPRO there", "parameters",
    ]  # fmt: skip
    return markdown(header, lines)


def teacher_table(rows: pd.DataFrame, families: Sequence[Family]) -> str:
    """The published detector on every teacher of the study, the pair's last.

    All on the fold that chooses, with the seeds that judge.
    """
    lines = []
    for family in [*_further_teachers(rows), *families]:
        of_pair = family in families
        try:
            accuracy = _accuracy(rows, family, of_pair).text()
        except LookupError:
            accuracy = "–"
        cells = _cells(rows, published(family), study="teachers", teacher=family.name)
        lines.append([_label(family, of_pair), accuracy, *cells])
    return markdown(["teacher", "accuracy", *MEASURES], lines)


def against_less_accurate(rows: pd.DataFrame, families: Sequence[Family]) -> str:
    """The ConvNeXt minus the published detector on less accurate teachers.

    One line per such teacher: the difference of accuracy, and that of the image AUROC as swapped in
    and of the best of the ConvNeXt's grid. Empty where no such teacher was run.
    """
    convnext = pair_of(families)[1]
    accuracy = _accuracy(rows, convnext, True).value
    lines = []
    for family in _further_teachers(rows):
        try:
            other = _accuracy(rows, family, False).value
            differences = [
                verdict_row(rows, "auroc_difference", role=role, teacher=family.name).text(3, True)
                for role in ("swap", "convnext")
            ]
        except LookupError:  # pretrained on other pictures, or not run on the judging folds
            continue
        if other < accuracy:
            lines.append([_label(family), f"{accuracy - other:+.2f}", *differences])
    header = ["ConvNeXt minus", "accuracy", "image AUROC, swapped in", "best of its grid"]
    return markdown(header, lines) if lines else ""


def _cells(rows: pd.DataFrame, system: DetectorSystem, **condition: Any) -> list[str]:
    return [
        cell(rows, system, metric, map_name, 3, **condition)
        for metric, map_name, _ in MEASURES.values()
    ]


def _accuracy(rows: pd.DataFrame, family: Family, of_pair: bool) -> Value:
    teacher = {} if of_pair else {"teacher": family.name}
    return verdict_row(rows, "accuracy", f"teacher-{family.backbone}", **teacher)


def _label(family: Family, of_pair: bool = False) -> str:
    return f"{family.backbone}, {'of the pair' if of_pair else family.name.replace('-', ' ')}"


def _further_teachers(rows: pd.DataFrame) -> list[Family]:
    """The teachers beside the pair that have rows, without weights."""
    families = {}
    for system, condition in zip(rows["system"], map(dict, rows["condition"]), strict=True):
        if condition.get("study") == "teachers" and condition["teacher"] not in OF_PAIR:
            backbone = str(system).removeprefix(f"{ReverseDistillation.kind}-")
            name, width = str(condition["teacher"]), float(condition.get("flat_field", 0))
            families[name] = Family(name, backbone, None, width)
    return list(families.values())
