"""k-means++ and k-means on the rows of a matrix, as batch choosers need them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

Array = NDArray[np.float64]


def squared_distances(a: ArrayLike, b: ArrayLike) -> Array:
    """`|a_i - b_j|^2`, (N, D) and (M, D) to (N, M), at least 0."""
    x, y = (np.asarray(v, dtype=np.float64) for v in (a, b))
    squares = (x**2).sum(1)[:, None] + (y**2).sum(1)[None] - 2 * (x @ y.T)
    return np.maximum(squares, 0)


def distances_to(features: Array) -> Callable[[int], Array]:
    """A function from a row's number to the squared distances (N,) of all rows of (N, D) to it."""
    norms = (features**2).sum(1)
    return lambda row: np.maximum(norms + norms[row] - 2 * (features @ features[row]), 0)


def spread(
    first: int, count: int, distances: Callable[[int], Array], rng: np.random.Generator
) -> NDArray[np.int64]:
    """The seeding of k-means++: `count` rows, each drawn with `P(i) ~ min_j d(i, j)^2`.

    The minimum is over the rows j that are already drawn. Where all distances are 0, the remaining
    rows are drawn uniformly from those not drawn yet.

    Args:
        first: the first row.
        count: number of rows, at most N.
        distances: squared distances (N,) of all rows to a row.
        rng: draws the rows.

    Source: Arthur and Vassilvitskii, "k-means++", SODA 2007.
    """
    rows = [first]
    nearest = distances(first).astype(np.float64).copy()
    nearest[first] = 0
    while len(rows) < count:
        total = nearest.sum()
        if total > 0:
            row = int(rng.choice(len(nearest), p=nearest / total))
        else:
            row = int(rng.choice(np.setdiff1d(np.arange(len(nearest)), rows)))
        rows.append(row)
        nearest = np.minimum(nearest, distances(row))
        nearest[rows] = 0
    return np.array(rows[:count], dtype=np.int64)


def k_means(
    features: ArrayLike, count: int, rng: np.random.Generator, steps: int = 10
) -> NDArray[np.int64]:
    """(N,) the cluster 0 … count - 1 of each row of (N, D), by Lloyd's algorithm.

    Starts with `spread` from a random row. An empty cluster keeps its centre, so it may stay empty.

    Raises:
        ValueError: `count` outside 1 … N.
    """
    x = np.asarray(features, dtype=np.float64)
    if not 1 <= count <= len(x):
        raise ValueError(f"count: expected 1 to {len(x)} clusters, got {count}")
    start = spread(int(rng.integers(len(x))), count, distances_to(x), rng)
    centres = x[start]
    cluster = squared_distances(x, centres).argmin(1)
    for _ in range(steps):
        sizes = np.bincount(cluster, minlength=count)
        members = csr_array((np.ones(len(x)), (cluster, np.arange(len(x)))), (count, len(x)))
        sums = members @ x
        centres = np.where(sizes[:, None] > 0, sums / np.maximum(sizes, 1)[:, None], centres)
        moved = squared_distances(x, centres).argmin(1)
        if (moved == cluster).all():
            break
        cluster = moved
    return cluster.astype(np.int64)
