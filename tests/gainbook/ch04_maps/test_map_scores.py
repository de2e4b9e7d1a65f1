"""Explanation methods scored on synthetic parts: columns, rows and controls."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from gainbook.chapters.ch04_maps import map_scores
from gainbook.chapters.ch04_maps.map_scores import (
    CONTROLS,
    FAITHFULNESS,
    control_maps,
    map_rows,
    score_maps,
)
from gainbook.lab import results_file as runs
from gainbook.lab.parameters import Parameters
from gainbook.lab.reference import System
from gainbook.lab.tables import find
from torch.utils.data import Subset

from gainmtl import datasets, metrics, save
from gainmtl.evaluation.scoring import MAP_MEASURES, score
from gainmtl.explanation.methods import explain
from gainmtl.model import GAINMTL
from gainmtl.types import collate

SYSTEM = System("small", "S1", 8, "S1, stride 8")


@pytest.fixture(scope="module")
def scored() -> tuple[GAINMTL, datasets.Data, pd.DataFrame]:
    torch.manual_seed(0)
    data = datasets.load("synthetic", image_size=64, seed=0, train=4, val=4, test=16)
    model = GAINMTL("test_efficientnet", "S1", output_stride=8, width=8)
    model.threshold = 0.0  # everything is flagged
    table = score_maps(model, data.test, ("cam", "grad_cam"), faithful=3, batch_size=4, steps=3)
    return model, data, table


def test_one_row_per_defective_image(
    scored: tuple[GAINMTL, datasets.Data, pd.DataFrame],
) -> None:
    _, data, table = scored
    bad = {n for n, label in zip(data.test.names, data.test.labels, strict=True) if label}
    assert set(table["name"]) == bad
    wanted = {f"{m}.{k}" for m in ("cam", "grad_cam", *CONTROLS) for k in MAP_MEASURES}
    wanted |= {f"{m}.{k}" for m in ("cam", "grad_cam", *CONTROLS) for k in FAITHFULNESS}
    wanted |= {"cam~grad_cam.rank_correlation"}
    assert set(table.columns) == wanted | {"name", "group", "defect_type", "is_flagged"}
    assert table["cam.road"].notna().sum() == 3
    assert table["cam.iou"].notna().all()


def test_figures_agree_with_the_models_own_evaluation(
    scored: tuple[GAINMTL, datasets.Data, pd.DataFrame],
) -> None:
    model, data, table = scored
    own = score(model, data.test, interventions=False).images.set_index("name")
    for source, column in (("cam", "cam"), ("oracle", "oracle")):
        for measure in MAP_MEASURES:
            expected = own.loc[table["name"], f"{column}.{measure}"].to_numpy(float)
            found = table[f"{source}.{measure}"].to_numpy(float)
            np.testing.assert_allclose(found, expected, atol=1e-5)


def test_grad_cam_agrees_with_cam_and_scores_like_its_positive_part(
    scored: tuple[GAINMTL, datasets.Data, pd.DataFrame],
) -> None:
    model, data, table = scored
    assert table["cam~grad_cam.rank_correlation"].min() > 0.9999
    places = [list(data.test.names).index(name) for name in table["name"]]
    batch = collate([data.test[i] for i in places])
    model.eval()
    positive = explain(model, model.preprocess(batch.image)).map
    model.train()
    expected = metrics.positive_energy(positive, batch.mask)
    np.testing.assert_allclose(table["grad_cam.positive_energy"], expected, atol=1e-5)


def test_the_model_keeps_its_mode_and_masks_reach_the_oracle_alone(
    scored: tuple[GAINMTL, datasets.Data, pd.DataFrame],
) -> None:
    assert scored[0].training
    masks = torch.zeros(2, 1, 8, 8)
    masks[0, 0, :4, :4] = 1
    first, second = control_maps(masks, (2, 2)), control_maps(masks.flip(0), (2, 2))
    assert list(first) == list(CONTROLS)
    assert not torch.equal(first["oracle"], second["oracle"])
    assert all(torch.equal(first[n], second[n]) for n in CONTROLS if n != "oracle")


def test_rows_have_means_intervals_and_types(
    scored: tuple[GAINMTL, datasets.Data, pd.DataFrame],
) -> None:
    table = scored[2]
    rows = map_rows(table, "synthetic", SYSTEM, resamples=50)
    runs.check_rows(rows)
    found = find(pd.DataFrame(rows), SYSTEM, "iou", "cam", method="grad_cam")
    assert found.value == pytest.approx(table["grad_cam.iou"].mean())
    assert found.low <= found.value <= found.high
    alike = {"method": "cam", "with": "grad_cam"}
    assert find(pd.DataFrame(rows), SYSTEM, "rank_correlation", "cam", **alike).value > 0.99
    typed = {"method": "cam", "defect_type": "mean over types"}
    means = table.groupby("defect_type")["cam.iou"].mean()
    value = find(pd.DataFrame(rows), SYSTEM, "iou", "cam", **typed).value
    assert value == pytest.approx(means.mean())
    by_fold = map_rows(table, "synthetic", SYSTEM, seed=0, fold=2, resamples=0)
    assert {row["fold"] for row in by_fold} == {2}
    assert {row["ci_low"] for row in by_fold} == {None}


def test_what_nobody_asked_has_no_row() -> None:
    table = pd.DataFrame(
        {"name": ["a"], "group": ["a"], "defect_type": ["crack"], "is_flagged": [False]}
        | {"cam.iou": [0.5], "cam.road": [math.nan]}
    )
    rows = map_rows(table, "synthetic", SYSTEM, resamples=0)
    assert [row["metric"] for row in rows] == ["iou"]


def test_normal_parts_alone_have_nothing_to_score() -> None:
    data = datasets.load("synthetic", image_size=64, seed=0, train=4, val=4, test=4)
    data.test.labels[:] = False
    with pytest.raises(ValueError, match="defective images with a mask, found none"):
        score_maps(GAINMTL("test_efficientnet", "S1"), data.test)


def test_folds_are_scored_apart_and_together(
    scored: tuple[GAINMTL, datasets.Data, pd.DataFrame],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each fold's stored model on its own test fold, and one interval over all of them."""
    model, data, table = scored
    save(model, tmp_path / "model.safetensors")
    given = SimpleNamespace(model_paths=(tmp_path / "model.safetensors",) * 2)
    half = np.flatnonzero(data.test.labels)[:4]

    def load_fold(parameters: Any, seed: int) -> Any:
        def load(fold: int) -> Any:
            part = Subset(data.test, half[2 * fold : 2 * fold + 2].tolist())
            part.labels = part.has_mask = np.ones(2, dtype=bool)  # type: ignore[attr-defined]
            return SimpleNamespace(test=part)

        return load

    monkeypatch.setattr(map_scores, "run", lambda parameters, system: [given])
    monkeypatch.setattr(map_scores, "load_fold", load_fold)
    parameters = Parameters(
        notebook="none", dataset="set", seeds=(3,), folds=2, backbone="b", image_size=64, epochs=1
    )
    found = map_scores.map_results(parameters, SYSTEM, methods=("cam",))
    assert found.rows is not None
    assert "the run in front of you" in found.note
    iou = found.rows[found.rows["metric"] == "iou"]
    iou = iou[iou["condition"].map(lambda c: c == {**SYSTEM.condition, "method": "cam"})]
    assert set(zip(iou["seed"].fillna(-1), iou["fold"].fillna(-1), strict=True)) == {
        (3, 0), (3, 1), (-1, -1)
    }  # fmt: skip
    names = [data.test.names[i] for i in half]
    expected = table.set_index("name").loc[names, "cam.iou"].mean()
    assert iou[iou["fold"].isna()]["value"].item() == pytest.approx(expected, abs=1e-6)
    runs.check_rows(found.rows.to_dict("records"))


def test_without_a_data_set_the_stored_results_are_read() -> None:
    found = map_scores.map_results(Parameters(notebook="none", dataset="synthetic"), SYSTEM)
    assert found.rows is None
    assert "no reference results yet" in found.note
