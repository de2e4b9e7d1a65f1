"""Batches that cover the pool: core-set, BADGE and TypiClust.

Each returns rows of the pool in the order in which they were chosen. Features are (N, D), as the
mean of the last feature map.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from gainmtl.active.clusters import Array, distances_to, k_means, spread, squared_distances
from gainmtl.active.uncertainty import Rows, check_budget, checked_probabilities

NEIGHBOURS = 20
"""TypiClust: neighbours whose mean distance is the typicality of an image."""
MOST_CLUSTERS, LEAST_MEMBERS = 500, 5
"""TypiClust: most clusters, and the size below which a cluster is used only if none is left."""


def core_set(features: ArrayLike, labelled: ArrayLike, budget: int) -> Rows:
    """k-centre greedy: each next row is the farthest from its nearest chosen or labelled row.

    Deterministic; of equal distances the first row. Without a labelled row the first one chosen is
    that nearest to the pool's mean.

    Args:
        features: (N, D) of the pool.
        labelled: (M, D) of the labelled images; M may be 0.
        budget: number of rows.

    Source: Sener and Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set
    Approach", ICLR 2018: its greedy algorithm, without the mixed-integer program.

    Raises:
        ValueError: different D, or a budget outside 0 … N.
    """
    x, known = _features(features, labelled)
    check_budget(budget, len(x))
    distances = distances_to(x)
    rows: list[int] = []
    if len(known):
        nearest = squared_distances(x, known).min(1)
    else:
        nearest = np.full(len(x), np.inf)
        if budget:
            rows.append(int(squared_distances(x, x.mean(0, keepdims=True))[:, 0].argmin()))
            nearest = distances(rows[0])
            nearest[rows] = -1
    while len(rows) < budget:
        row = int(nearest.argmax())
        rows.append(row)
        nearest = np.minimum(nearest, distances(row))
        nearest[rows] = -1
    return np.array(rows, dtype=np.int64)


def gradient_distances(probabilities: Array, features: Array) -> Callable[[int], Array]:
    """A function from a row's number to the squared distances (N,) of all gradient embeddings to
    its own.

    The embedding of an image is `g = (p - onehot(argmax p)) (x) h`, the gradient of the cross
    entropy of the predicted class with respect to a linear layer on the features h. It has K D
    numbers and is never formed: `<g_i, g_j> = <e_i, e_j> <h_i, h_j>` with e the first factor.
    """
    error, norms = _embedding(probabilities, features)

    def distances(row: int) -> Array:
        inner = (error @ error[row]) * (features @ features[row])
        return np.maximum(norms + norms[row] - 2 * inner, 0)

    return distances


def _embedding(probabilities: Array, features: Array) -> tuple[Array, Array]:
    """The factor e (N, K) of the gradient embeddings, and their squared lengths (N,)."""
    error = probabilities - np.eye(probabilities.shape[1])[probabilities.argmax(1)]
    return error, (error**2).sum(1) * (features**2).sum(1)


def badge(
    probabilities: ArrayLike, features: ArrayLike, budget: int, rng: np.random.Generator
) -> Rows:
    """k-means++ seeding on gradient embeddings: uncertain images that differ from each other.

    The first row has the longest embedding; see `gradient_distances` and `clusters.spread`.

    Args:
        probabilities: (N, K) of the pool.
        features: (N, D), the input of the linear head.
        budget: number of rows.
        rng: draws the rows after the first.

    Source: Ash et al., "Deep Batch Active Learning by Diverse, Uncertain Gradient Lower Bounds",
    ICLR 2020.

    Raises:
        ValueError: see `checked_probabilities`; other lengths, or a budget outside 0 … N.
    """
    p, h = checked_probabilities(probabilities), np.asarray(features, dtype=np.float64)
    if h.ndim != 2 or len(h) != len(p):
        raise ValueError(
            f"expected features (N, D) of the same images, got {h.shape} beside {p.shape}"
        )
    check_budget(budget, len(p))
    if budget == 0:
        return np.empty(0, dtype=np.int64)
    first = int(_embedding(p, h)[1].argmax())
    return spread(first, budget, gradient_distances(p, h), rng)


def typicality(features: ArrayLike, neighbours: int = NEIGHBOURS) -> Array:
    """(N,) `1 / mean distance to the k nearest other rows`, k = min(neighbours, N - 1).

    Infinite for a row with k equal ones; 1 for a single row.
    """
    x = np.asarray(features, dtype=np.float64)
    k = min(neighbours, len(x) - 1)
    if k < 1:
        return np.ones(len(x))
    squares = squared_distances(x, x)
    np.fill_diagonal(squares, np.inf)
    nearest = np.sqrt(np.partition(squares, k - 1, axis=1)[:, :k])
    with np.errstate(divide="ignore"):
        return np.asarray(1 / nearest.mean(1))


def typiclust(
    features: ArrayLike, labelled: ArrayLike, budget: int, rng: np.random.Generator
) -> Rows:
    """The most typical image of each cluster, clusters without a label and large ones first.

    Pool and labelled images are divided into `min(M + budget, MOST_CLUSTERS)` clusters. For each
    row, the cluster with the fewest labelled images is taken, of equal ones the largest; its most
    typical image of the pool is chosen and counts as labelled. Clusters of fewer than
    `LEAST_MEMBERS` images are used when the others have no image left.

    Args:
        features: (N, D) of the pool.
        labelled: (M, D) of the labelled images; M may be 0.
        budget: number of rows.
        rng: of the clustering.

    Source: Hacohen, Dekel and Weinshall, "Active Learning on a Budget: Opposite Strategies Suit
    High and Low Budgets", ICML 2022. Deviation: any features, not self-supervised ones alone.

    Raises:
        ValueError: different D, or a budget outside 0 … N.
    """
    x, known = _features(features, labelled)
    check_budget(budget, len(x))
    if budget == 0:
        return np.empty(0, dtype=np.int64)
    both = np.concatenate([x, known])
    count = min(len(known) + budget, MOST_CLUSTERS, len(both))
    cluster = k_means(both, count, rng)
    sizes = np.bincount(cluster, minlength=count)
    labels = np.bincount(cluster[len(x) :], minlength=count)
    free = np.bincount(cluster[: len(x)], minlength=count)
    queues: dict[int, list[int]] = {}
    rows: list[int] = []
    while len(rows) < budget:
        keys = (np.arange(count), -sizes, labels, sizes < LEAST_MEMBERS, free == 0)
        best = int(np.lexsort(keys)[0])
        if best not in queues:
            members = np.flatnonzero(cluster == best)
            order = members[np.argsort(-typicality(both[members]), kind="stable")]
            queues[best] = order[order < len(x)].tolist()
        rows.append(queues[best].pop(0))
        labels[best] += 1
        free[best] -= 1
    return np.array(rows, dtype=np.int64)


def _features(features: ArrayLike, labelled: ArrayLike) -> tuple[Array, Array]:
    x, known = (np.asarray(v, dtype=np.float64) for v in (features, labelled))
    if x.ndim != 2 or known.ndim != 2 or x.shape[1] != known.shape[1]:
        raise ValueError(
            "expected features (N, D) of the pool and (M, D) of the labelled images, got "
            f"{x.shape} and {known.shape}"
        )
    if not (np.isfinite(x).all() and np.isfinite(known).all()):
        raise ValueError("expected finite features, found NaN or infinity")
    return x, known
