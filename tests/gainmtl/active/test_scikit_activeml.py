"""scikit-activeml as the witness on fixed arrays; the library is one of the extra `test`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gainmtl import active
from gainmtl.active.clusters import squared_distances
from gainmtl.active.diversity import gradient_distances, typicality

pool: Any = pytest.importorskip("skactiveml.pool")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def test_entropy_and_margin(rng: np.random.Generator) -> None:
    p = rng.dirichlet(np.full(5, 0.4), 40)
    for name, ours in (("entropy", active.entropy), ("margin_sampling", active.margin)):
        assert ours(p) == pytest.approx(pool.uncertainty_scores(p, method=name))


def test_bald_is_the_average_divergence(rng: np.random.Generator) -> None:
    samples = rng.dirichlet(np.ones(3), (6, 20))
    # their eps keeps logarithms finite, and ours needs none
    assert active.bald(samples) == pytest.approx(pool.average_kl_divergence(samples), abs=1e-6)


def test_core_set(rng: np.random.Generator) -> None:
    x = rng.normal(size=(40, 6))
    labels = np.full(40, np.nan)
    labels[[4, 30]] = 0
    theirs, _ = pool.k_greedy_center(x, labels, batch_size=7, random_state=0)
    free = np.flatnonzero(np.isnan(labels))
    assert free[active.core_set(x[free], x[[4, 30]], 7)].tolist() == theirs.tolist()


def test_badge_has_their_probabilities(rng: np.random.Generator) -> None:
    from skactiveml.classifier import SklearnClassifier
    from sklearn.linear_model import LogisticRegression

    x = rng.normal(size=(30, 4))
    labels = np.full(30, np.nan)
    labels[:6] = [0, 1, 2, 0, 1, 2]
    model = SklearnClassifier(LogisticRegression(), classes=[0, 1, 2]).fit(x, labels)
    rows, chances = pool.Badge(random_state=0).query(
        x, labels, model, fit_clf=False, batch_size=5, return_utilities=True
    )
    free = np.arange(6, 30)
    p = model.predict_proba(x[free])
    assert free[active.badge(p, x[free], 1, rng)[0]] == rows[0]
    # From the second row on they also count the origin as a centre; the paper doesn't.
    error = p - np.eye(3)[p.argmax(1)]
    origin = (error**2).sum(1) * (x[free] ** 2).sum(1)
    distances = [gradient_distances(p, x[free])(row - 6) for row in rows[:4]]
    nearest = np.min([origin, *distances], axis=0)
    expected = chances[4][free]
    shares = nearest / nearest.sum()
    taken = np.isnan(expected)
    assert shares[~taken] == pytest.approx(expected[~taken])


def test_typicality(rng: np.random.Generator) -> None:
    from skactiveml.pool import _typi_clust

    x = rng.normal(size=(30, 3))
    theirs = _typi_clust._typicality(x, np.arange(30), 5)
    assert typicality(x, 5) == pytest.approx(theirs, rel=1e-5)
    assert squared_distances(x, x).trace() == pytest.approx(0, abs=1e-9)
