"""A score becomes a probability by two numbers, and keeps its order."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from gainmtl.baselines.platt import IDENTITY, PlattScaling, fit_platt, to_logits


def test_by_hand_two_scores() -> None:
    # Twice two normal parts at 0 and two defective ones at 1: the softened shares are 1/4 and 3/4,
    # which two numbers meet exactly.
    line = fit_platt([0.0, 0.0, 1.0, 1.0], [0, 0, 1, 1])
    assert line([0.0, 1.0]) == pytest.approx([1 / 4, 3 / 4], abs=1e-6)
    assert line.scale == pytest.approx(2 * np.log(3), abs=1e-5)
    assert line.shift == pytest.approx(-np.log(3), abs=1e-5)


@pytest.mark.parametrize("separable", [False, True])
def test_a_peer_finds_the_same_line(separable: bool) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(80) % 4 == 0
    scores = 100 + 30 * (rng.normal(size=80) + (9 if separable else 1) * labels)
    positive, negative = labels.sum(), (~labels).sum()
    share = np.where(labels, (positive + 1) / (positive + 2), 1 / (negative + 2))
    # Soft labels as pairs of weighted hard ones.
    peer = LogisticRegression(C=np.inf, tol=1e-10, max_iter=10_000).fit(
        np.tile((scores - 100) / 30, 2)[:, None],
        np.repeat([1, 0], 80),
        np.concatenate([share, 1 - share]),
    )
    line = fit_platt(scores, labels)
    theirs = peer.predict_proba(((scores - 100) / 30)[:, None])[:, 1]
    assert line(scores) == pytest.approx(theirs, abs=1e-4)


def test_order_is_kept_or_nothing_done() -> None:
    assert fit_platt([3.0, 2.0, 1.0, 0.0], [0, 0, 1, 1]) == IDENTITY  # the wrong way round
    assert fit_platt([1.0, 2.0], [1, 1]) == IDENTITY  # one class
    assert fit_platt([2.0, 2.0, 2.0], [0, 1, 1]) == IDENTITY  # equal scores
    assert IDENTITY([0.0]) == pytest.approx([0.5])


def test_bad_scores_are_refused() -> None:
    for scores in ([np.nan, 1.0], [1.0], [[1.0, 2.0]]):
        with pytest.raises(ValueError, match="expected finite scores"):
            fit_platt(scores, [0, 1])


def test_logits_have_an_end() -> None:
    assert to_logits([0.5, 0.0, 1.0]) == pytest.approx([0, -16.118, 16.118], abs=1e-3)
    assert PlattScaling(2.0, 0.0)(to_logits([0.5])) == pytest.approx([0.5])
