"""The compared methods: each chooses rows of the pool from what a head computes of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gainbook.chapters.ch14_active.features import VIEWS, Levels, weighted_sum
from gainbook.lab.head import Array, Classes, Head, fit_head
from gainmtl import active

Rows = NDArray[np.int64]

ENSEMBLE = 5
"""Heads of BALD's ensemble."""


class Pool:
    """What a method may use: the images without a label, the labelled ones, and the head.

    Args:
        head: trained on the labelled images.
        features: (N, D) standardised features of the candidates.
        levels: their feature maps by view.
        centre, scale: (D,) of the standardisation.
        masks: (N, h, w) annotated masks, used by "activation_masks" alone; or `None`.
        labelled: (M, D) features and (M,) classes of the labelled images.
        rng: of this round.
    """

    def __init__(
        self,
        head: Head,
        features: NDArray[np.floating],
        levels: Callable[[str], Levels],
        centre: NDArray[np.floating],
        scale: NDArray[np.floating],
        masks: NDArray[np.bool_] | None,
        labelled: tuple[NDArray[np.floating], Classes],
        rng: np.random.Generator,
    ) -> None:
        self.head, self.features, self.rng = head, features, rng
        self.known, self.known_classes = labelled
        self._levels, self._masks, self._centre, self._scale = levels, masks, centre, scale
        self.num_classes = len(head.bias)

    @cached_property
    def probabilities(self) -> Array:
        """(N, K)."""
        return self.head.probabilities(self.features)

    @cached_property
    def predicted(self) -> Classes:
        """(N,)."""
        return self.probabilities.argmax(1).astype(np.int64)

    @cached_property
    def samples(self) -> Array:
        """(T, N, K) predictions of the ensemble."""
        heads = fit_ensemble(
            self.known, self.known_classes, self.num_classes, ENSEMBLE, self.rng, self.head
        )
        return np.stack([head.probabilities(self.features) for head in heads])

    def maps(self, view: str = VIEWS[0]) -> Array:
        """(N, h, w): the class activation map of the predicted class.

        `A = sum_c W_c (F_c - mean_c) / sd_c` on the grid; its mean over the cells is the class's
        logit without the bias. Its positive part is Grad-CAM at the standardised features.
        """
        weight = self.head.weight[self.predicted] / self._scale
        level = (weight * self._centre).sum(1)
        summed = weighted_sum(self._levels(view), weight.astype(np.float32))
        return np.asarray(summed - level[:, None, None], dtype=np.float64)

    @cached_property
    def risk(self) -> Array:
        """(N,) `1 - activation score` without masks: concentration, and agreement of the views."""
        plain = self.maps()
        flipped = self.maps("flipped")[:, :, ::-1]
        shifted = self.maps("shifted")[:, :, 1:]  # moved right by one cell of this grid
        pairs = (plain, flipped), (plain[:, :, :-1], shifted)
        return 1 - active.score_without_masks(plain, *pairs)

    @cached_property
    def risk_with_masks(self) -> Array:
        """(N,) `1 - activation score` with the annotated masks.

        Raises:
            ValueError: the images have no masks.
        """
        if self._masks is None:
            raise ValueError(
                "method: expected masks of the pool, found none; use a method without masks"
            )
        return 1 - active.score_with_masks(self.maps(), self._masks)

    def by_class(self, scores: Array, budget: int) -> Rows:
        """The highest scores of each predicted class; classes by their mean score."""
        return active.highest_by_class(scores, self.predicted, self.num_classes, budget)


class Method(NamedTuple):
    """A way to choose."""

    label: str
    choose: Callable[[Pool, int], Rows]
    """A pool and a budget to rows of the candidates."""


METHODS = {
    "random": Method(
        "random", lambda pool, budget: active.uniform(len(pool.features), budget, pool.rng)
    ),
    "class_balanced": Method(
        "class-balanced random",
        lambda pool, budget: active.class_balanced(
            pool.predicted, pool.known_classes, pool.num_classes, budget, pool.rng
        ),
    ),
    "entropy": Method(
        "entropy",
        lambda pool, budget: active.highest(active.entropy(pool.probabilities), budget),
    ),
    "margin": Method(
        "margin", lambda pool, budget: active.highest(active.margin(pool.probabilities), budget)
    ),
    "bald": Method("BALD", lambda pool, budget: active.highest(active.bald(pool.samples), budget)),
    "core_set": Method(
        "core-set", lambda pool, budget: active.core_set(pool.features, pool.known, budget)
    ),
    "badge": Method(
        "BADGE",
        lambda pool, budget: active.badge(pool.probabilities, pool.features, budget, pool.rng),
    ),
    "typiclust": Method(
        "TypiClust",
        lambda pool, budget: active.typiclust(pool.features, pool.known, budget, pool.rng),
    ),
    "activation": Method("activation", lambda pool, budget: pool.by_class(pool.risk, budget)),
    "activation_masks": Method(
        "activation, with masks", lambda pool, budget: pool.by_class(pool.risk_with_masks, budget)
    ),
    "entropy_activation": Method(
        "entropy x activation",
        lambda pool, budget: active.highest(
            active.entropy(pool.probabilities) * (1 + pool.risk), budget
        ),
    ),
}
"""By tag. The activation score is the paper's idea in our reading; see `gainmtl.active`."""
WITHOUT_MASKS = tuple(name for name in METHODS if name != "activation_masks")


def fit_ensemble(
    features: NDArray[np.floating],
    labels: Classes,
    num_classes: int,
    count: int,
    rng: np.random.Generator,
    start: Head | None = None,
) -> list[Head]:
    """Heads of the Bayesian bootstrap: each has exponentially distributed example weights.

    Source: Rubin, "The Bayesian Bootstrap", Annals of Statistics 1981.
    """
    return [
        fit_head(
            features, labels, num_classes, weights=rng.exponential(size=len(labels)), start=start
        )
        for _ in range(count)
    ]
