"""Rows by size and the three systems of the chapter, by the reference protocol."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from gainbook.chapters.ch07_localization import study
from gainbook.chapters.ch07_localization.by_size import size_classes, size_differences, size_rows
from gainbook.lab import results_file as runs
from gainbook.lab.catalogue import PLAIN, TOGETHER
from gainbook.lab.parameters import Parameters
from gainbook.lab.protocol import Pooled
from gainbook.lab.study import results
from gainbook.lab.systems import System
from gainbook.lab.tables import find

from gainmtl import metrics
from gainmtl.evaluation.scoring import Scores


def system(name: str, probability: list[float], energy: list[float]) -> Pooled:
    """Six defective parts of growing area, then two normal ones."""
    bad = [True] * 6 + [False] * 2
    images = pd.DataFrame(
        {
            "name": [f"n{i}" for i in range(8)],
            "group": [f"g{i}" for i in range(8)],
            "defect_type": ["crack"] * 6 + ["normal"] * 2,
            "is_defective": bad,
            "has_mask": True,
            "defect_probability": probability,
            "is_flagged": [p > 0.5 for p in probability],
            "area": [0.01, 0.02, 0.03, 0.04, 0.05, 0.06, np.nan, np.nan],
            "defect_map.false_activation": [np.nan] * 6 + [0.0, 0.2],
        }
    )
    for measure in ("iou", "point_game", "positive_energy"):
        images[f"defect_map.{measure}"] = [*energy, np.nan, np.nan]
    counts = np.zeros((8, 4), np.int32)
    right, wrong = counts.copy(), counts.copy()
    right[:6, 3 if name == "joint" else 1] = 2
    wrong[:, 2] = 2
    histograms = {"defect_map": metrics.PixelHistogram(right, wrong, 0.0, 1.0)}
    scores = Scores(images, histograms)
    return Pooled(name, {"k": name}, [scores], scores, pd.DataFrame(), (), 1.0, ())


FIRST, SECOND = (System(name, name, 4, name, options=(("k", name),)) for name in ("S5", "S1"))
JOINT = system("joint", [0.9, 0.8, 0.4, 0.9, 0.9, 0.9, 0.45, 0.1], [0.5] * 6)
ALONE = system("alone", [0.2, 0.3, 0.4, 0.9, 0.9, 0.9, 0.45, 0.1], [0.1, 0.3, 0.5, 0.5, 0.5, 0.5])


def one(
    rows: list[dict[str, Any]], metric: str, size: str, map_name: str | None = None
) -> dict[str, Any]:
    (row,) = (
        r for r in rows
        if r["metric"] == metric and r["condition"].get("size") == size and r["map"] == map_name
    )  # fmt: skip
    return row


def test_sizes_are_thirds_and_unknown_areas_have_none() -> None:
    area = np.array([0.3, np.nan, 0.1, 0.2])
    assert size_classes(area).tolist() == ["large", "", "small", "medium"]
    assert size_classes(np.array([0.1, 0.1, 0.1])).tolist() == ["small"] * 3
    assert size_classes(np.array([np.nan])).tolist() == [""]


def test_rows_by_size() -> None:
    rows = runs.check_rows(size_rows(ALONE, "set", SECOND, resamples=50))
    # small: 0.2 and 0.3 against 0.45 and 0.1: each beats one of two
    assert one(rows, "auroc", "small")["value"] == 0.5
    assert one(rows, "recall", "small")["value"] == 0
    assert one(rows, "positive_energy", "small", "defect_map")["value"] == pytest.approx(0.2)
    assert one(rows, "area", "medium")["value"] == 0.04
    assert one(rows, "recall", "large")["n"] == 2


def test_differences_by_size_are_those_of_the_rows() -> None:
    rows = runs.check_rows(size_differences(JOINT, ALONE, "set", FIRST, SECOND, resamples=50))
    assert one(rows, "auroc_difference", "small")["value"] == 0.5
    assert one(rows, "positive_energy_difference", "small", "defect_map")["value"] == pytest.approx(
        0.3
    )
    large = one(rows, "auroc_difference", "large")
    assert (large["value"], large["ci_low"], large["ci_high"]) == (0, 0, 0)
    assert large["condition"]["against_k"] == "S1"


@pytest.mark.slow
def test_the_three_systems_are_compared_by_the_reference_protocol(
    tmp_path: Path, folder_of_parts: Callable[[Path], Path]
) -> None:
    p = Parameters(
        notebook="07_localization", dataset="folder", data_root=str(folder_of_parts(tmp_path)),
        image_size=32, backbone="test_efficientnet", weights=None, epochs=1, batch_size=16,
        learning_rate=1e-3, folds=2, seeds=(0,), accelerator="cpu", devices=1, precision="32-true",
        output_dir=str(tmp_path / "out"),
    )  # fmt: skip
    found = results(study.STUDY, p, resamples=50)
    assert found.rows is not None
    assert runs.check_rows(found.rows.to_dict("records"))
    alone = found.rows[found.rows["system"] == "localization"]
    assert len(alone)
    assert all(condition.get("verdict") == "map" for condition in alone["condition"])
    assert "cam" not in set(alone.loc[alone["metric"] == "pixel_ap", "map"])
    verdict = study.ALONE.as_other
    assert verdict["against_verdict"] == "map"
    assert find(found.rows, TOGETHER, "auroc_difference", **verdict).n
    assert find(found.rows, TOGETHER, "pixel_ap_difference", "defect_map", **verdict).n
    assert find(found.rows, PLAIN, "recall", size="small").n
