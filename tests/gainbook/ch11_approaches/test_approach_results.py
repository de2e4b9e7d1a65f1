"""What the six cost and need, counted; and the whole chapter's measures on a small run."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from gainbook.chapters.ch11_approaches import approach_results
from gainbook.chapters.ch11_approaches.approach_results import approach_results as measure
from gainbook.chapters.ch11_approaches.approach_results import (
    calibration_rows,
    cost_rows,
    count_labels,
    recalibrated,
)
from gainbook.chapters.ch11_approaches.approaches import CLASSIFIER, DETECTION, SEGMENTATION, SIX
from gainbook.lab.cost import operations, used_parameters
from gainbook.lab.parameters import Parameters
from gainbook.lab.results_file import check_rows
from gainbook.lab.tables import find

from gainmtl.evaluation.scoring import Scores
from gainmtl.types import Sample

SMALL_UNET = SEGMENTATION._replace(options=(("decoder", (8, 8, 8, 8, 8)),))
SMALL_DETECTOR = DETECTION._replace(options=(("width", 32), ("convolutions", 1)))


def test_parameters_and_operations_by_hand() -> None:
    used, unused = torch.nn.Linear(3, 4), torch.nn.Linear(5, 5)
    both = torch.nn.ModuleDict({"used": used, "unused": unused})
    step = lambda: used(torch.zeros(2, 3))  # noqa: E731
    assert used_parameters(both, step) == 3 * 4 + 4
    assert not used._forward_pre_hooks
    assert operations(step) == 2 * 2 * 3 * 4


def test_labels_by_hand() -> None:
    class Two:
        labels = np.array([True, False, True])
        has_mask = np.array([True, True, False])

        def __getitem__(self, index: int) -> Sample:
            mask = torch.zeros(1, 12, 12)
            mask[0, 2:6, 2:6] = 1  # 4 x 4: 12 pixels on its border
            mask[0, 8, 8] = 1  # and one
            return Sample(torch.zeros(3, 12, 12), True, mask, True, "x", "g", "n")

    found = count_labels(Two())  # type: ignore[arg-type]
    assert found == (3, 2, 2, 13.0)


def test_costs_have_an_order() -> None:
    rows = cost_rows((CLASSIFIER, SMALL_UNET, SMALL_DETECTOR), "test_efficientnet", 64, "d", 2)
    check_rows(rows)
    table = pd.DataFrame(rows)
    extra = {"backbone": "test_efficientnet", "image_size": 64}
    for system in (CLASSIFIER, SMALL_UNET, SMALL_DETECTOR):
        for metric in ("parameters", "gigaflops", "milliseconds", "training_milliseconds"):
            assert find(table, system, metric, **extra).value > 0


def test_recalibration_takes_nothing_from_test() -> None:
    def fold(start: int) -> Scores:
        images = pd.DataFrame(
            {
                "name": [f"{start + i}" for i in range(4)],
                "group": [f"{start + i}" for i in range(4)],
                "is_defective": [True, True, False, False],
                "defect_probability": [0.6, 0.9, 0.4, 0.1],
            }
        )
        return Scores(images, {})

    pooled: Any = SimpleNamespace(folds=[fold(0), fold(4)])
    validation = {
        0: (np.array([0.2, 0.2, 0.3, 0.3]), np.array([0, 0, 1, 1], bool)),
        1: (np.array([0.2, 0.3]), np.array([1, 1], bool)),
    }
    found = recalibrated(pooled, validation)
    assert len(found) == 8
    # 0.2 is 1/4 and 0.3 is 3/4 on the first fold's validation part, so 0.4 is surer still.
    assert found["recalibrated"][2] > 0.75
    # The second fold's validation part has one class: as it is.
    assert found["recalibrated"][4:].tolist() == pytest.approx([0.6, 0.9, 0.4, 0.1])
    (row,) = calibration_rows(found, "d", CLASSIFIER, resamples=20)
    assert row["metric"] == "ece_platt"
    assert 0 <= row["value"] <= 1


@pytest.mark.slow
def test_the_whole_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All six on two folds of a few parts: every row valid, none twice."""
    from gainmtl import datasets

    def few(parameters: Parameters, seed: int) -> Any:
        return lambda fold: datasets.load(
            "synthetic", image_size=32, train=16, val=8, test=8, seed=fold
        )

    monkeypatch.setattr(approach_results, "load_fold", few)
    monkeypatch.setattr("gainbook.lab.reference.load_fold", few)
    given = {
        "notebook": "none", "dataset": "folder", "data_root": None, "image_size": 32,
        "backbone": "test_efficientnet", "weights": None, "epochs": 1, "batch_size": 8,
        "learning_rate": 1e-3, "folds": 1, "seeds": (0,), "accelerator": "cpu", "devices": 1,
        "precision": "32-true", "output_dir": str(tmp_path),
    }  # fmt: skip
    systems = [{"U-Net": SMALL_UNET, "FCOS": SMALL_DETECTOR}.get(s.tag, s) for s in SIX]
    found = measure(Parameters(**given), systems, [systems[0], systems[-1]], road=1)
    assert found.rows is not None
    rows = check_rows(found.rows.to_dict("records"))
    assert {row["system"] for row in rows} == {s.name for s in SIX} | {"all"}
    assert {"ece_platt", "parameters", "seconds", "labels"} <= {row["metric"] for row in rows}

    def no_asking(path: Path) -> None:
        raise AssertionError(f"{path} has been asked")

    monkeypatch.setattr(approach_results, "load_any", no_asking)
    again = measure(Parameters(**given), systems, [systems[0], systems[-1]], road=1)
    assert again.rows is not None
    platt = [table[table["metric"] == "ece_platt"]["value"] for table in (found.rows, again.rows)]
    assert platt[0].equals(platt[1])


def test_a_fold_keeps_no_single_types_and_no_oracle() -> None:
    conditions = [{}, {"defect_type": "a"}, {"oracle": True}, {"defect_type": "a", "oracle": True}]
    rows = pd.DataFrame([{"fold": k, "condition": c} for k in (None, 0.0) for c in conditions])
    kept = approach_results._kept(rows)
    assert kept.index.tolist() == [0, 1, 2, 4]
