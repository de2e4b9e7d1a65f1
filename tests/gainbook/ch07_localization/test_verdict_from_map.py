"""A verdict read from a map: hand values, thresholds from validation, nothing untrained left in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from gainbook.chapters.ch07_localization.verdict_from_map import (
    map_score,
    score_maps,
    with_area,
    with_map_verdict,
    with_thresholds,
)
from gainbook.lab.catalogue import LOCALIZATION
from gainbook.lab.protocol import Pooled

from gainmtl import metrics
from gainmtl.datasets import Data, load
from gainmtl.evaluation.scoring import score
from gainmtl.model import GAINMTL


def data() -> Data:
    return load("synthetic", image_size=32, train=8, val=12, test=10)


def network() -> GAINMTL:
    torch.manual_seed(0)
    model = GAINMTL("test_efficientnet", LOCALIZATION, output_stride=4, width=8).eval()
    model.image_size = 32
    return model


def pooled(model: GAINMTL) -> Pooled:
    scores = score(model, data().test)
    history = pd.DataFrame({"epoch": [0], "fold": [0]})
    return Pooled("localization", {"a": 1}, [scores], scores, history, (), 1.0, (Path("model"),))


def test_the_score_is_the_mean_of_the_highest_pixels() -> None:
    maps = torch.arange(8.0).reshape(1, 1, 2, 4) / 8
    assert map_score(maps, 0).tolist() == [7 / 8]
    assert map_score(maps, 0.25).tolist() == [6.5 / 8]
    assert map_score(maps, 1).tolist() == [3.5 / 8]
    with pytest.raises(ValueError, match="share"):
        map_score(maps, 2)


def test_a_score_does_not_depend_on_the_mask() -> None:
    test = data().test
    model = network()
    before = score_maps(model, test)
    swapped = [test[i]._replace(mask=1 - test[i].mask) for i in range(len(test))]  # type: ignore[arg-type]
    after = score_maps(model, swapped)  # type: ignore[arg-type]
    pd.testing.assert_series_equal(before["map_score"], after["map_score"])
    masks = torch.stack([s.mask for s in (test[i] for i in range(10)) if s.is_defective])
    assert np.allclose(before["area"].dropna(), masks.mean((1, 2, 3)))
    assert before["area"].isna().sum() == int((~before["is_defective"]).sum())


def test_the_map_s_verdict_replaces_that_of_the_untrained_head() -> None:
    model = network()
    given = pooled(model)
    test, val = score_maps(model, data().test), score_maps(model, data().val)
    scored = with_thresholds(test, val)
    mapped = with_area(with_map_verdict(given, [scored]), test.set_index("name")["area"])
    images = mapped.scores.images
    assert np.allclose(images["defect_probability"], test["map_score"])
    assert images[["cam.iou", "flip.removed", "oracle.iou"]].isna().all().all()
    assert "cam" not in mapped.scores.histograms
    assert mapped.condition == {"a": 1, "verdict": "map"}
    assert images["area"].notna().sum() == images["is_defective"].sum()
    threshold = metrics.threshold_at_fpr(val["map_score"], val["is_defective"], 0.05)
    assert (images["is_flagged"] == (images["defect_probability"] >= threshold)).all()
    with pytest.raises(ValueError, match="the same images, in order"):
        with_map_verdict(given, [scored.assign(name="other")])
