"""Readouts of a map and Platt's line, against hand-made scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from gainbook.chapters.ch11_approaches.approaches import CLASSIFIER
from gainbook.chapters.ch11_approaches.probabilities import (
    ECE_PLATT,
    READOUT_WORDS,
    readout_aurocs,
    recalibrated,
)
from gainbook.lab.measures import measure_rows

from gainmtl import metrics
from gainmtl.baselines.unet import UNet
from gainmtl.datasets import load
from gainmtl.evaluation.scoring import Scores
from gainmtl.types import collate


def test_the_readouts_of_a_map_have_their_own_auroc() -> None:
    torch.manual_seed(0)
    unet = UNet("test_efficientnet", decoder=(8, 8, 8, 8, 8)).eval()
    part: Any = load("synthetic", image_size=32, train=4, val=4, test=8).test
    aurocs = readout_aurocs(unet, part, batch_size=3)
    assert len(aurocs) == len(READOUT_WORDS)
    batch = collate([part[i] for i in range(8)])
    with torch.no_grad():
        readouts = unet.localize(unet.preprocess(batch.image))[0].numpy()
    for column, value in zip(readouts.T, aurocs, strict=True):
        assert value == pytest.approx(metrics.auroc(column, batch.is_defective.numpy()))
    assert not np.isnan(aurocs).any()


def test_recalibration_uses_validation_images_alone() -> None:
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

    validation = [
        pd.DataFrame({"defect_probability": scores, "is_defective": labels})
        for scores, labels in (
            ([0.2, 0.2, 0.3, 0.3], [False, False, True, True]),
            ([0.2, 0.3], [True, True]),
        )
    ]
    table = recalibrated([fold(0), fold(4)], validation)
    assert len(table) == 8
    # 0.2 is 1/4 and 0.3 is 3/4 on the first fold's validation part, so 0.4 is surer still.
    assert table["recalibrated"][2] > 0.75
    # The second fold's validation part has one class: the probabilities stay.
    assert table["recalibrated"][4:].tolist() == pytest.approx([0.6, 0.9, 0.4, 0.1])
    (row,) = measure_rows(table, (ECE_PLATT,), "d", CLASSIFIER, resamples=20)
    assert row["metric"] == "ece_platt"
    assert 0 <= row["value"] <= 1
