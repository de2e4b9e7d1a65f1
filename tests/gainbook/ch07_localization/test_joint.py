"""Sizes, paired differences and the verdict on doing both together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from gainbook.chapters.ch07_localization.joint import (
    against,
    brief_rows,
    joint_results,
    judge_together,
    pixel_ap_difference,
    size_classes,
    size_differences,
    size_rows,
)
from gainbook.lab import results_file as runs
from gainbook.lab.components import LOCALIZATION_ALONE, PLAIN, TOGETHER
from gainbook.lab.parameters import Parameters
from gainbook.lab.protocol import Pooled
from gainbook.lab.tables import Value, find

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


JOINT = system("joint", [0.9, 0.8, 0.4, 0.9, 0.9, 0.9, 0.45, 0.1], [0.5] * 6)
ALONE = system("alone", [0.2, 0.3, 0.4, 0.9, 0.9, 0.9, 0.45, 0.1], [0.1, 0.3, 0.5, 0.5, 0.5, 0.5])


def one(rows: list[dict], metric: str, size: str | None, map_name: str | None = None) -> dict:
    found = [
        r for r in rows
        if r["metric"] == metric and r["condition"].get("size") == size and r["map"] == map_name
    ]  # fmt: skip
    assert len(found) == 1
    return found[0]


def test_sizes_are_thirds_and_unknown_areas_have_none() -> None:
    area = np.array([0.3, np.nan, 0.1, 0.2])
    assert size_classes(area).tolist() == ["large", "", "small", "medium"]
    assert size_classes(np.array([0.1, 0.1, 0.1])).tolist() == ["small"] * 3
    assert size_classes(np.array([np.nan])).tolist() == [""]


def test_rows_by_size() -> None:
    rows = runs.check_rows(size_rows(ALONE, "set", resamples=50))
    # small: 0.2 and 0.3 against 0.45 and 0.1: each beats one of two
    assert one(rows, "auroc", "small")["value"] == 0.5
    assert one(rows, "recall", "small")["value"] == 0
    assert one(rows, "positive_energy", "small", "defect_map")["value"] == pytest.approx(0.2)
    assert one(rows, "area", "medium")["value"] == 0.04
    assert one(rows, "recall", "large")["n"] == 2


def test_differences_by_size_are_those_of_the_rows() -> None:
    rows = runs.check_rows(size_differences(JOINT, ALONE, "set", resamples=50))
    assert one(rows, "auroc_difference", "small")["value"] == 0.5
    assert one(rows, "positive_energy_difference", "small", "defect_map")["value"] == pytest.approx(
        0.3
    )
    large = one(rows, "auroc_difference", "large")
    assert (large["value"], large["ci_low"], large["ci_high"]) == (0, 0, 0)
    assert large["condition"]["against_k"] == "alone"


def test_pixel_ap_is_compared_on_the_same_images() -> None:
    (found,) = pixel_ap_difference(JOINT, ALONE, "set", resamples=50)
    # above all normal pixels, against below all: 12 of 12 + 16 pixels
    assert found["value"] == pytest.approx(1 - 12 / 28)
    assert found["ci_low"] <= found["value"] <= found["ci_high"]
    other = JOINT._replace(scores=JOINT.scores._replace(images=JOINT.scores.images[::-1]))
    with pytest.raises(ValueError, match="same images"):
        pixel_ap_difference(other, ALONE, "set")


def test_brief_rows_hold_the_whole() -> None:
    rows = runs.check_rows(brief_rows(JOINT, "synthetic", resamples=50))
    assert one(rows, "recall", None)["value"] == pytest.approx(5 / 6)
    assert one(rows, "false_activation", None, "defect_map")["value"] == pytest.approx(0.1)
    assert one(rows, "pixel_ap", None, "defect_map")["value"] == 1


def test_a_difference_names_what_is_subtracted() -> None:
    found = against(LOCALIZATION_ALONE, verdict_by_map=True)
    assert found == {
        "against": "localization",
        "against_output_stride": 4,
        "against_verdict": "map",
    }
    assert "against_verdict" not in against(TOGETHER)


@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [
        ((0.1, 0.3), (0.1, 0.3), "confirmed"),
        ((0.1, 0.3), (-0.1, 0.3), "refined"),
        ((-0.1, 0.3), (-0.1, 0.3), "out of reach here"),
        ((0.1, 0.3), (-0.3, -0.1), "refuted"),
        ((-0.1, 0.3), (-0.3, -0.1), "refuted"),
    ],
)
def test_the_verdict_follows_the_criterion(
    first: tuple[float, float], second: tuple[float, float], verdict: str
) -> None:
    values = [Value(sum(ends) / 2, *ends, 10) for ends in (first, second)]
    assert judge_together(*values).verdict == verdict


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
    found = joint_results(p)
    assert found.rows is not None
    assert runs.check_rows(found.rows.to_dict("records"))
    alone = found.rows[found.rows["system"] == "localization"]
    assert len(alone)
    assert all(condition.get("verdict") == "map" for condition in alone["condition"])
    assert "cam" not in set(alone.loc[alone["metric"] == "pixel_ap", "map"])
    verdict = against(LOCALIZATION_ALONE, verdict_by_map=True)
    assert find(found.rows, TOGETHER, "auroc_difference", **verdict).n
    assert find(found.rows, TOGETHER, "pixel_ap_difference", "defect_map", **verdict).n
    assert find(found.rows, PLAIN, "recall", size="small").n
