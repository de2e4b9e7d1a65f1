"""Platt scaling: calibrated probabilities from scores, with two parameters fit on held-out data."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit


class PlattScaling(NamedTuple):
    """Probability of a score s: `sigmoid(scale s + shift)`, with scale > 0."""

    scale: float
    shift: float

    def __call__(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Scores (N,) to probabilities (N,)."""
        return np.asarray(expit(self.scale * np.asarray(scores, dtype=np.float64) + self.shift))


IDENTITY = PlattScaling(1.0, 0.0)
"""The sigmoid of the score itself."""


def fit_platt(scores: ArrayLike, labels: ArrayLike, steps: int = 100) -> PlattScaling:
    """The maximum-likelihood `PlattScaling` of scores (N,) and labels (N,), 1 = defective.

    The labels are softened to `(N1 + 1) / (N1 + 2)` for the N1 defective and `1 / (N0 + 2)` for the
    N0 normal samples, because separable data would give an infinite scale. Optimised by at most
    `steps` damped Newton steps. The order of the scores is preserved: if one class is missing, or
    the best scale is not positive, the result is `IDENTITY`.

    Source: Platt, "Probabilistic outputs for support vector machines", 1999, with its softened
    labels.

    Raises:
        ValueError: scores that are not finite, or not as many labels as scores.
    """
    s, t = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=bool)
    if s.ndim != 1 or s.shape != t.shape or not np.isfinite(s).all():
        raise ValueError(
            f"fit_platt: expected finite scores (N,) and labels (N,), found shapes {s.shape} and "
            f"{t.shape}, {int((~np.isfinite(s)).sum())} scores not finite"
        )
    positive, negative = int(t.sum()), int((~t).sum())
    if not positive or not negative or np.ptp(s) == 0:
        return IDENTITY
    target = np.where(t, (positive + 1) / (positive + 2), 1 / (negative + 2))
    # Standardised scores give well-scaled Newton steps.
    centre, width = float(s.mean()), float(s.std())
    design = np.stack([(s - centre) / width, np.ones_like(s)])

    def loss(w: NDArray[np.float64]) -> float:
        z = w @ design
        return float((np.logaddexp(0, z) - target * z).sum())

    w = np.array([0.0, float(np.log((positive + 1) / (negative + 1)))])
    for _ in range(steps):
        p = expit(w @ design)
        gradient = design @ (p - target)
        if np.abs(gradient).max() < 1e-9:
            break
        hessian = (design * (p * (1 - p))) @ design.T + 1e-12 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        size = 1.0
        while loss(w - size * step) > loss(w) and size > 1e-6:
            size /= 2
        w = w - size * step
    scale = float(w[0]) / width
    return PlattScaling(scale, float(w[1]) - scale * centre) if scale > 0 else IDENTITY


def to_logits(probabilities: ArrayLike, edge: float = 1e-7) -> NDArray[np.float64]:
    """Logits (N,) of probabilities (N,), which are clipped to [edge, 1 - edge]."""
    values = np.asarray(probabilities, dtype=np.float64)
    return np.asarray(logit(np.clip(values, edge, 1 - edge)))
