"""Classification measures: by hand, by brute force, and against two other libraries."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
import torch
from torchmetrics.functional.classification import (
    binary_auroc,
    binary_average_precision,
    binary_calibration_error,
)

from gainmtl import metrics

Sample = tuple[np.ndarray, np.ndarray]


def draw(seed: int, count: int = 200, decimals: int = 1) -> Sample:
    """Scores in [0, 1] with many ties, and labels."""
    generator = np.random.default_rng(seed)
    labels = generator.random(count) < 0.3
    scores = 1 / (1 + np.exp(-generator.normal(labels * 1.5 - 0.7)))
    return np.round(scores, decimals), labels


def best_recall(scores: np.ndarray, labels: np.ndarray, fpr: float) -> float:
    """Recall by trying every threshold."""
    options = [math.inf, *scores.tolist()]
    allowed = [t for t in options if np.mean(scores[~labels] >= t) <= fpr]
    return float(max(np.mean(scores[labels] >= t) for t in allowed))


def test_by_hand() -> None:
    scores, labels = [0.9, 0.8, 0.7, 0.6, 0.2], [1, 0, 1, 0, 0]
    # Pairs (defective, normal): .9 beats 3 of 3, .7 beats 2 of 3.
    assert metrics.auroc(scores, labels) == pytest.approx(5 / 6)
    assert metrics.average_precision(scores, labels) == pytest.approx((1 + 2 / 3) / 2)
    assert metrics.recall_at_fpr(scores, labels, 0.0) == 0.5
    assert metrics.recall_at_fpr(scores, labels, 0.34) == 1.0
    assert metrics.accuracy(scores, labels, 0.7) == pytest.approx(4 / 5)
    assert metrics.precision(scores, labels, 0.7) == pytest.approx(2 / 3)
    assert metrics.recall(scores, labels, 0.8) == 0.5
    assert metrics.f1(scores, labels, 0.7) == pytest.approx(0.8)
    # .2 alone: |.2 - 0|; .6, .7 / .8, .9: each in a bin of its own of width 1/15.
    gaps = 0.1 + 0.8 + 0.3 + 0.6 + 0.2
    assert metrics.expected_calibration_error(scores, labels) == pytest.approx(gaps / 5)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("decimals", [1, 6])
def test_against_other_libraries(seed: int, decimals: int) -> None:
    scores, labels = draw(seed, decimals=decimals)
    tensors = torch.tensor(scores), torch.tensor(labels).long()
    assert metrics.auroc(scores, labels) == pytest.approx(
        sklearn.metrics.roc_auc_score(labels, scores)
    )
    assert metrics.auroc(scores, labels) == pytest.approx(float(binary_auroc(*tensors)), abs=1e-6)
    assert metrics.average_precision(scores, labels) == pytest.approx(
        sklearn.metrics.average_precision_score(labels, scores)
    )
    assert metrics.average_precision(scores, labels) == pytest.approx(
        float(binary_average_precision(*tensors)), abs=1e-6
    )
    verdicts = scores >= 0.4
    for name in ("accuracy", "precision", "recall", "f1"):
        witness = getattr(sklearn.metrics, f"{name}_score")(labels, verdicts)
        assert getattr(metrics, name)(scores, labels, 0.4) == pytest.approx(witness)


@pytest.mark.parametrize("seed", range(5))
def test_calibration_error_against_torchmetrics(seed: int) -> None:
    scores, labels = draw(seed, decimals=6)
    witness = binary_calibration_error(
        torch.tensor(scores), torch.tensor(labels).long(), n_bins=15, norm="l1"
    )
    assert metrics.expected_calibration_error(scores, labels) == pytest.approx(
        float(witness), abs=1e-6
    )
    assert metrics.expected_calibration_error([0.0, 1.0, 1.0], [0, 1, 1]) == 0.0
    # .5 opens the upper of two bins, where it partly makes up for .75.
    assert metrics.expected_calibration_error([0.5, 0.75], [0, 1], bins=2) == 0.125


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("fpr", [0.0, 0.01, 0.05, 0.29, 1.0])
def test_recall_at_fpr_by_brute_force(seed: int, fpr: float) -> None:
    scores, labels = draw(seed)
    assert metrics.recall_at_fpr(scores, labels, fpr) == best_recall(scores, labels, fpr)


def test_ranking_ignores_monotone_transforms_and_sides_swap() -> None:
    scores, labels = draw(0)
    moved = np.exp(3 * scores) - 5
    assert metrics.auroc(moved, labels) == metrics.auroc(scores, labels)
    assert metrics.average_precision(moved, labels) == metrics.average_precision(scores, labels)
    assert metrics.auroc(-scores, labels) == pytest.approx(1 - metrics.auroc(scores, labels))
    assert metrics.auroc(np.zeros(200), labels) == 0.5


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("max_fpr", [0.0, 0.05, 0.2])
@pytest.mark.parametrize("decimals", [1, 9])
def test_threshold_is_the_smallest_that_keeps_the_rate(
    seed: int, max_fpr: float, decimals: int
) -> None:
    scores, labels = draw(seed, count=60, decimals=decimals)
    normals = scores[~labels]
    threshold = metrics.threshold_at_fpr(scores, labels, max_fpr)
    assert np.mean(normals >= threshold) <= max_fpr
    lower = scores[scores < threshold].max()
    assert np.mean(normals >= lower) > max_fpr
    assert metrics.recall(scores, labels, threshold) == best_recall(scores, labels, max_fpr)


def test_threshold_by_hand() -> None:
    normals = np.arange(20) / 20
    # One of 20 may pass: above .90, and the middle of the gap to .95.
    assert metrics.threshold_at_fpr(normals, np.zeros(20)) == pytest.approx(0.925)
    # A defective sample in the gap narrows it: verdicts stay those of the smallest threshold.
    scores, labels = [*normals, 0.91], [0] * 20 + [1]
    assert metrics.threshold_at_fpr(scores, labels) == pytest.approx(0.905)
    # 19 normals: not one may pass; 5 % of 19 is less than 1.
    assert metrics.threshold_at_fpr(normals[:19], np.zeros(19)) > 0.9
    # All tied: calling one defective would call all.
    assert metrics.threshold_at_fpr(np.full(40, 0.3), np.zeros(40)) > 0.3
    assert metrics.threshold_at_fpr([0.1, 0.2, 0.9], [0, 0, 1], max_fpr=1.0) == 0.1
    # 0.29 of 100 is 29 alarms, though 0.29 * 100 is less than 29 in floating point.
    hundred = np.arange(100.0)
    assert np.sum(hundred >= metrics.threshold_at_fpr(hundred, np.zeros(100), 0.29)) == 29


def test_threshold_holds_in_float32() -> None:
    """No float32 lies between neighbours: their middle rounds to one of them, or the other."""
    first = np.float32(0.7)
    second = np.nextafter(first, np.float32(1))
    third = np.nextafter(second, np.float32(1))
    for scores in ([first, second], [second, third], [first]):
        values = np.array(scores, dtype=np.float32)
        labels = np.arange(len(values))
        threshold = metrics.threshold_at_fpr(values, labels)
        expected = labels.astype(bool).tolist()
        assert (values >= threshold).tolist() == expected
        assert (torch.tensor(values) >= threshold).tolist() == expected
        assert (values.astype(np.float64) >= threshold).tolist() == expected


def test_undefined_is_nan() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = metrics.classification_report([0.2, 0.3], [0, 0], 0.5)
        assert report["accuracy"] == 1.0
        for name in ("precision", "recall", "f1", "auroc", "average_precision"):
            assert math.isnan(report[name]), name
        assert math.isnan(report["recall_at_fpr05"])
        assert report["ece"] == pytest.approx(0.25)
        defective = metrics.classification_report([0.2, 0.7], [1, 1], 0.5)
        assert math.isnan(defective["auroc"])
        assert math.isnan(defective["recall_at_fpr01"])
        assert defective["recall"] == 0.5
        assert math.isnan(metrics.classification_report([3.0, -2.0], [1, 0], 0.0)["ece"])
        assert all(math.isnan(value) for value in metrics.classification_report([], []).values())


def test_report_names_and_agreement() -> None:
    scores, labels = draw(3)
    report = metrics.classification_report(torch.tensor(scores), torch.tensor(labels), 0.4)
    assert list(report) == [
        "accuracy",
        "precision",
        "recall",
        "f1",
        "auroc",
        "average_precision",
        "recall_at_fpr01",
        "recall_at_fpr05",
        "ece",
    ]
    assert report["recall"] == metrics.recall(scores, labels, 0.4)
    assert report["recall_at_fpr05"] == metrics.recall_at_fpr(scores, labels, 0.05)


def test_bad_input_names_what_was_found() -> None:
    with pytest.raises(ValueError, match=r"\(3,\) and \(2,\)"):
        metrics.auroc([0.1, 0.2, 0.3], [0, 1])
    with pytest.raises(ValueError, match="1 of 2"):
        metrics.auroc([0.1, math.nan], [0, 1])
    with pytest.raises(ValueError, match="labels must be 0 or 1"):
        metrics.auroc([0.1, 0.2], [1, 2])
    with pytest.raises(ValueError, match="2 samples, all defective"):
        metrics.threshold_at_fpr([0.1, 0.2], [1, 1])
    with pytest.raises(ValueError, match=r"found 1\.5"):
        metrics.recall_at_fpr([0.1, 0.2], [0, 1], 1.5)
    with pytest.raises(ValueError, match="from -1 to 2"):
        metrics.expected_calibration_error([-1.0, 2.0], [0, 1])


def test_multi_class_measures_by_hand() -> None:
    # crack: 1 hit, 1 of normal called so; normal: 1 hit; stain: missed.
    predicted, true = ["crack", "crack", "normal", "crack"], ["crack", "normal", "normal", "stain"]
    assert metrics.class_accuracy(predicted, true) == 0.5
    assert metrics.macro_f1(predicted, true) == pytest.approx((2 / 4 + 2 / 3 + 0) / 3)
    assert math.isnan(metrics.class_accuracy([], []))
    assert math.isnan(metrics.macro_f1([], []))
    with pytest.raises(ValueError, match="one length"):
        metrics.macro_f1([1, 2], [1])


def test_macro_f1_against_sklearn() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        predicted, true = rng.integers(0, 5, (2, 30))
        expected = sklearn.metrics.f1_score(true, predicted, average="macro")
        assert metrics.macro_f1(predicted, true) == pytest.approx(expected)


def test_verdicts_at_the_threshold() -> None:
    scores = np.array([[0.2, 0.5], [0.7, 0.49]])
    assert metrics.is_flagged(scores, 0.5).tolist() == [[False, True], [True, False]]
    assert metrics.is_flagged([1.0, 1.0], [0.5, 2.0]).tolist() == [True, False]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_verdict_needs_finite_numbers(bad: float) -> None:
    with pytest.raises(ValueError, match=r"finite scores, found 1 of 3 .*\(index 1\)"):
        metrics.is_flagged([0.1, bad, 0.2], 0.5)
    for function in (metrics.is_flagged, lambda s, t: metrics.recall(s, [1, 0], t)):
        with pytest.raises(ValueError, match="finite threshold"):
            function([0.1, 0.2], bad)


@pytest.mark.parametrize(
    ("predicted", "true", "message"),
    [([0, 1], ["0", "1"], "of one kind, numbers or names"), ([math.nan, 1], [0, 1], "found NaN")],
)
def test_classes_of_two_kinds_are_not_compared(predicted: Any, true: Any, message: str) -> None:
    for metric in (metrics.class_accuracy, metrics.macro_f1):
        with pytest.raises(ValueError, match=message):
            metric(predicted, true)


def test_calibration_needs_a_bin() -> None:
    with pytest.raises(ValueError, match="bins: expected at least 1, found 0"):
        metrics.expected_calibration_error([0.5], [1], bins=0)
