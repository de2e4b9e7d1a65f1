"""Intervals and tests over groups, because images of one part are not independent observations.

A statistic is a function of arrays whose first axis is the N images. The bootstrap draws groups of
images with replacement (Efron and Tibshirani, 1993), so the width of an interval depends on the
number of *parts*, not on the number of photographs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

Array = NDArray[Any]
Statistic = Callable[..., float]


class Interval(NamedTuple):
    """A value and its percentile bootstrap interval."""

    value: float
    """The statistic on all images."""
    low: float
    high: float
    """NaN, like `low`, with fewer than two groups or where every resample is undefined."""
    n: int
    """Number of images."""
    dropped: int = 0
    """Resamples whose statistic is NaN, for example because they have one class only. The interval
    leaves them out, and is too narrow if there are many."""

    @property
    def ends(self) -> dict[str, Any]:
        """Columns `ci_low`, `ci_high` and `n` of a result row."""
        return {"ci_low": self.low, "ci_high": self.high, "n": self.n}


class PairedInterval(NamedTuple):
    """A difference between two systems on the same images."""

    value: float
    """statistic(a) - statistic(b)."""
    low: float
    high: float
    n: int
    p_value: float
    """Two-sided, of the hypothesis that the difference is zero."""
    dropped: int = 0

    @property
    def ends(self) -> dict[str, Any]:
        """As in `Interval`."""
        return {"ci_low": self.low, "ci_high": self.high, "n": self.n}


def resample_weights(groups: ArrayLike, resamples: int = 2000, seed: int = 0) -> Array:
    """(R, N) int64: how often each image occurs when whole groups are drawn with replacement.

    groups (N,) any labels. Equal arguments give equal draws, so different statistics and different
    systems are computed on the same resamples.
    """
    names, place = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) == 0 or resamples < 1:
        raise ValueError(
            f"expected at least one image and one resample, got {len(place)} images and "
            f"{resamples} resamples"
        )
    generator = np.random.default_rng(seed)
    counts = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), resamples)
    return np.asarray(counts[:, place], dtype=np.int64)


def percentile_interval(
    value: float, replicates: ArrayLike, groups: ArrayLike, confidence: float = 0.95
) -> Interval:
    """The interval from the statistic's values (R,) on the resamples.

    For statistics with weights, such as `PixelHistogram.auroc(resample_weights(groups))`.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: expected a number between 0 and 1, got {confidence}")
    values, labels = np.asarray(replicates, dtype=np.float64), np.asarray(groups)
    defined = values[~np.isnan(values)]
    dropped = len(values) - len(defined)
    # With one group all resamples are equal, and an interval of width zero would be meaningless.
    if len(defined) == 0 or len(np.unique(labels)) < 2:
        return Interval(value, math.nan, math.nan, len(labels), dropped)
    tail = (1 - confidence) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return Interval(value, float(low), float(high), len(labels), dropped)


def bootstrap_interval(
    statistic: Statistic,
    groups: ArrayLike,
    *arrays: ArrayLike,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """statistic(*arrays) with its percentile interval over resampled groups.

    groups (N,), arrays (N, ...). Raises ValueError where lengths differ.
    """
    names, columns = _columns(groups, arrays)
    draws = _draws(names, resamples, seed)
    replicates = [statistic(*(column[draw] for column in columns)) for draw in draws]
    return percentile_interval(float(statistic(*columns)), replicates, names, confidence)


def paired_interval(
    statistic: Statistic,
    groups: ArrayLike,
    a: ArrayLike,
    b: ArrayLike,
    shared: Sequence[ArrayLike] = (),
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> PairedInterval:
    """statistic(a, *shared) - statistic(b, *shared), both on the same resampled groups.

    a and b (N, ...) are values of two systems for the same images, such as scores; `shared` are
    values of the images, such as labels. The p-value inverts the interval: with d* the resampled
    differences, `p = 2 min(P(d* <= 0), P(d* >= 0))`, each share (count + 1) / (R + 1), at most 1.
    """
    names, columns = _columns(groups, (a, b, *shared))

    def difference(first: Array, second: Array, *rest: Array) -> float:
        return statistic(first, *rest) - statistic(second, *rest)

    draws = _draws(names, resamples, seed)
    replicates = np.array([difference(*(column[draw] for column in columns)) for draw in draws])
    interval = percentile_interval(float(difference(*columns)), replicates, names, confidence)
    p_value = math.nan
    if not math.isnan(interval.low):
        defined = replicates[~np.isnan(replicates)]
        fewer = min(int((defined <= 0).sum()), int((defined >= 0).sum()))
        p_value = min(1.0, 2 * (fewer + 1) / (len(defined) + 1))
    return PairedInterval(*interval[:4], p_value, interval.dropped)


def student_interval(values: ArrayLike, confidence: float = 0.95) -> Interval:
    """The mean of a few independent runs with Student's interval, mean ± t(n-1) s / √n.

    For values by seed, because a percentile bootstrap of five values is too narrow by a third. NaN
    values are left out and counted in `dropped`; with fewer than two others the ends are NaN.
    """
    array = np.asarray(values, dtype=np.float64)
    defined = array[~np.isnan(array)]
    n, dropped = len(defined), len(array) - len(defined)
    mean = float(defined.mean()) if n else math.nan
    if n < 2:
        return Interval(mean, math.nan, math.nan, n, dropped)
    quantile = float(stdtrit(n - 1, (1 + confidence) / 2))
    reach = quantile * float(defined.std(ddof=1)) / math.sqrt(n)
    return Interval(mean, mean - reach, mean + reach, n, dropped)


def mean_defined(values: ArrayLike) -> float:
    """The mean of the values that are not NaN; NaN if there is none."""
    array = np.asarray(values, dtype=np.float64)
    defined = array[~np.isnan(array)]
    return float(defined.mean()) if len(defined) else math.nan


def mean_over_types(values: ArrayLike, types: ArrayLike) -> float:
    """The unweighted mean over defect types of the mean within the type.

    values (N,), types (N,). NaN values are left out first, so a type with NaN only, such as normal
    images in a map measure, does not count; NaN if no value remains.
    """
    array, labels = np.asarray(values, dtype=np.float64), np.asarray(types)
    if array.shape != labels.shape or array.ndim != 1:
        raise ValueError(
            f"expected values (N,) and types (N,), got {array.shape} and {labels.shape}"
        )
    defined = ~np.isnan(array)
    if not defined.any():
        return math.nan
    _, place = np.unique(labels[defined], return_inverse=True)
    return float((np.bincount(place, array[defined]) / np.bincount(place)).mean())


def _columns(groups: ArrayLike, arrays: Sequence[ArrayLike]) -> tuple[Array, list[Array]]:
    names, columns = np.asarray(groups), [np.asarray(array) for array in arrays]
    lengths = [column.shape[:1] for column in columns]
    if names.ndim != 1 or not columns or any(length != names.shape for length in lengths):
        raise ValueError(
            f"expected groups (N,) and arrays (N, ...), one entry per image, got groups "
            f"{names.shape} and arrays {[column.shape for column in columns]}"
        )
    return names, columns


def _draws(groups: Array, resamples: int, seed: int) -> list[Array]:
    """Image indices of each resample."""
    images = np.arange(len(groups))
    return [np.repeat(images, counts) for counts in resample_weights(groups, resamples, seed)]
