"""Scores of uncertainty from predicted probabilities: the highest scores are labelled first.

Probabilities are (N, K) with rows that sum to 1: N images of the pool, K classes. Others raise the
`ValueError` of `checked_probabilities`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Scores = NDArray[np.float64]
Rows = NDArray[np.int64]


def checked_probabilities(probabilities: ArrayLike, dimensions: int = 2) -> Scores:
    """Probabilities as float64.

    Raises:
        ValueError: another number of axes, fewer than two classes, values outside [0, 1], or rows
            that don't sum to 1.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    shape = "(N, K)" if dimensions == 2 else "(T, N, K)"
    if p.ndim != dimensions or p.shape[-1] < 2:
        raise ValueError(
            f"expected probabilities {shape} of at least two classes, got shape {p.shape}"
        )
    if p.size and not (p.min() >= 0 and np.allclose(p.sum(-1), 1, atol=1e-4)):
        raise ValueError(
            f"expected probabilities {shape} in [0, 1] that sum to 1 over the classes, got values "
            f"from {p.min():g} to {p.max():g}; apply softmax first"
        )
    return p


def _entropy(p: Scores) -> Scores:
    logs = np.log(p, out=np.zeros_like(p), where=p > 0)  # 0 log 0 = 0
    return np.asarray(-(p * logs).sum(-1))


def entropy(probabilities: ArrayLike) -> Scores:
    """`H(p) = -sum_k p_k ln p_k`, (N, K) to (N,) in [0, ln K]."""
    return _entropy(checked_probabilities(probabilities))


def margin(probabilities: ArrayLike) -> Scores:
    """`1 - (p_first - p_second)`, (N, K) to (N,) in [0, 1]; 1 where the two best classes tie."""
    p = np.partition(checked_probabilities(probabilities), -2, axis=1)
    return np.asarray(1 - (p[:, -1] - p[:, -2]))


def bald(samples: ArrayLike) -> Scores:
    """`H(mean_t p_t) - mean_t H(p_t)`, (T, N, K) to (N,) in [0, ln K].

    T predictions of models drawn from the posterior, such as an ensemble or passes with dropout.
    It is high where each model is certain and they disagree, and 0 where all agree.

    Source: Houlsby et al., "Bayesian Active Learning for Classification and Preference Learning",
    2011, arXiv:1112.5745.
    """
    p = checked_probabilities(samples, 3)
    return np.asarray(np.maximum(_entropy(p.mean(0)) - _entropy(p).mean(0), 0))


def highest(scores: ArrayLike, budget: int) -> Rows:
    """Rows of the `budget` highest scores (N,), highest first; of equal scores the first row.

    Raises:
        ValueError: scores that are not (N,) or have NaN, or a budget outside 0 … N.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or np.isnan(values).any():
        raise ValueError(
            f"expected scores (N,) without NaN, got shape {values.shape} with "
            f"{int(np.isnan(values).sum())} NaN"
        )
    check_budget(budget, len(values))
    return np.argsort(-values, kind="stable")[:budget].astype(np.int64)


def check_budget(budget: int, count: int) -> None:
    """Raise `ValueError` unless 0 <= budget <= count, a whole number."""
    if isinstance(budget, bool) or not isinstance(budget, int | np.integer):
        raise ValueError(f"budget: expected a whole number, got {budget!r}")
    if not 0 <= budget <= count:
        raise ValueError(
            f"budget: expected 0 to {count}, the number of images in the pool, got {budget}"
        )
