"""Ranking measures from one curve, for images and for tens of millions of pixels alike.

Only the scores of positives can change recall, so the curve is evaluated at those alone, and
negatives are counted in chunks: they are never held, or sorted, together.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class RankingCurve(NamedTuple):
    """Counts at T descending thresholds t; leading axes, where there are any, are resamples."""

    true: Array
    """(..., T) weight of the positives that score >= t."""
    false: Array
    """(..., T) number of negatives that score >= t."""
    false_above: Array
    """(..., T) number of negatives that score > t; the rest of `false` ties with positives."""
    negatives: Array
    """(...) number of negatives in all."""


def ranking_curve(
    positives: Array, negatives: Iterable[Array], weights: Array | None = None
) -> RankingCurve:
    """Count positives and negatives at every distinct score of a positive.

    positives (P,) scores; negatives: chunks of scores, each sorted in turn; weights (P,), by
    default 1. Memory is that of the positives and of one chunk.
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
    """P(positive scores higher than negative) + P(tie) / 2, (...); NaN if either is missing."""
    gained = np.diff(curve.true, axis=-1, prepend=0)
    beaten = curve.negatives[..., None] - (curve.false + curve.false_above) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        pairs = _last(curve.true) * curve.negatives
        return np.asarray((gained * beaten).sum(axis=-1) / pairs)


def curve_average_precision(curve: RankingCurve) -> Array:
    """Σ_t (recall_t - recall_{t-1}) · precision_t without interpolation, (...); NaN if no positive.

    A group of tied scores is one threshold.
    """
    gained = np.diff(curve.true, axis=-1, prepend=0)
    flagged = curve.true + curve.false
    precision = np.divide(curve.true, flagged, out=np.zeros(flagged.shape), where=flagged > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((gained * precision).sum(axis=-1) / _last(curve.true))


def curve_partial_area(curve: RankingCurve, max_fpr: float) -> float:
    """Area under (false share, true share) for false share <= max_fpr, divided by max_fpr.

    The curve (T,) is piecewise linear and is interpolated exactly at the limit. NaN if there
    are no positives or no negatives.
    """
    if not 0 < max_fpr <= 1:
        raise ValueError(f"max_fpr must lie in (0, 1], found {max_fpr}")
    if len(curve.true) == 0 or curve.negatives == 0:
        return float("nan")
    true = np.concatenate([[0], curve.true]) / curve.true[-1]
    # Each threshold adds two corners: level until its score is met, then up (slanted by ties).
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
