"""Scores of sharpness, their rows and differences, and figures of the training."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from gainbook.chapters.ch12_fostering.sharpness import (
    LIVE_MEASURES,
    MEASURES,
    VERDICT_MEASURES,
    feature_strength,
    score_sharpness,
    weak_gain_rows,
)
from gainbook.chapters.ch12_fostering.study import training_rows
from gainbook.chapters.ch12_fostering.systems import fostered
from gainbook.lab import results_file as runs
from gainbook.lab import tables
from gainbook.lab.catalogue import PLAIN
from gainbook.lab.measures import measure_rows, paired_rows
from gainbook.lab.protocol import Pooled

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


def test_scores_are_those_of_the_measures() -> None:
    torch.manual_seed(0)
    model = GAINMTL("test_efficientnet", "S1", output_stride=8).train()
    with torch.no_grad():
        model.head.bias[1] = 0.3
    part: Any = load("synthetic", image_size=64, train=4, val=4, test=16).test
    table = score_sharpness({"m": model}, part, faithful=2, batch_size=3, steps=4)["m"]
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
    again = score_sharpness({"m": model}, part, faithful=2, steps=4)["m"]
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
    rows = pd.DataFrame(measure_rows(table, MEASURES, "set", ONE, resamples=50))
    assert runs.check_rows(rows.to_dict("records"))
    verdict = {"zero": "verdict"}
    assert tables.find(rows, ONE, "cam_entropy", "cam", **verdict)[0] == 2.0
    assert tables.find(rows, ONE, "cam_vanished", "cam", **verdict)[0] == 0.25
    assert tables.find(rows, ONE, "cam_relative_difference", "cam", **verdict)[0] == 3.0
    pair = {"of": "cam_entropy", "with": "cam_dispersion"}
    assert tables.find(rows, ONE, "rank_correlation", "cam", **pair, **verdict)[0] == -1.0
    half = made_up([1.0, 2.0], [0.1, 0.2], [math.inf, math.inf])
    undefined = pd.DataFrame(measure_rows(half, MEASURES, "set", ONE, resamples=0))
    assert math.isnan(tables.find(undefined, ONE, "cam_relative_difference", "cam", **verdict)[0])
    assert not (rows["metric"] == "road").any()
    assert not (rows["metric"] == "point_game").any()
    assert undefined["ci_low"].isna().all()
    (pointing,) = measure_rows(table, LIVE_MEASURES[-1:], "set", ONE, resamples=0)
    assert (pointing["metric"], pointing["value"]) == ("point_game", 1.0)


def test_rows_of_a_verdict() -> None:
    table = pd.DataFrame(
        {"name": list("abcd"), "group": list("abcd"), "is_defective": [True, True, False, False],
         "defect_probability": [0.9, 0.2, 0.3, 0.1]}
    )  # fmt: skip
    auroc, error = measure_rows(table, VERDICT_MEASURES, "set", ONE, resamples=20)
    assert (auroc["metric"], auroc["value"]) == ("auroc", 0.75)
    assert error["metric"] == "ece"
    assert 0 < error["value"] < 1


def test_differences_are_paired_on_what_both_define() -> None:
    before = made_up([2.0, 4.0, 6.0, 8.0], [0.1, 0.1, 0.1, 0.1], [1, 1, 1, 1])
    after = made_up([1.0, 2.0, 3.0, math.nan], [0.5, 0.3, 0.1, 0.1], [2, 4, 6, math.nan])
    shuffled = after.iloc[[2, 0, 3, 1]]
    pair = shuffled, before
    rows = pd.DataFrame(
        paired_rows(*pair, MEASURES, "set", ONE, PLAIN, resamples=50)
        + weak_gain_rows(*pair, "set", ONE, PLAIN, resamples=50)
    )
    assert runs.check_rows(rows.to_dict("records"))
    about = {**PLAIN.as_other, "zero": "verdict"}
    assert tables.find(rows, ONE, "cam_entropy_ratio", "cam", **about)[0] == pytest.approx(0.5)
    relative = tables.find(rows, ONE, "cam_relative_difference_ratio", "cam", **about)
    assert relative[0] == pytest.approx(4.0)
    energy = tables.find(rows, ONE, "positive_energy_difference", "cam", **about)
    assert energy[0] == pytest.approx(0.15)
    weak = tables.find(rows, ONE, "weak_gain_difference", "cam", **PLAIN.as_other)
    assert weak[0] == pytest.approx((0.4 + 0.2) / 2 - 0.0)
    assert not rows["metric"].str.contains("vanished|rank_correlation").any()
    with pytest.raises(ValueError, match="two tables about the same images"):
        weak_gain_rows(after, before.iloc[:2], "set", ONE, PLAIN)


def test_figures_of_the_last_epoch_are_means_over_folds() -> None:
    history = pd.DataFrame(
        {"fold": [0, 0, 1], "epoch": [0, 1, 0], "auroc": [0.1, 0.8, 0.6],
         "fostering_vanished": [1.0, 0.5, 0.1]}
    )  # fmt: skip
    scores = Scores(pd.DataFrame(), {})
    pooled = Pooled("S1", {}, [scores], scores, history, ("abc",), 1.0, ())
    rows = {row["metric"]: row for row in training_rows([pooled], "set", ONE)}
    assert rows["validation_auroc"]["value"] == pytest.approx(0.7)
    assert rows["fostering_vanished"]["value"] == pytest.approx(0.3)
