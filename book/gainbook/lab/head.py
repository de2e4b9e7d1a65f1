"""The trained head: softmax regression on frozen features, fitted to its optimum."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

Array = NDArray[np.float64]
Classes = NDArray[np.int64]

DECAY = 0.01
"""Weight decay of chapter 14's heads. Chosen on the validation parts, see
`tools/active_learning.py`."""


class Head(NamedTuple):
    """Logits `x W^T + b`."""

    weight: Array
    """(K, D); its rows sum to 0, because decay leaves no other optimum."""
    bias: Array
    """(K,)."""

    def probabilities(self, features: NDArray[np.floating]) -> Array:
        """(N, D) to (N, K)."""
        return np.asarray(softmax(features @ self.weight.T + self.bias, axis=1))


def fit_head(
    features: NDArray[np.floating],
    labels: Classes,
    num_classes: int,
    decay: float = DECAY,
    weights: Array | None = None,
    start: Head | None = None,
    tolerance: float = 1e-4,
) -> Head:
    """The minimum of `sum_i w_i CE_i / sum_i w_i + decay / 2 |W|^2` by L-BFGS.

    The loss is convex: the first weights decide how long it takes, not where it ends.

    Args:
        features: (N, D).
        labels: (N,) 0 … K - 1.
        num_classes: K; a class without an example is allowed.
        decay: on the weights, not on the biases.
        weights: (N,) of the examples; `None`: all 1.
        start: the first weights; `None`: 0.
        tolerance: of the gradient at the minimum.
    """
    x = np.asarray(features, dtype=np.float64)
    count, width = x.shape
    share = np.ones(count) if weights is None else np.asarray(weights, dtype=np.float64)
    share = share / share.sum()
    target = np.eye(num_classes)[labels]

    def loss(flat: Array) -> tuple[float, Array]:
        weight = flat[: num_classes * width].reshape(num_classes, width)
        logs = log_softmax(x @ weight.T + flat[num_classes * width :], axis=1)
        error = share[:, None] * (np.exp(logs) - target)
        value = -float(share @ logs[np.arange(count), labels])
        gradient = error.T @ x + decay * weight
        value += decay / 2 * float((weight**2).sum())
        return value, np.concatenate([gradient.ravel(), error.sum(0)])

    first = np.zeros(num_classes * (width + 1))
    if start is not None:
        first = np.concatenate([start.weight.ravel(), start.bias])
    options = {"maxiter": 200, "ftol": 1e-8, "gtol": tolerance}
    found = minimize(loss, first, jac=True, method="L-BFGS-B", options=options).x
    return Head(found[: num_classes * width].reshape(num_classes, width), found[-num_classes:])
