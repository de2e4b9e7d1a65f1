"""The explorer's systems and parts, and what is counted over its test parts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gainbook.chapters.ch16_explorer.changes import (
    AS_IT_IS,
    ELSEWHERE,
    ERASED,
    FOLLOWS,
    MOVED,
    Changed,
    Part,
    parts_of,
    stay_table,
)
from gainbook.chapters.ch16_explorer.networks import BlankPart, Judge
from gainbook.chapters.ch16_explorer.study import SYSTEMS
from gainbook.lab.live import live_data, train_live
from gainbook.lab.parameters import Parameters, Rule, refuse_together
from gainbook.lab.results_file import row
from gainbook.lab.tables import Value, markdown
from gainmtl import export
from gainmtl.datasets import load
from gainmtl.datasets.loading import NAMES
from gainmtl.evaluation.stats import bootstrap_interval
from gainmtl.interface import DefectModel, check_model
from gainmtl.io import load as load_model
from gainmtl.types import NORMAL

RULES: dict[str, Any] = {
    "live_images": (int, 16, 100_000),
    "checkpoints": Rule(str, optional=True, many=True),
}
"""The parameters that only this notebook has."""
MOST = 60
"""Defective test parts that are changed and counted, the first ones."""
FEWEST = 10
"""Finds from which the page judges a system: where all of fewer agree, an interval by resampling
has no width."""

Stays = Mapping[str, pd.DataFrame]
"""`stay_table` by system."""


def given(p: Parameters) -> list[str]:
    """The checkpoints, empty without any."""
    return [path for path in p.checkpoints or () if path is not None]


def check(p: Parameters) -> None:
    """Raise one `ValueError` for parameters that are valid by themselves but not together."""
    problems = []
    if p.dataset == "synthetic" and given(p):
        problems.append("checkpoints: given, but the parts are synthetic; add your dataset")
    if p.dataset != "synthetic" and not given(p):
        problems.append(
            f"checkpoints: expected trained models for {p.dataset!r}, found none; add those that "
            'chapter 15 saved, -y "checkpoints: [runs/first/model.safetensors]"'
        )
    if p.dataset not in NAMES:
        problems.append(f"dataset: expected one of {', '.join(NAMES)}, got {p.dataset!r}")
    refuse_together(p, problems)


def systems_and_test(p: Parameters) -> tuple[dict[str, Any], Any]:
    """Trained systems by name, and the test set: of the live part, or of one's own models.

    Raises:
        TypeError: an anomaly detector.
        ValueError: models that were trained on images of other sizes or another resizing.
    """
    if p.dataset == "synthetic":
        data = live_data(p, p.live_images)
        return {s.label: train_live(s, data, p).model for s in SYSTEMS}, data.test
    models: dict[str, Any] = {}
    for path in given(p):
        model: Any = load_model(path).eval()
        check_model("checkpoints", model, (DefectModel,), "this page shows no anomaly detector")
        name = f"{model.strategy.name}, {Path(path).parent.name}"
        models[name if name not in models else f"{name} ({len(models) + 1})"] = model
    read = {(model.image_size, model.resize) for model in models.values()}
    if len(read) > 1:
        raise ValueError(
            f"checkpoints: expected models of one image size and resizing, found {sorted(read)}; "
            "compare those in separate runs"
        )
    ((size, resize),) = read
    test = load(p.dataset, p.data_root, image_size=size, resize=resize, seed=p.seeds[0]).test
    return models, test


def exported(models: Mapping[str, Any], folder: str | Path) -> list[Judge]:
    """One's own models as ONNX files in a folder, for a page in which they run.

    Raises:
        ImportError: onnx, onnxscript or onnxruntime is not installed.
    """
    return [
        Judge(name, name, "your own", export(model, Path(folder) / f"network{number}.onnx"))
        for number, (name, model) in enumerate(models.items(), 1)
    ]


def blank(parts: Sequence[Part]) -> list[BlankPart]:
    """Parts to paint on, and those without their defect, where it could be erased."""

    def pixels(one: Changed) -> NDArray[np.uint8]:
        return (one.image * 255).round().byte().numpy()

    return [
        BlankPart(
            part.name,
            pixels(part.changes[AS_IT_IS]),
            pixels(part.changes[ERASED]) if ERASED in part.changes else None,
        )
        for part in parts
    ]


def stays_of(models: Mapping[str, Any], test: Any) -> Stays:
    """`stay_table` of every system over the first `MOST` defective test parts."""
    rows = np.flatnonzero(np.array(test.defect_types) != NORMAL)[:MOST].tolist()
    parts = parts_of(test, rows)
    return {name: stay_table(model, parts) for name, model in models.items()}


def share(table: pd.DataFrame, change: str, minus: str | None = None) -> Value:
    """The share of finds that stay defective, or its paired difference from another change.

    With its 95 % bootstrap interval over groups; NaN without a find.
    """
    if not {change, minus or change} <= set(table):
        return Value(math.nan)
    values = table[change] - (0 if minus is None else table[minus])
    known = values.notna()
    found = bootstrap_interval(np.mean, table["group"][known], values[known])
    return Value(found.value, found.low, found.high, found.n)


def answer(stays: Stays) -> list[str]:
    """The first sentences, with figures."""
    return [
        f"- **{system}** finds {len(table)} of the defective parts. Still defective with the "
        f"defect erased: {share(table, ERASED)}; with the defect moved: {share(table, MOVED)}, and "
        f"then the map's peak is on the moved defect in {share(table, FOLLOWS)}."
        for system, table in stays.items()
    ]


def summary(stays: Stays) -> str:
    """A line per change, a column per system."""
    changes = dict.fromkeys(name for table in stays.values() for name in table.columns[2:])
    lines = [[change, *(str(share(one, change)) for one in stays.values())] for change in changes]
    return markdown(["still defective", *stays], lines)


def noticed(stays: Stays) -> str:
    """What the table shows, as sentences."""
    lines = []
    for system, table in stays.items():
        gap = share(table, ERASED, ELSEWHERE)
        if math.isnan(gap.value):
            lines.append(f"{system} finds no defect that could be changed.")
            continue
        if gap.n is None or gap.n < FEWEST:
            lines.append(f"{system} finds {gap.n} defects, too few to judge; {FEWEST} are needed.")
            continue
        words = "rest on the defect" if gap.high < 0 else "are not shown to rest on the defect"
        lines.append(
            f"{system}: erasing the defect minus erasing as much elsewhere, on the same parts, is "
            f"{gap.text(2, True)}: its verdicts {words}."
        )
    return (
        f"What to notice: {' '.join(lines)} The brackets are 95 % bootstrap intervals over parts, "
        "of one training."
    )


def rows(stays: Stays, dataset: str) -> list[dict[str, Any]]:
    """Result rows."""
    found = []
    for system, table in stays.items():
        for change in table.columns[1:]:
            value = share(table, change)
            found.append(
                row(dataset, system, "still_defective", value.value, ci_low=value.low,
                    ci_high=value.high, condition={"change": change, "live": True}, n=value.n)
            )  # fmt: skip
    return found
