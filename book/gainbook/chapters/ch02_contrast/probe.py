"""The linear probe, and the hybrid of a probe and a detector's score."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gainbook.lab.head import fit_head
from gainmtl import metrics

Array = NDArray[np.float64]
DECAY = 0.1
"""Weight decay of every probe: of 0.001 to 0.3, compared on held-out training and validation images
of one draw of each set, where it made little difference."""
WEIGHTS = tuple(round(0.1 * k, 1) for k in range(11))
"""Candidates for the detector's share of a hybrid."""
EQUAL = 0.5
INNER = 5
"""Inner folds over the defective images."""
PRIOR = 2
"""So many defective parts count for the detector alone when a hybrid's share is chosen. One or two
parts choose almost at random: without this the hybrid on tiles fell up to 0.10 of AUROC behind the
bank, over five draws; it was added after these."""


def fit_probe(x: NDArray[Any], bad: NDArray[np.bool_], decay: float = DECAY) -> tuple[Array, float]:
    """Weights (D,) and bias of logistic regression, both classes with half of the weight.

    The minimum of `sum_i w_i CE_i + decay / 2 |w|^2`, w_i = 1 / (2 n_class): that of a softmax head
    with twice the decay, whose two rows are w / 2 and -w / 2.

    Raises:
        ValueError: one class only; a classifier needs a defective and a normal image.
    """
    if bad.all() or not bad.any():
        raise ValueError(
            "a probe needs at least one normal and one defective image, found only "
            f"{'defective' if bad.all() else 'normal'} ones"
        )
    share = np.where(bad, 0.5 / bad.sum(), 0.5 / (~bad).sum())
    head = fit_head(x, bad.astype(np.int64), 2, 2 * decay, share, tolerance=1e-5)
    return head.weight[1] - head.weight[0], float(head.bias[1] - head.bias[0])


def probe_scores(x: NDArray[Any], normal: NDArray[np.int64], defective: NDArray[np.int64]) -> Array:
    """Scores (N,) of all images by the probe of some of them, standardised by the normal ones.

    Args:
        x: (N, D) features.
        normal, defective: rows of the training images.
    """
    centre, scale = x[normal].mean(0), x[normal].std(0) + 1e-3 * x[normal].std()
    z = (x - centre) / scale
    rows = np.concatenate([normal, defective])
    weight, bias = fit_probe(z[rows], np.arange(len(rows)) >= len(normal))
    return np.asarray(z @ weight + bias)


def held_out_scores(
    x: NDArray[Any],
    normal: NDArray[np.int64],
    defective: NDArray[np.int64],
    parts: NDArray[np.int64],
) -> Array:
    """(M,) scores of the defective images by probes that were trained on no image of their part.

    `INNER` folds by part, or one part a fold where there are fewer.

    Args:
        parts: (M,) number of the part of each defective image; at least two parts.
    """
    number = np.unique(parts, return_inverse=True)[1]
    folds = min(INNER, int(number.max()) + 1)
    number = number % folds
    scores = np.zeros(len(defective))
    for fold in range(folds):
        held = number == fold
        scores[held] = probe_scores(x, normal, defective[~held])[defective[held]]
    return scores


def standardised(scores: Array, val: NDArray[np.int64]) -> Array:
    """Scores (N,) minus their mean, over their standard deviation, on normal validation images."""
    spread = float(np.std(scores[val])) or 1.0
    return np.asarray((scores - np.mean(scores[val])) / spread)


def choose_weight(normals: tuple[Array, Array], defects: tuple[Array, Array]) -> float:
    """The detector's share w of `(1 - w) probe + w detector` with the highest AUROC.

    Of several, the one nearest to `EQUAL`.

    Args:
        normals, defects: standardised scores of the probe and of the detector, for normal
            validation images and for defective training images, neither trained on by either.
    """
    bad = np.repeat([False, True], [len(normals[0]), len(defects[0])])
    probe, detector = (np.concatenate(pair) for pair in zip(normals, defects, strict=True))
    gained = {w: metrics.auroc((1 - w) * probe + w * detector, bad) for w in WEIGHTS}
    best = max(gained.values())
    return min((w for w in WEIGHTS if gained[w] >= best - 1e-9), key=lambda w: abs(w - EQUAL))


def hybrid_scores(
    x: NDArray[Any],
    normal: NDArray[np.int64],
    defective: NDArray[np.int64],
    parts: NDArray[np.int64],
    val: NDArray[np.int64],
    detector: Array,
) -> tuple[Array, float]:
    """Scores (N,) of the hybrid and the detector's share of it.

    The share is `(m w + PRIOR) / (m + PRIOR)` for m defective training parts, so it is 1 without
    one. For a single part w is `EQUAL`; for more it is chosen by inner folds over the parts, see
    `choose_weight`.

    Args:
        parts: (M,) number of the part of each defective image.
        detector: (N,) a detector's scores; NaN where they are not needed.
    """
    theirs = standardised(detector, val)
    if not len(defective):
        return theirs, 1.0
    raw = probe_scores(x, normal, defective)
    own = standardised(raw, val)
    weight, count = EQUAL, len(np.unique(parts))
    if count > 1:
        held = held_out_scores(x, normal, defective, parts)
        held = (held - raw[val].mean()) / (raw[val].std() or 1.0)
        known = ~np.isnan(theirs[defective])
        weight = choose_weight((own[val], theirs[val]), (held[known], theirs[defective[known]]))
    weight = (count * weight + PRIOR) / (count + PRIOR)
    return (1 - weight) * own + weight * theirs, weight
