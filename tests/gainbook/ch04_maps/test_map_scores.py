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
from gainbook.chapters.ch04_maps import study
from gainbook.chapters.ch04_maps.map_scores import (
    CONTROLS,
    control_maps,
    map_measures,
    score_maps,
)
from gainbook.lab import folds
from gainbook.lab import results_file as runs
from gainbook.lab.measures import measure_rows
from gainbook.lab.parameters import Parameters
from gainbook.lab.study import results
from gainbook.lab.systems import System
from gainbook.lab.tables import find
from torch.utils.data import Subset

from gainmtl import datasets, metrics, save
from gainmtl.evaluation.scoring import MAP_MEASURES, score
from gainmtl.explanation.methods import explain
from gainmtl.metrics.faithfulness import FAITHFULNESS
from gainmtl.model import GAINMTL
from gainmtl.types import collate

SYSTEM = System("small", "S1", 8, "S1, stride 8")
Scored = tuple[GAINMTL, datasets.Data, pd.DataFrame]


@pytest.fixture(scope="module")
def scored() -> Scored:
    torch.manual_seed(0)
    data = datasets.load("synthetic", image_size=64, seed=0, train=4, val=4, test=16)
    model = GAINMTL("test_efficientnet", "S1", output_stride=8, width=8)
    model.threshold = 0.0  # everything is flagged
    table = score_maps(model, data.test, ("cam", "grad_cam"), faithful=3, batch_size=4, steps=3)
    return model, data, table


def test_one_row_per_defective_image(scored: Scored) -> None:
    _, data, table = scored
    bad = {n for n, label in zip(data.test.names, data.test.labels, strict=True) if label}
    assert set(table["name"]) == bad
    wanted = {f"{m}.{k}" for m in ("cam", "grad_cam", *CONTROLS) for k in MAP_MEASURES}
    wanted |= {f"{m}.{k}" for m in ("cam", "grad_cam", *CONTROLS) for k in FAITHFULNESS}
    wanted |= {"cam~grad_cam.rank_correlation"}
    assert set(table.columns) == wanted | {"name", "group", "defect_type", "is_flagged"}
    assert table["cam.road"].notna().sum() == 3
    assert table["cam.iou"].notna().all()


def test_figures_agree_with_the_models_own_evaluation(scored: Scored) -> None:
    model, data, table = scored
    own = score(model, data.test, interventions=False).images.set_index("name")
    for source in ("cam", "oracle"):
        for measure in MAP_MEASURES:
            expected = own.loc[table["name"], f"{source}.{measure}"].to_numpy(float)
            values = table[f"{source}.{measure}"].to_numpy(float)
            np.testing.assert_allclose(values, expected, atol=1e-5)


def test_grad_cam_agrees_with_cam_and_scores_like_its_positive_part(scored: Scored) -> None:
    model, data, table = scored
    assert table["cam~grad_cam.rank_correlation"].min() > 0.9999
    places = [list(data.test.names).index(name) for name in table["name"]]
    batch = collate([data.test[i] for i in places])
    model.eval()
    positive = explain(model, model.preprocess(batch.image)).map
    model.train()
    expected = metrics.positive_energy(positive, batch.mask)
    np.testing.assert_allclose(table["grad_cam.positive_energy"], expected, atol=1e-5)


def test_the_model_keeps_its_mode_and_only_the_oracle_uses_masks(scored: Scored) -> None:
    assert scored[0].training
    masks = torch.zeros(2, 1, 8, 8)
    masks[0, 0, :4, :4] = 1
    first, second = control_maps(masks, (2, 2)), control_maps(masks.flip(0), (2, 2))
    assert list(first) == list(CONTROLS)
    assert not torch.equal(first["oracle"], second["oracle"])
    assert all(torch.equal(first[n], second[n]) for n in CONTROLS if n != "oracle")


