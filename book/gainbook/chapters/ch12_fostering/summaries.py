"""The tables of chapter 12: figures by system, the project's targets, and the paper's figures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import pandas as pd

from gainbook.chapters.ch12_fostering import criteria
from gainbook.chapters.ch12_fostering.claims import SIZES
from gainbook.lab.study import Measured, Pair
from gainbook.lab.systems import System
from gainbook.lab.tables import Value, find_or_nan, markdown

_VERDICT = {"zero": "verdict"}
VERDICT: dict[str, Measured] = {
    "AUROC": ("auroc", None, {}),
    "calibration error": ("ece", None, {}),
}
SHAPES: dict[str, Measured] = {
    "ce, nats": ("cam_entropy", "cam", _VERDICT),
    "ca": ("cam_elliptic_area", "cam", _VERDICT),
    "cd": ("cam_dispersion", "cam", _VERDICT),
    "vanished": ("cam_vanished", "cam", _VERDICT),
}
QUALITY: dict[str, Measured] = {
    "positive energy": ("positive_energy", "cam", _VERDICT),
    "PointGame": ("point_game", "cam", {}),
    "pixel AP of an image": ("pixel_precision", "cam", {}),
    "deletion": ("deletion_auc", "cam", {}),
    "insertion": ("insertion_auc", "cam", {}),
    "ROAD": ("road", "cam", {}),
}
DRAWN: dict[str, Measured] = {
    title: figure
    for title, figure in (VERDICT | SHAPES | QUALITY).items()
    if title not in ("calibration error", "vanished", "pixel AP of an image", "deletion")
}
"""The panels of the figures over the weight."""
EXTRA: dict[str, Measured] = {
    **VERDICT,
    **SHAPES,
    "left out": ("fostering_vanished", None, {}),
    **{title: QUALITY[title] for title in ("positive energy", "PointGame", "ROAD")},
    "right type": ("type_accuracy", None, {}),
    "macro F1": ("macro_f1", None, {}),
}
"""The columns of the table of further systems."""
PAIRED: dict[str, Measured] = {
    "AUROC": ("auroc", None, {}),
    "right type": ("type_accuracy", None, {}),
    "positive energy": ("positive_energy", "cam", _VERDICT),
    "PointGame": ("point_game", "cam", {}),
    "pixel AP": ("pixel_ap", "cam", {}),
}
"""The columns of the table of pairs."""


def figure_cell(value: Value, signed: bool = False) -> str:
    """A figure of a table: two digits, or three for a small one; a dash where it is undefined."""
    if math.isnan(value.value):
        return "–"
    return value.text(3 if abs(value.value) < 0.1 else 2, signed)


def figure_table(
    rows: pd.DataFrame | None,
    systems: Iterable[System],
    columns: Mapping[str, Measured],
    first: str = "system",
) -> str:
    """One line per system, one column per figure."""
    lines = [
        [s.label, *(figure_cell(find_or_nan(rows, s, metric, of, **about))
                    for metric, of, about in columns.values())]
        for s in systems
    ]  # fmt: skip
    return markdown([first, *columns], lines)


def difference_table(rows: pd.DataFrame, pairs: Iterable[Pair]) -> str:
    """One line per pair, first minus second, with the figures of `PAIRED`."""
    lines = []
    for a, b in pairs:
        values = [
            find_or_nan(rows, a, f"{metric}_difference", of, **b.as_other, **about)
            for metric, of, about in PAIRED.values()
        ]
        lines.append([a.label, b.label, *(figure_cell(value, True) for value in values)])
    return markdown(["system", "minus", *PAIRED], lines)


def size_ratios(rows: pd.DataFrame, system: System, other: System) -> list[Value]:
    """Elliptic area, dispersion and relative difference of a system over another's."""
    about = {**other.as_other, **_VERDICT}
    return [find_or_nan(rows, system, f"{shape}_ratio", "cam", **about) for shape in SIZES]


def target_table(rows: pd.DataFrame, system: System, other: System) -> str:
    """The project's targets for a system against another; see `criteria.targets`."""

    def gap(metric: str, of: str | None = "cam", **about: str) -> Value:
        return find_or_nan(rows, system, f"{metric}_difference", of, **other.as_other, **about)

    area, dispersion, _ = size_ratios(rows, system, other)
    energy = gap("positive_energy", **_VERDICT)
    aims = criteria.targets(area, dispersion, gap("auroc", None), energy, gap("pixel_ap"))
    lines = [[name, v.text(3), "met" if met else "missed"] for name, (v, met) in aims.items()]
    return markdown(["target", "measured", ""], lines)


def paper_table(rows: pd.DataFrame, system: System, other: System, time: float) -> str:
    """The paper's ratios beside those of a system over another.

    Args:
        time: of a training step of the analytic route, over one without fostering.
    """
    area, dispersion, relative = size_ratios(rows, system, other)
    lines = [
        ["elliptic area, ratio", f"{criteria.AREA_CLAIMED:.2f}", area.text()],
        ["dispersion, ratio", f"{criteria.DISPERSION_CLAIMED:.2f}", dispersion.text()],
        ["relative difference, ratio", f"{criteria.DIFFERENCE_CLAIMED:.2f}", relative.text()],
        ["time, ratio", "1.83, an epoch", f"{time:.2f}, a step of the live part"],
    ]
    header = ["", "paper: photographs, ResNet50, β = 100 by its scale", f"tiles, {system.label}"]
    return markdown(header, lines)
