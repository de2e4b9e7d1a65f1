"""Ranking measures from one curve, for images and for tens of millions of pixels.

Recall changes only at scores of positives, so the curve is evaluated only there. Negatives are
counted in chunks, so that they are never in memory, or sorted, all at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class RankingCurve(NamedTuple):
    """Counts at T descending thresholds t; leading axes, if any, are resamples."""

    true: Array
    """(..., T) weight of the positives that score >= t."""
    false: Array
    """(..., T) number of negatives that score >= t."""
    false_above: Array
    """(..., T) number of negatives that score > t; the others of `false` tie with positives."""
    negatives: Array
    """(...) number of negatives in all."""


def ranking_curve(
    positives: Array, negatives: Iterable[Array], weights: Array | None = None
) -> RankingCurve:
    """Counts of positives and negatives at every distinct score of a positive.

    Args:
        positives: (P,) scores.
        negatives: chunks of scores; one chunk at a time is in memory.
        weights: (P,) of the positives, by default 1.
    """
    thresholds, place = np.unique(positives, return_inverse=True)
    gained = np.bincount(place, weights, minlength=len(thresholds))
    below = np.zeros(len(thresholds), dtype=np.int64)
    up_to = np.zeros(len(thresholds), dtype=np.int64)
    total = 0
    for chunk in negatives:
        ordered = np.sort(chunk)
        below += np.searchsorted(ordered, thresholds, side="left")
        up_to += np.searchsorted(ordered, thresholds, side="right")
        total += len(ordered)
    return RankingCurve(
        true=np.cumsum(gained[::-1]),
        false=(total - below)[::-1],
        false_above=(total - up_to)[::-1],
        negatives=np.asarray(total),
    )


def curve_auroc(curve: RankingCurve) -> Array:
    """P(s⁺ > s⁻) + P(s⁺ = s⁻) / 2, (...); NaN without positives or without negatives."""
    gained = np.diff(curve.true, axis=-1, prepend=0)
    below = curve.negatives[..., None] - (curve.false + curve.false_above) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        pairs = _last(curve.true) * curve.negatives
        return np.asarray((gained * below).sum(axis=-1) / pairs)


def curve_average_precision(curve: RankingCurve) -> Array:
    """Σ_t (R_t - R_{t-1}) P_t, (...), with recall R and precision P; no interpolation.

    Tied scores are one threshold. NaN without positives.
    """
    gained = np.diff(curve.true, axis=-1, prepend=0)
    flagged = curve.true + curve.false
    precision = np.divide(curve.true, flagged, out=np.zeros(flagged.shape), where=flagged > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((gained * precision).sum(axis=-1) / _last(curve.true))


def curve_partial_area(curve: RankingCurve, max_fpr: float) -> float:
    """Area under the ROC curve (T,) for false positive rates <= max_fpr, divided by max_fpr.

    The curve is piecewise linear and is interpolated at max_fpr. NaN without positives or without
    negatives.

    Raises:
        ValueError: max_fpr outside (0, 1].
    """
    if not 0 < max_fpr <= 1:
        raise ValueError(f"max_fpr must lie in (0, 1], found {max_fpr}")
    if len(curve.true) == 0 or curve.negatives == 0:
        return float("nan")
    true = np.concatenate([[0], curve.true]) / curve.true[-1]
    # Each threshold adds two corners: first to the right, then up, or diagonally for ties.
    x = np.stack([curve.false_above, curve.false], axis=1).ravel() / curve.negatives
    y = np.stack([true[:-1], true[1:]], axis=1).ravel()
    x, y = np.concatenate([[0], x, [1]]), np.concatenate([[0], y, [1]])
    last = int(np.searchsorted(x, max_fpr, side="right")) - 1
    area = float((np.diff(x[: last + 1]) * (y[:last] + y[1 : last + 1])).sum() / 2)
    if x[last] < max_fpr:
        step = max_fpr - x[last]
        slope = (y[last + 1] - y[last]) / (x[last + 1] - x[last])
        area += float(step * (y[last] + slope * step / 2))
    return area / max_fpr


def _last(values: Array) -> Array:
    """The total (...) of a cumulative sum (..., T); 0 where T is 0."""
    return values[..., -1] if values.shape[-1] else np.zeros(values.shape[:-1])
