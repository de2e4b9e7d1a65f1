"""Two numbers that turn a score into a probability, from data that training did not see."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit


class Line(NamedTuple):
    """The probability of a score s is `sigmoid(scale s + shift)`, scale > 0."""

    scale: float
    shift: float

    def __call__(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Scores (N,) to probabilities (N,)."""
        return np.asarray(expit(self.scale * np.asarray(scores, dtype=np.float64) + self.shift))


AS_IT_IS = Line(1.0, 0.0)


def platt(scores: ArrayLike, labels: ArrayLike, steps: int = 100) -> Line:
    """The most likely `Line` for scores (N,), unbounded, and labels (N,), 1 = defective.

    Maximises the likelihood of softened labels, `(N1 + 1) / (N1 + 2)` for the N1 defective and
    `1 / (N0 + 2)` for the N0 normal ones, without which separable data would ask for an infinite
    scale; damped Newton steps. The order of the scores is kept: where one class is missing, or the
    best scale is not positive, the answer is `AS_IT_IS`.

    Source: Platt, "Probabilistic outputs for support vector machines", 1999; the softened labels
    are his.
    """
    s, t = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=bool)
    if s.ndim != 1 or s.shape != t.shape or not np.isfinite(s).all():
        raise ValueError(
            f"platt: expected finite scores and as many labels, found {s.shape} and {t.shape}"
        )
    positive, negative = int(t.sum()), int((~t).sum())
    if not positive or not negative or np.ptp(s) == 0:
        return AS_IT_IS
    target = np.where(t, (positive + 1) / (positive + 2), 1 / (negative + 2))
    # On standardised scores, where the Newton steps are well scaled.
    centre, width = float(s.mean()), float(s.std())
    design = np.stack([(s - centre) / width, np.ones_like(s)])

    def loss(found: NDArray[np.float64]) -> float:
        z = found @ design
        return float((np.logaddexp(0, z) - target * z).sum())

    found = np.array([0.0, float(np.log((positive + 1) / (negative + 1)))])
    for _ in range(steps):
        p = expit(found @ design)
        gradient = design @ (p - target)
        if np.abs(gradient).max() < 1e-9:
            break
        hessian = (design * (p * (1 - p))) @ design.T + 1e-12 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        size = 1.0
        while loss(found - size * step) > loss(found) and size > 1e-6:
            size /= 2
        found = found - size * step
    scale = float(found[0]) / width
    return Line(scale, float(found[1]) - scale * centre) if scale > 0 else AS_IT_IS


def logits_of(probabilities: ArrayLike, edge: float = 1e-7) -> NDArray[np.float64]:
    """Probabilities (N,) to logits (N,), none beyond those of `edge` and `1 - edge`."""
    values = np.asarray(probabilities, dtype=np.float64)
    return np.asarray(logit(np.clip(values, edge, 1 - edge)))
