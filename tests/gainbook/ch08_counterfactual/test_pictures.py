"""Measures of the live part, on a small synthetic test set with its true surfaces."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gainbook.chapters.ch08_counterfactual import pictures
from gainbook.lab.flips import score_flips

from gainmtl.datasets import load
from gainmtl.model import GAINMTL


@pytest.fixture(scope="module")
def test_set() -> Any:
    return load("synthetic", image_size=64, seed=0, train=4, val=4, test=24).test


@pytest.fixture(scope="module")
def defects(test_set: Any) -> pictures.Defects:
    return pictures.defects_of(test_set, seed=0)


@pytest.fixture(scope="module")
def model() -> GAINMTL:
    torch.manual_seed(0)
    model = GAINMTL("test_efficientnet", "S1", output_stride=4).eval()
    model.threshold = 0.0  # every part is flagged
    return model


def test_the_true_surface_is_a_perfect_fill(defects: pictures.Defects) -> None:
    count = len(defects.truth)
    np.testing.assert_allclose(pictures.fill_error(defects.truth, defects), np.zeros(count))
    np.testing.assert_allclose(pictures.fill_roughness(defects.truth, defects), np.ones(count))
    table = pictures.fill_table(defects.batch.image, defects)
    assert list(table.columns) == ["name", "group", "fill_error", "fill_roughness"]
    assert (table["fill_error"] > 0).all()
    brighter = defects.truth + 2 / 255
    np.testing.assert_allclose(pictures.fill_error(brighter, defects), np.full(count, 2), rtol=1e-3)


def test_verdicts_by_fill_and_truth_are_compared(
    model: GAINMTL, defects: pictures.Defects, test_set: Any
) -> None:
    answers = score_flips({"m": model}, test_set)["m"]
    table = pictures.truth_table(model, defects, answers)
    assert list(table["name"]) == list(defects.batch.name)
    # a threshold of 0: nothing can turn a verdict
    assert (table["fill"] == 0).all()
    assert (table["truth"] == 0).all()
    assert (table["agreement"] == 1).all()


def test_a_larger_margin_leaves_less_of_the_change_outside(
    model: GAINMTL, defects: pictures.Defects
) -> None:
    table = pictures.margin_means(model, defects, (0, 2, 16))
    leak = table["leak"].to_numpy()
    assert leak[0] > leak[1] > leak[2]
    assert leak[2] == pytest.approx(0)  # the cells are the whole grid
    assert (table["n_removed"] == len(defects.truth)).all()
    assert table["n_moved"].iloc[2] == 0
    assert np.isnan(table["moved"].iloc[2])


def test_the_hole_moves_over_the_whole_part(defects: pictures.Defects) -> None:
    hole = pictures.moving_hole(defects, np.zeros(len(defects.truth), bool), count=5)
    assert 0 in hole.steps
    assert hole.steps == sorted(set(hole.steps))
    area = hole.holes.sum((1, 2, 3))
    assert (area == area[0]).all()  # nothing leaves the image
    columns = [mask.amax((0, 1)).nonzero()[:, 0] for mask in hole.holes]
    assert columns[0][0] == 0
    assert columns[-1][-1] == hole.filled.shape[3] - 1
    assert torch.isfinite(hole.filled).all()
