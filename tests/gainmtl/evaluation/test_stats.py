"""Intervals with their nominal coverage, and tests with their nominal rejection rate."""

from __future__ import annotations

import math
import time
from itertools import product

import numpy as np
import pytest
from scipy import stats as peer

from gainmtl import metrics
from gainmtl.evaluation import stats


def mean(values: np.ndarray) -> float:
    return float(values.mean())


def photographed(
    generator: np.random.Generator, parts: int = 40, shots: int = 6
) -> tuple[np.ndarray, np.ndarray]:
    """Groups and values: images of one part differ little, parts differ much; true mean 0."""
    groups = np.repeat(np.arange(parts), shots)
    values = generator.normal(size=parts)[groups] + 0.3 * generator.normal(size=parts * shots)
    return groups, values


def test_weights_draw_whole_groups() -> None:
    groups = ["b", "a", "b", "c", "a", "b"]
    weights = stats.resample_weights(groups, resamples=500, seed=3)
    assert weights.shape == (500, 6)
    assert np.array_equal(weights[:, 0], weights[:, 2])
    assert np.array_equal(weights[:, 0], weights[:, 5])
    assert np.array_equal(weights[:, 1], weights[:, 4])
    # One image of each group: three groups drawn in every resample, each once on average.
    drawn = weights[:, [0, 1, 3]]
    assert (drawn.sum(axis=1) == 3).all()
    assert drawn.mean(axis=0).tolist() == pytest.approx([1, 1, 1], abs=0.15)
    assert np.array_equal(weights, stats.resample_weights(groups, resamples=500, seed=3))
    assert not np.array_equal(weights, stats.resample_weights(groups, resamples=500, seed=4))


def test_interval_by_enumeration() -> None:
    """Three groups have 27 equally likely resamples: quantiles can be counted."""
    values, groups = np.array([0.0, 0.0, 3.0, 9.0]), [0, 0, 1, 2]
    blocks = [values[:2], values[2:3], values[3:]]
    means = sorted(
        mean(np.concatenate([blocks[i] for i in ids])) for ids in product(range(3), repeat=3)
    )
    # Both quantiles lie well inside a step of the distribution: .6 holds ranks 2-4, 7 ranks 24-26.
    low, high = np.quantile(means, [0.1, 0.9], method="inverted_cdf")
    assert (low, high) == pytest.approx((0.6, 7))
    interval = stats.bootstrap_interval(mean, groups, values, resamples=4000, confidence=0.8)
    assert interval == pytest.approx((3, low, high, 4, 0))


def test_intervals_over_groups_cover_and_intervals_over_images_do_not() -> None:
    generator = np.random.default_rng(0)
    covered = {"groups": 0, "images": 0}
    for _ in range(200):
        groups, values = photographed(generator)
        for unit, labels in (("groups", groups), ("images", np.arange(len(values)))):
            low, high = stats.bootstrap_interval(mean, labels, values, resamples=200)[1:3]
            covered[unit] += low <= 0 <= high
    # Percentile intervals with 40 groups fall a little short of 95 %; 200 runs: sd 1.7 %.
    assert 0.88 <= covered["groups"] / 200 <= 0.99
    assert covered["images"] / 200 < 0.7


def test_undefined_resamples_are_dropped_and_counted() -> None:
    scores, labels = np.array([0.1, 0.4, 0.6, 0.9]), np.array([0, 0, 0, 1])
    interval = stats.bootstrap_interval(
        metrics.auroc, range(4), scores, labels, resamples=1000, seed=1
    )
    weights = stats.resample_weights(range(4), 1000, seed=1)
    # Undefined where the one defect is not drawn, or nothing else is.
    assert interval.dropped == int(((weights[:, 3] == 0) | (weights[:, 3] == 4)).sum()) > 0
    assert (interval.value, interval.low, interval.high) == (1, 1, 1)
    never = stats.bootstrap_interval(metrics.auroc, range(4), scores, np.zeros(4), resamples=10)
    assert math.isnan(never.value)
    assert math.isnan(never.low)
    assert never.dropped == 10
    alone = stats.bootstrap_interval(mean, ["a"] * 4, scores, resamples=10)
    assert alone.value == 0.5
    assert math.isnan(alone.low)
    assert math.isnan(alone.high)


def test_weighted_statistics_use_the_same_resamples() -> None:
    groups, values = photographed(np.random.default_rng(1))
    weights = stats.resample_weights(groups, seed=5)
    replicates = weights @ values / weights.sum(axis=1)
    apart = stats.percentile_interval(mean(values), replicates, groups)
    assert apart == pytest.approx(stats.bootstrap_interval(mean, groups, values, seed=5))


