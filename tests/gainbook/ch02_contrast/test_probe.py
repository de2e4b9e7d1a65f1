"""The probe against scikit-learn, the hybrid's weight by hand, and folds by part."""

from __future__ import annotations

import numpy as np
import pytest
from gainbook.chapters.ch02_contrast import probe
from sklearn.linear_model import LogisticRegression

from gainmtl import metrics

RNG = np.random.default_rng(0)


def test_the_probe_is_balanced_logistic_regression() -> None:
    x = RNG.normal(size=(60, 4))
    bad = np.arange(60) < 15
    x[bad] += 0.7
    weight, bias = probe.fit_probe(x, bad, decay=0.05)
    # scikit-learn's penalty is |w|^2 / (2 C) beside the sum of the weighted losses
    other = LogisticRegression(C=1 / 0.05, tol=1e-10, max_iter=5000)
    other.fit(x, bad, sample_weight=np.where(bad, 0.5 / 15, 0.5 / 45))
    assert weight == pytest.approx(other.coef_[0], abs=2e-3)
    assert bias == pytest.approx(other.intercept_[0], abs=2e-3)


def test_one_class_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one normal and one defective image"):
        probe.fit_probe(RNG.normal(size=(3, 2)), np.zeros(3, dtype=bool))


def test_one_defect_is_enough_for_a_probe() -> None:
    x = RNG.normal(0, 0.1, (12, 3))
    x[10:] += 3
    scores = probe.probe_scores(x, np.arange(10), np.array([10]))
    assert scores[11] > scores[:10].max()


def test_a_held_out_score_depends_on_no_image_of_its_part(monkeypatch: pytest.MonkeyPatch) -> None:
    taught: list[set[int]] = []

    def record(x: object, normal: object, defective: np.ndarray) -> np.ndarray:
        taught.append(set(defective.tolist()))
        return np.full(8, float(len(taught)))

    monkeypatch.setattr(probe, "probe_scores", record)
    parts = np.array([3, 3, 5, 5, 9])
    found = probe.held_out_scores(np.zeros((8, 1)), np.arange(3), np.arange(3, 8), parts)
    assert taught == [{5, 6, 7}, {3, 4, 7}, {3, 4, 5, 6}]
    assert found.tolist() == [1, 1, 2, 2, 3]


def test_the_weight_is_the_best_and_of_equals_the_nearest_to_one_half() -> None:
    probe_scores = np.array([0.0, 1, 2]), np.array([3.0, 1.5])
    bank_scores = np.array([2.0, 0, 1]), np.array([1.5, 3.0])
    normals, defects = zip(probe_scores, bank_scores, strict=True)
    assert probe.choose_weight(normals, defects) == 0.5


def test_the_weight_has_the_highest_auroc_of_all_candidates() -> None:
    normals, defects = RNG.normal(size=(2, 40)), RNG.normal([[1.0], [0.2]], 1, (2, 9))

    def gained(w: float) -> float:
        scores = [(1 - w) * a + w * b for a, b in (normals, defects)]
        return metrics.auroc(np.concatenate(scores), [0] * 40 + [1] * 9)

    weight = probe.choose_weight((normals[0], normals[1]), (defects[0], defects[1]))
    assert gained(weight) == max(map(gained, probe.WEIGHTS))
    assert weight < 0.5


def test_the_hybrid_is_the_detector_without_defects_and_leans_on_it_with_one() -> None:
    x = RNG.normal(0, 0.1, (30, 3))
    x[20:] += 3
    detector = RNG.normal(size=30)
    val, none = np.arange(10, 20), np.zeros(0, dtype=np.int64)
    scores, weight = probe.hybrid_scores(x, np.arange(10), none, none, val, detector)
    assert weight == 1
    assert scores == pytest.approx((detector - detector[val].mean()) / detector[val].std())
    one = np.array([20])
    scores, weight = probe.hybrid_scores(x, np.arange(10), one, np.array([0]), val, detector)
    own = probe.standardised(probe.probe_scores(x, np.arange(10), one), val)
    assert weight == pytest.approx(2.5 / 3)  # one part at 0.5, and two that count for the detector
    assert scores == pytest.approx(own / 6 + probe.standardised(detector, val) * 5 / 6)
    # Two images of one part are no inner folds.
    two = np.array([20, 21])
    same = probe.hybrid_scores(x, np.arange(10), two, np.array([7, 7]), val, detector)[1]
    assert same == weight


def test_a_useless_detector_gets_a_small_share() -> None:
    x = RNG.normal(0, 0.1, (30, 3))
    x[20:] += 3
    detector = np.concatenate([np.zeros(20), np.full(10, -9.0)]) + RNG.normal(0, 0.1, 30)
    args = np.arange(10), np.arange(20, 26), np.arange(6), np.arange(10, 20)
    assert probe.hybrid_scores(x, *args, detector)[1] < 0.5
