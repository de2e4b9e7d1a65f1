"""The focal loss of one sample, its gradient, and the probabilities that minimise it.

`FL(p) = -(1 - p)^gamma log p` for the probability p of the true class; gamma 0 is cross-entropy.
Source: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017; the derivations are ours.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]


def focal_factor(p: ArrayLike, gamma: float) -> Array:
    """Focal loss over cross-entropy, `(1 - p)^gamma`: p in [0, 1] of any shape, result alike."""
    return np.asarray((1 - _probability(p)) ** gamma)


def focal_gradient_factor(p: ArrayLike, gamma: float) -> Array:
    """Gradient of the focal loss over that of cross-entropy, for p in [0, 1); any shape.

    Both by the log-odds of the true class, where cross-entropy has `-(1 - p)`. By the product rule
    the focal loss has `-(1 - p)^gamma (1 - p - gamma p log p)`, so the ratio is
    `(1 - p)^gamma (1 - gamma p log(p) / (1 - p))`. It lies above `focal_factor`, up to
    `1 + gamma` times where p nears 1; it exceeds 1 where the loss is small but steep.
    """
    values = _probability(p)
    if (values == 1).any():
        raise ValueError("focal_gradient_factor: at p = 1 both gradients are 0; give p below 1")
    with np.errstate(divide="ignore", invalid="ignore"):
        steep = np.where(values > 0, -values * np.log(values) / (1 - values), 0.0)
    return np.asarray((1 - values) ** gamma * (1 + gamma * steep))


def focal_optimum(share: ArrayLike, gamma: float, steps: int = 60) -> Array:
    """The probability that minimises the expected focal loss where a share of samples is defective.

    `argmin_q s FL(q) + (1 - s) FL(1 - q)` for shares s in (0, 1), found by bisection of its slope;
    `s` itself for gamma 0, and nearer to 1/2 for any other.
    """
    wanted = _probability(share)
    low, high = np.zeros_like(wanted), np.ones_like(wanted)
    for _ in range(steps):
        middle = (low + high) / 2
        up = wanted * (1 - middle) * focal_gradient_factor(middle, gamma)
        down = (1 - wanted) * middle * focal_gradient_factor(1 - middle, gamma)
        low, high = np.where(up > down, middle, low), np.where(up > down, high, middle)
    return np.asarray((low + high) / 2)


def shift_prior(p: ArrayLike, learned: float, met: float) -> Array:
    """Defect probabilities learned where a share `learned` is defective, for where `met` is.

    The odds are multiplied by `met / (1 - met)` over `learned / (1 - learned)`: Bayes' rule where
    the images of each class stay as they are and only their shares change. p in [0, 1], any shape.
    """
    if not (0 < learned < 1 and 0 < met < 1):
        raise ValueError(f"shift_prior: expected shares inside (0, 1), got {learned} and {met}")
    values = _probability(p)
    defective, normal = values * met / learned, (1 - values) * (1 - met) / (1 - learned)
    return np.asarray(defective / (defective + normal))


def _probability(values: ArrayLike) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if array.size and not (array.min() >= 0 and array.max() <= 1):
        raise ValueError(
            f"expected probabilities in [0, 1], got values from {array.min():g} to {array.max():g}"
        )
    return array
