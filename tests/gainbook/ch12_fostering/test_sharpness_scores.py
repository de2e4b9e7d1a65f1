"""Scores of sharpness, their rows and differences, the chosen weight, and the figure of a sweep."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from gainbook.chapters.ch12_fostering.fostered import fostered
from gainbook.chapters.ch12_fostering.fostering_results import (
    pixel_ap_difference,
    sharpness_differences,
    training_rows,
)
from gainbook.chapters.ch12_fostering.sharpness_scores import (
    feature_strength,
    score_sharpness,
    sharpness_rows,
)
from gainbook.lab import results_file as runs
from gainbook.lab import tables
from gainbook.lab.components import PLAIN
from gainbook.lab.protocol import Pooled
from gainbook.render import trade_offs
from matplotlib import pyplot as plt

from gainmtl import metrics
from gainmtl.datasets import load
from gainmtl.evaluation.scoring import Scores
from gainmtl.model import GAINMTL
from gainmtl.types import collate

ONE = fostered(1.0)


def test_strength_by_hand() -> None:
    image = torch.full((1, 3, 16, 16), 0.5)
    image[..., ::2, :] += 0.1  # rows of 0.6 and 0.5: the surroundings' mean is near 0.55
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., 6:8, 6:8] = 1
    image[:, :, 6:8, 6:8] = 0.95
    # the ring: 6 x 6 pixels less the 2 x 2, three rows of each kind, two of the defect's rows cut
    level, spread = 0.55, 0.05
    expected = (0.95 - level) / (spread + 1 / 255)
    assert float(feature_strength(image, mask)) == pytest.approx(expected, rel=1e-5)
    assert math.isnan(float(feature_strength(image, torch.ones_like(mask))))
    assert math.isnan(float(feature_strength(image, torch.zeros_like(mask))))


def test_scores_are_those_of_the_measures_and_no_mask_is_asked() -> None:
    torch.manual_seed(0)
    model = GAINMTL("test_efficientnet", "S1", output_stride=8).train()
    with torch.no_grad():
        model.head.bias[1] = 0.3
    part: Any = load("synthetic", image_size=64, train=4, val=4, test=16).test
    table = score_sharpness(model, part, faithful=2, batch_size=3, steps=4)
    assert model.training
    bad = np.flatnonzero(part.labels & part.has_mask)
    assert table["name"].tolist() == [part.names[i] for i in bad]
    batch = collate([part[int(i)] for i in bad])
    with torch.no_grad():
        cam = model.eval()(model.preprocess(batch.image)).cam
    for zero, shift in (("map", 0.0), ("verdict", float(model.evidence_bias.detach()))):
        expected = metrics.cam_entropy(cam + shift).double().numpy()
        np.testing.assert_allclose(table[f"{zero}.cam_entropy"], expected, rtol=1e-4)
    assert table["road"].notna().sum() == table["deletion_auc"].notna().sum() == 2
    again = score_sharpness(model, part, faithful=2, steps=4)
    assert again.loc[again["road"].notna(), "name"].tolist() == (
        table.loc[table["road"].notna(), "name"].tolist()
    )


def made_up(entropy: list[float], energy: list[float], relative: list[float]) -> pd.DataFrame:
    """Four images in two groups; strength rises with the index."""
    count = len(entropy)
    table = pd.DataFrame(
        {
            "name": [f"{i}" for i in range(count)],
            "group": [f"g{i // 2}" for i in range(count)],
            "defect_type": "crack",
            "is_flagged": True,
            "strength": np.arange(count, dtype=float),
            "point_game": 1.0,
            "pixel_precision": energy,
            "deletion_auc": math.nan,
            "insertion_auc": math.nan,
            "road": math.nan,
        }
    )
    for zero in ("verdict", "map"):
        table[f"{zero}.vanished"] = np.isnan(entropy).astype(float)
        table[f"{zero}.cam_entropy"] = entropy
        table[f"{zero}.cam_elliptic_area"] = [2 * value for value in entropy]
        table[f"{zero}.cam_dispersion"] = [-value for value in entropy]
        table[f"{zero}.cam_relative_difference"] = relative
        table[f"{zero}.cam_contrast"] = energy
        table[f"{zero}.positive_energy"] = energy
    return table


def test_rows_are_means_medians_and_correlations() -> None:
    table = made_up([1.0, 2.0, 3.0, math.nan], [0.1, 0.2, 0.3, 0.0], [1, 3, math.inf, math.nan])
    rows = pd.DataFrame(sharpness_rows(table, "set", ONE, resamples=50))
    assert runs.check_rows(rows.to_dict("records"))
    verdict = {"zero": "verdict"}
    assert tables.find(rows, ONE, "cam_entropy", "cam", **verdict)[0] == 2.0
    assert tables.find(rows, ONE, "cam_vanished", "cam", **verdict)[0] == 0.25
    assert tables.find(rows, ONE, "cam_relative_difference", "cam", **verdict)[0] == 3.0
    pair = {"of": "cam_entropy", "with": "cam_dispersion"}
    assert tables.find(rows, ONE, "rank_correlation", "cam", **pair, **verdict)[0] == -1.0
    half = made_up([1.0, 2.0], [0.1, 0.2], [math.inf, math.inf])
    undefined = pd.DataFrame(sharpness_rows(half, "set", ONE, resamples=0))
    assert math.isnan(tables.find(undefined, ONE, "cam_relative_difference", "cam", **verdict)[0])
    assert not (rows["metric"] == "road").any()
    assert (rows["metric"] == "point_game").any()
    fewer = pd.DataFrame(sharpness_rows(table, "set", ONE, resamples=0, pointing=False))
    assert not (fewer["metric"] == "point_game").any()
    assert fewer["ci_low"].isna().all()


def test_differences_are_paired_on_what_both_define() -> None:
    before = made_up([2.0, 4.0, 6.0, 8.0], [0.1, 0.1, 0.1, 0.1], [1, 1, 1, 1])
    after = made_up([1.0, 2.0, 3.0, math.nan], [0.5, 0.3, 0.1, 0.1], [2, 4, 6, math.nan])
    shuffled = after.iloc[[2, 0, 3, 1]]
    rows = pd.DataFrame(sharpness_differences(shuffled, before, "set", ONE, PLAIN, resamples=50))
    assert runs.check_rows(rows.to_dict("records"))
    about = {**PLAIN.as_other, "zero": "verdict"}
    assert tables.find(rows, ONE, "cam_entropy_ratio", "cam", **about)[0] == pytest.approx(0.5)
    relative = tables.find(rows, ONE, "cam_relative_difference_ratio", "cam", **about)
    assert relative[0] == pytest.approx(4.0)
    energy = tables.find(rows, ONE, "positive_energy_difference", "cam", **about)
    assert energy[0] == pytest.approx(0.15)
    weak = tables.find(rows, ONE, "weak_gain_difference", "cam", **PLAIN.as_other)
    assert weak[0] == pytest.approx((0.4 + 0.2) / 2 - 0.0)
    with pytest.raises(ValueError, match="not asked about one set"):
        sharpness_differences(after, before.iloc[:2], "set", ONE, PLAIN)


def pooled(pixels: list[list[int]], history: pd.DataFrame) -> Pooled:
    images = pd.DataFrame({"name": ["a", "b"], "group": ["g0", "g1"], "has_mask": True})
    counts = np.array(pixels), np.array([[5, 5], [5, 5]])
    scores = Scores(images, {"cam": metrics.PixelHistogram(*counts, 0.0, 1.0)})
    return Pooled("S1", {}, [scores], scores, history, ("abc",), 1.0, ())


def test_pooled_pixels_and_what_training_said() -> None:
    history = pd.DataFrame(
        {"fold": [0, 0, 1], "epoch": [0, 1, 0], "auroc": [0.1, 0.8, 0.6],
         "fostering_vanished": [1.0, 0.5, 0.1]}
    )  # fmt: skip
    good, poor = pooled([[0, 4], [0, 4]], history), pooled([[4, 0], [4, 0]], history)
    found = pixel_ap_difference(good, poor, "set", ONE, PLAIN, resamples=50)
    assert runs.check_rows([found])
    assert found["value"] > 0
    rows = {row["metric"]: row for row in training_rows([good], "set", ONE)}
    assert rows["validation_auroc"]["value"] == pytest.approx(0.7)
    assert rows["fostering_vanished"]["value"] == pytest.approx(0.3)


def test_the_figure_of_a_sweep_leaves_gaps() -> None:
    table = made_up([1.0, 2.0, 3.0, 4.0], [0.1, 0.2, 0.3, 0.0], [1, 3, 4, 5])
    rows = pd.DataFrame(sharpness_rows(table, "set", ONE, resamples=20))
    sweep = {0.0: PLAIN, 1.0: ONE}
    panels = {
        "ce": ("cam_entropy", "cam", {"zero": "verdict"}),
        "nothing": ("auroc", None, {}),
    }
    figure = trade_offs.over_weight(rows, sweep, panels, "beta", chosen=1.0)
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in shown] == ["ce", "nothing"]
    assert len(shown[0].containers) == 1
    assert len(shown[1].containers) == 0
    plt.close(figure)
    with pytest.raises(ValueError, match="two weights"):
        trade_offs.over_weight(rows, {1.0: ONE}, panels, "beta")
