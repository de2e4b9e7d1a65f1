"""Rows from the pooled scores of all folds: wrong reasons, seeds together, pixel AP of a pair."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from gainbook.lab import comparison
from gainbook.lab.protocol import Pooled
from gainbook.lab.results_file import check_rows

from gainmtl import metrics
from gainmtl.evaluation.scoring import Scores


def scores(hits: list[float], flagged: list[bool], prefix: str = "") -> Scores:
    """Defective images in groups of two, one normal image at the end."""
    count = len(hits)
    images = pd.DataFrame(
        {
            "name": [f"{prefix}{i}" for i in range(count + 1)],
            "group": [f"g{i // 2}" for i in range(count)] + ["normal"],
            "defect_type": ["crack"] * count + ["normal"],
            "is_defective": [True] * count + [False],
            "has_mask": True,
            "defect_probability": [0.9] * count + [0.1],
            "is_flagged": [*flagged, True],
            "cam.point_game": [*hits, np.nan],
            "defect_map.point_game": [*hits, np.nan],
            "oracle.point_game": [1.0] * count + [np.nan],
        }
    )
    counts = np.ones((count + 1, 4))
    return Scores(images, {"cam": metrics.PixelHistogram(counts, counts, 0.0, 1.0)})


def test_wrong_reason_counts_found_defects_whose_map_peaks_beside_them() -> None:
    # five defects, the fourth is missed: of four found, two peak on the defect, one half of a tie
    found = comparison.wrong_reason(
        scores([1, 0, 0.5, 0, 1], [True, True, True, False, True]),
        {"dataset": "set", "split": "test", "system": "S1"}, {"output_stride": 4}, resamples=200,
    )  # fmt: skip
    assert check_rows(found.to_dict("records"))
    cam, defect_map, oracle = found.itertuples()
    assert cam.value == defect_map.value == pytest.approx((0 + 1 + 0.5 + 0) / 4)
    assert (cam.n, oracle.value, oracle.condition["oracle"]) == (4, 0, True)
    assert cam.ci_low <= cam.value <= cam.ci_high


def test_wrong_reason_of_a_system_that_finds_nothing_has_no_rows() -> None:
    assert comparison.wrong_reason(scores([1], [False]), {}, {}).empty


def pooled(prefix: str, hits: list[float]) -> Pooled:
    one = scores(hits, [True] * len(hits), prefix)
    history = pd.DataFrame({"epoch": [0], "fold": [0]})
    return Pooled("S1", {}, [one], one, history, ("abc",), 1.0, (Path("model"),))


def test_seeds_are_merged_with_their_groups_kept() -> None:
    merged = comparison.merge([pooled("", [1, 0]), pooled("", [0, 0])], (3, 4))
    assert len(merged.scores.images) == 6
    assert set(merged.scores.images["group"]) == {"g0", "normal"}
    assert merged.scores.images["name"].is_unique
    assert merged.scores.histograms["cam"].positives.shape == (6, 4)
    assert (merged.commits, merged.seconds) == (("abc",), 2.0)
    assert comparison.merge([merged], (0,)) is merged


def test_pixel_ap_of_a_pair_is_the_difference_of_both() -> None:
    a, b = pooled("", [1, 0]), pooled("", [1, 0])
    counts = np.array([[0.0, 1, 1, 2], [1, 1, 1, 1], [0, 0, 0, 0]])
    sharper = metrics.PixelHistogram(counts, counts[:, ::-1], 0.0, 1.0)
    a = a._replace(scores=a.scores._replace(histograms={"cam": sharper}))
    (row,) = check_rows(comparison.pixel_ap_rows(a, b, "set", ("cam",), resamples=20))
    flat = b.scores.histograms["cam"].average_precision()
    assert row["value"] == pytest.approx(float(sharper.average_precision()) - float(flat))
    assert (row["metric"], row["map"], row["condition"]) == (
        "pixel_ap_difference", "cam", {"against": "S1"},
    )  # fmt: skip
    with pytest.raises(ValueError, match="the same images in order"):
        comparison.pixel_ap_rows(a, pooled("x", [1, 0]), "set")