def test_pairing_removes_shared_variation() -> None:
    generator = np.random.default_rng(2)
    groups, common = photographed(generator)
    a = common + 0.1 + 0.1 * generator.normal(size=len(common))
    paired = stats.paired_interval(mean, groups, a, common)
    assert paired.value == pytest.approx(mean(a) - mean(common))
    assert paired.low > 0
    assert paired.p_value < 0.01
    separate = stats.bootstrap_interval(mean, groups, a)
    assert paired.high - paired.low < (separate.high - separate.low) / 5
    # The difference of means is the mean of differences.
    single = stats.bootstrap_interval(mean, groups, a - common)
    assert paired[:4] == pytest.approx(single[:4])
    reversed_ = stats.paired_interval(mean, groups, common, a)
    assert (reversed_.low, reversed_.high) == pytest.approx((-paired.high, -paired.low))
    assert reversed_.p_value == paired.p_value


def test_equal_systems_do_not_differ() -> None:
    groups, values = photographed(np.random.default_rng(3))
    paired = stats.paired_interval(mean, groups, values, values.copy(), resamples=100)
    assert (paired.value, paired.low, paired.high, paired.p_value) == (0, 0, 0, 1)


def test_the_null_hypothesis_is_rejected_at_the_nominal_rate() -> None:
    generator = np.random.default_rng(5)
    rejected = 0
    for _ in range(200):
        groups, a = photographed(generator, parts=25, shots=2)
        _, b = photographed(generator, parts=25, shots=2)
        p_value = stats.paired_interval(mean, groups, a, b, resamples=199).p_value
        rejected += p_value <= 0.1
    assert 0.04 <= rejected / 200 <= 0.17


def test_shared_arrays_and_measures_with_labels() -> None:
    generator = np.random.default_rng(6)
    groups = np.repeat(np.arange(60), 3)
    labels = (np.arange(60) < 25)[groups]
    good = labels + generator.normal(size=180) * 0.5
    poor = labels + generator.normal(size=180) * 3
    paired = stats.paired_interval(metrics.auroc, groups, good, poor, shared=(labels,))
    assert paired.value == metrics.auroc(good, labels) - metrics.auroc(poor, labels)
    assert paired.low > 0
    assert paired.p_value < 0.01
    assert paired.n == 180


def test_a_thousand_images_take_seconds() -> None:
    generator = np.random.default_rng(7)
    groups, labels = generator.integers(0, 179, 1007), generator.random(1007) < 0.35
    scores = labels + generator.normal(size=1007)
    start = time.perf_counter()
    stats.bootstrap_interval(metrics.auroc, groups, scores, labels, resamples=2000)
    assert time.perf_counter() - start < 3


def test_means() -> None:
    values = [0.2, 0.4, 1.0, math.nan, math.nan]
    types = ["crack", "crack", "hole", "hole", "normal"]
    assert stats.mean_over_types(values, types) == pytest.approx((0.3 + 1.0) / 2)
    assert stats.mean_defined(values) == pytest.approx(1.6 / 3)
    assert math.isnan(stats.mean_over_types([math.nan], ["normal"]))
    assert math.isnan(stats.mean_defined([]))


def test_impossible_arguments() -> None:
    with pytest.raises(ValueError, match=r"groups \(3,\) and arrays \[\(2,\)\]"):
        stats.bootstrap_interval(mean, [0, 1, 2], [0.1, 0.2])
    with pytest.raises(ValueError, match="got 0 images and 2000 resamples"):
        stats.resample_weights([])
    with pytest.raises(ValueError, match="expected a number between 0 and 1, got 95"):
        stats.bootstrap_interval(mean, [0, 1], [0.1, 0.2], confidence=95)
    with pytest.raises(ValueError, match=r"expected values \(N,\) and types \(N,\)"):
        stats.mean_over_types([0.1, 0.2], ["crack"])


def test_student_interval_by_hand_and_by_scipy() -> None:
    values = [0.1, 0.4, 0.2, 0.5, 0.3, math.nan]
    found = stats.student_interval(values)
    # s = 0.1581, s / sqrt 5 = 0.0707, t = 2.776
    assert found[:3] == pytest.approx((0.3, 0.3 - 0.1963, 0.3 + 0.1963), abs=1e-4)
    assert (found.n, found.dropped) == (5, 1)
    other = peer.ttest_1samp(values[:5], 0).confidence_interval()
    assert found[1:3] == pytest.approx((other.low, other.high))
    assert math.isnan(stats.student_interval([0.5]).low)
    assert math.isnan(stats.student_interval([]).value)
    assert stats.student_interval([0.0, 0.0])[:3] == (0, 0, 0)


def test_student_interval_has_its_nominal_coverage_with_five_values() -> None:
    generator = np.random.default_rng(0)
    draws = generator.normal(1.0, 2.0, (2000, 5))
    hits = [found.low < 1 < found.high for found in map(stats.student_interval, draws)]
    assert 0.93 < np.mean(hits) < 0.97
    narrow = [stats.bootstrap_interval(mean, range(5), draw, resamples=200) for draw in draws[:300]]
    assert np.mean([found.low < 1 < found.high for found in narrow]) < 0.9
