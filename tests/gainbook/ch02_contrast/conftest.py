"""Result rows of two data sets with known figures, and a bench without images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from gainbook.chapters.ch02_contrast.crossing import ARMS, BANK, DISTILLATION, HYBRID, PROBE
from gainbook.chapters.ch02_contrast.draws import BOARDS, TILES, LabelDraw
from gainbook.chapters.ch02_contrast.features import FrozenFeatures
from gainbook.chapters.ch02_contrast.frozen import CONTAMINATION, SIZES, Bench
from gainbook.lab.results_file import ROW_RULES, row

from gainmtl.evaluation.stats import student_interval
from gainmtl.types import NORMAL

COUNTS = (1, 2, 5, 10, 25, 40)
DRAWS = range(3)


def figure_rows(
    dataset: str, system: str, metric: str, mean: float, **condition: Any
) -> list[dict[str, Any]]:
    """Three draws around a mean, and the pooled row."""
    values = [mean - 0.01, mean, mean + 0.01]
    about: dict[str, Any] = {"condition": condition}
    rows = [
        row(dataset, system, metric, value, seed=seed, fold=0, **about)
        for seed, value in zip(DRAWS, values, strict=True)
    ]
    found = student_interval(values)
    return [*rows, row(dataset, system, metric, found.value, **about, **found.ends)]


def contrast_rows(dataset: str, new: float = 0.3) -> pd.DataFrame:
    """The bank is at 0.5 throughout; the probe rises from 0.2 by 0.1 and is at `new` on new types.

    So the probe crosses the bank at its fourth number, 10.
    """
    rows: list[dict[str, Any]] = []
    for arm in ARMS:
        for place, count in enumerate((0, *COUNTS)):
            if arm == PROBE and not count:
                continue
            level = {PROBE: 0.1 + 0.1 * place, HYBRID: 0.6}.get(arm, 0.5)
            for metric in ("recall", "auroc", "recall_at_fpr05"):
                rows += figure_rows(dataset, arm.tag, metric, level, defects=count)
            rows += figure_rows(dataset, arm.tag, "false_alarms", 0.05, defects=count)
            for types in ("seen", "unseen") if count else ():
                value = new if arm == PROBE and types == "unseen" else level
                about: dict[str, Any] = {"defects": count, "types": types}
                left_out = {**about, "left_out": "MT_Crack"}
                for given in (about, left_out) if count == 25 else (about,):
                    for metric in ("recall", "recall_at_fpr05"):
                        rows += figure_rows(dataset, arm.tag, metric, value, **given)
        if arm == DISTILLATION:
            continue
        for metric in ("auroc", "recall", "false_alarms"):
            for part in (0.0, *CONTAMINATION):
                about = {"contamination": part, "defects": 25}
                rows += figure_rows(dataset, arm.tag, metric, 0.5 - part, **about)
            for look in ("same", "other"):
                rows += figure_rows(dataset, arm.tag, metric, 0.5, look=look, defects=25)
        for side in (128, 256, 512) if arm in (PROBE, BANK) else ():
            for size, share in zip(SIZES, (0.05, 0.1, 0.2), strict=True):
                about = {"side": side, "size": size}
                level = 0.9 if side == 512 else 0.3
                for metric in ("recall", "recall_at_fpr05"):
                    rows += figure_rows(dataset, arm.tag, metric, level, **about)
                rows += figure_rows(dataset, arm.tag, "pixels", share * side, **about)
    return pd.DataFrame(rows, columns=list(ROW_RULES))


@pytest.fixture
def rows() -> dict[str, pd.DataFrame]:
    """Of both sets."""
    return {BOARDS: contrast_rows(BOARDS), TILES: contrast_rows(TILES)}


class _Named:
    """A dataset's names."""

    def __init__(self, count: int) -> None:
        self.names = tuple(f"{i}.png" for i in range(count))

    def __len__(self) -> int:
        return len(self.names)


@pytest.fixture
def bench() -> Bench:
    """Ten normal training and ten validation images, six defective parts of three types, a test.

    A type moves a feature of its own; the detector's score is the largest feature.
    """
    rng = np.random.default_rng(0)
    types = np.array([NORMAL] * 20 + ["a", "b", "c"] * 4 + [NORMAL] * 10 + ["a", "b", "c"] * 3,
                     dtype=object)  # fmt: skip
    x = rng.normal(0, 0.1, (len(types), 3)).astype(np.float32)
    for place, kind in enumerate("abc"):
        x[types == kind, place] += 5
    parts = tuple(np.array([20 + 2 * k, 21 + 2 * k]) for k in range(6))
    draw = LabelDraw(
        _Named(len(types)), types, np.array(["old"] * 45 + ["other"] * 6, dtype=object),
        np.arange(10), np.arange(10, 20), parts, np.arange(32, 51), None,  # type: ignore[arg-type]
    )  # fmt: skip
    features = FrozenFeatures(x, np.where(types == NORMAL, 0, 0.01 * np.arange(1, len(x) + 1)))
    return Bench(draw, features, lambda tag, wrong: x.max(1).astype(np.float64))
