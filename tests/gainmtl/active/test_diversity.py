"""Core-set, BADGE and TypiClust: brute force, scikit-learn, and three separate heaps."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors

from gainmtl import active
from gainmtl.active.clusters import distances_to, k_means, spread, squared_distances
from gainmtl.active.diversity import gradient_distances, typicality


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


@pytest.fixture
def heaps(rng: np.random.Generator) -> np.ndarray:
    """60 rows in three heaps of 30, 20 and 10, far from each other."""
    centres = np.repeat([[0, 0, 0], [50, 0, 0], [0, 50, 0]], [30, 20, 10], axis=0)
    return centres + rng.normal(size=(60, 3))


def test_distances_are_scipys(rng: np.random.Generator) -> None:
    a, b = rng.normal(size=(5, 3)), rng.normal(size=(4, 3))
    assert squared_distances(a, b) == pytest.approx(cdist(a, b, "sqeuclidean"))
    assert distances_to(a)(2) == pytest.approx(cdist(a, a, "sqeuclidean")[2])


def test_core_set_by_hand() -> None:
    line = np.array([[0.0], [1], [4], [10]])
    # labelled at 0: 10 is the farthest, then 4 (4 from 0, 6 from 10), then 1
    assert active.core_set(line, [[0.0]], 3).tolist() == [3, 2, 1]
    # nothing labelled: the mean is 3.75, next to 4
    assert active.core_set(line, np.empty((0, 1)), 2).tolist() == [2, 3]


def test_core_set_is_greedy(rng: np.random.Generator) -> None:
    x, known = rng.normal(size=(30, 4)), rng.normal(size=(3, 4))
    rows: list[int] = []
    for _ in range(6):
        centres = np.concatenate([known, x[rows]])
        gaps = cdist(x, centres).min(1)
        rows.append(int(gaps.argmax()))
    assert active.core_set(x, known, 6).tolist() == rows


def test_embedding_distances_without_embeddings(rng: np.random.Generator) -> None:
    p, h = rng.dirichlet(np.ones(3), 12), rng.normal(size=(12, 5))
    error = p - np.eye(3)[p.argmax(1)]
    embedded = np.einsum("nk,nd->nkd", error, h).reshape(12, 15)
    assert gradient_distances(p, h)(4) == pytest.approx(
        cdist(embedded, embedded[4:5], "sqeuclidean")[:, 0]
    )


def test_badge_takes_one_of_the_certain_rows_whose_embeddings_are_all_near_zero(
    rng: np.random.Generator,
) -> None:
    p = np.tile([1 - 1e-6, 1e-6], (40, 1))
    p[[3, 17]] = [[0.55, 0.45], [0.5, 0.5]]
    h = rng.normal(size=(40, 4))
    h /= np.linalg.norm(h, axis=1, keepdims=True)
    first, *others = active.badge(p, h, 3, rng).tolist()
    assert first == 17  # the longest embedding
    assert 3 in others


def test_spread_draws_by_squared_distance(rng: np.random.Generator) -> None:
    line = np.array([[0.0], [1], [3]])
    second = [spread(0, 2, distances_to(line), rng)[1] for _ in range(4000)]
    # squared distances 1 and 9 from the first row
    assert np.mean(np.array(second) == 2) == pytest.approx(0.9, abs=0.02)


def test_equal_rows_are_still_different_choices(rng: np.random.Generator) -> None:
    p, h = np.tile([0.6, 0.4], (5, 1)), np.ones((5, 3))
    assert sorted(active.badge(p, h, 5, rng).tolist()) == [0, 1, 2, 3, 4]


def test_k_means_finds_the_heaps(heaps: np.ndarray, rng: np.random.Generator) -> None:
    cluster = k_means(heaps, 3, rng)
    assert sorted(np.bincount(cluster).tolist()) == [10, 20, 30]
    assert len(set(cluster[:30].tolist())) == 1


def test_typicality_is_scikit_learns(heaps: np.ndarray) -> None:
    near, _ = NearestNeighbors(n_neighbors=6).fit(heaps).kneighbors(heaps)
    assert typicality(heaps, 5) == pytest.approx(5 / near.sum(1))  # the row itself is at 0
    assert typicality(heaps[:1]).tolist() == [1]


def test_typiclust_takes_the_most_typical_of_each_heap(
    heaps: np.ndarray, rng: np.random.Generator
) -> None:
    rows = active.typiclust(heaps, np.empty((0, 3)), 3, rng)
    parts = (slice(0, 30), slice(30, 50), slice(50, 60))
    best = [part.start + int(typicality(heaps[part]).argmax()) for part in parts]
    assert rows.tolist() == best  # the largest heap first


def test_typiclust_skips_a_heap_that_has_a_label(
    heaps: np.ndarray, rng: np.random.Generator
) -> None:
    rows = active.typiclust(heaps, heaps[:1] + 0.1, 2, rng)
    assert (rows[0] >= 30, rows[1] >= 50) == (True, True)


@pytest.mark.parametrize("chooser", ["core_set", "typiclust", "badge"])
@pytest.mark.parametrize("budget", [0, 7, 60])
def test_rows_are_different(
    chooser: str, budget: int, heaps: np.ndarray, rng: np.random.Generator
) -> None:
    known = heaps[:4] + 1
    p = rng.dirichlet(np.ones(3), 60)
    rows = {
        "core_set": lambda: active.core_set(heaps, known, budget),
        "typiclust": lambda: active.typiclust(heaps, known, budget, rng),
        "badge": lambda: active.badge(p, heaps, budget, rng),
    }[chooser]()
    assert len(set(rows.tolist())) == budget
    assert rows.dtype == np.int64
    assert ((rows >= 0) & (rows < 60)).all()


def test_impossible_input_is_explained(heaps: np.ndarray, rng: np.random.Generator) -> None:
    with pytest.raises(ValueError, match="features \\(N, D\\) of the pool"):
        active.core_set(heaps, np.empty((0, 2)), 1)
    with pytest.raises(ValueError, match="budget: expected 0 to 60"):
        active.typiclust(heaps, np.empty((0, 3)), 61, rng)
    with pytest.raises(ValueError, match="of the same images"):
        active.badge([[0.5, 0.5]], heaps, 1, rng)
    with pytest.raises(ValueError, match="count: expected 1 to 60"):
        k_means(heaps, 61, rng)


def test_numbers_that_mean_nothing_are_refused() -> None:
    features, nothing = np.ones((4, 2)), np.ones((0, 2))
    with pytest.raises(ValueError, match="expected a whole number, got 2.5"):
        active.core_set(features, nothing, 2.5)  # type: ignore[arg-type]
    features[2, 1] = np.nan
    with pytest.raises(ValueError, match="expected finite features"):
        active.core_set(features, nothing, 2)