def test_rows_have_means_intervals_and_types(scored: Scored) -> None:
    table = scored[2]
    rows = measure_rows(table, map_measures(table), "synthetic", SYSTEM, resamples=50)
    rows = pd.DataFrame(runs.check_rows(rows))
    iou = find(rows, SYSTEM, "iou", "cam", method="grad_cam")
    assert iou.value == pytest.approx(table["grad_cam.iou"].mean())
    assert iou.low <= iou.value <= iou.high
    alike = {"method": "cam", "with": "grad_cam"}
    assert find(rows, SYSTEM, "rank_correlation", "cam", **alike).value > 0.99
    typed = {"method": "cam", "defect_type": "mean over types"}
    means = table.groupby("defect_type")["cam.iou"].mean()
    assert find(rows, SYSTEM, "iou", "cam", **typed).value == pytest.approx(means.mean())
    with pytest.raises(LookupError):  # no mean over types of a measure without a mask
        find(rows, SYSTEM, "road", "cam", **typed)


def test_a_column_of_nan_has_no_row() -> None:
    table = pd.DataFrame(
        {"name": ["a"], "group": ["a"], "defect_type": ["crack"], "is_flagged": [False]}
        | {"cam.iou": [0.5], "cam.road": [math.nan]}
    )
    rows = measure_rows(table, map_measures(table), "synthetic", SYSTEM, resamples=0)
    assert [row["metric"] for row in rows] == ["iou"]


def test_normal_parts_alone_are_refused() -> None:
    data = datasets.load("synthetic", image_size=64, seed=0, train=4, val=4, test=4)
    data.test.labels[:] = False
    with pytest.raises(ValueError, match="defective images with a mask, found none"):
        score_maps(GAINMTL("test_efficientnet", "S1"), data.test)


def test_folds_are_scored_apart_and_together(
    scored: Scored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each fold's stored model on its own test fold, and one interval over all of them."""
    model, data, table = scored
    save(model, tmp_path / "model.safetensors")
    pooled = SimpleNamespace(model_paths=(tmp_path / "model.safetensors",) * 2)
    half = np.flatnonzero(data.test.labels)[:4]

    def load_fold(parameters: Any, seed: int) -> Any:
        def load(fold: int) -> Any:
            part = Subset(data.test, half[2 * fold : 2 * fold + 2].tolist())
            part.labels = part.has_mask = np.ones(2, dtype=bool)  # type: ignore[attr-defined]
            return SimpleNamespace(test=part, fingerprint="parts", image_size=64)

        return load

    monkeypatch.setattr(folds, "load_fold", load_fold)
    monkeypatch.setattr(study, "load_fold", load_fold)
    p = Parameters(dataset="set", seeds=(3,), folds=2, output_dir=str(tmp_path))
    (question,) = study.methods_study(faithful=0).questions
    answers = folds.ask_folds(p, {SYSTEM.tag: [pooled]}, question)  # type: ignore[list-item]
    rows = pd.DataFrame(runs.check_rows(question.rows(answers, [SYSTEM], [], "set", 50)))
    iou = rows[rows["metric"] == "iou"]
    iou = iou[iou["condition"].map(lambda c: c == {**SYSTEM.condition, "method": "cam"})]
    assert set(zip(iou["seed"].fillna(-1), iou["fold"].fillna(-1), strict=True)) == {
        (3, 0), (3, 1), (-1, -1)
    }  # fmt: skip
    names = [data.test.names[i] for i in half]
    expected = table.set_index("name").loc[names, "cam.iou"].mean()
    assert iou[iou["fold"].isna()]["value"].item() == pytest.approx(expected, abs=1e-6)


def test_without_a_data_set_the_stored_results_are_read() -> None:
    stored = results(study.STUDY, Parameters(dataset="synthetic"))
    assert stored.rows is not None
    assert set(stored.rows["dataset"]) == {"magnetic-tile"}
    assert "book/results/04_class_activation_maps.json" in stored.note
    assert "CAM" in study.agreement_table(stored.rows)
    assert "two different parts" in study.resemblance_table(stored.rows)
