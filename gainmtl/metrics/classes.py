"""Measures of which class an image is given to, for any number of classes.

Classes are numbers or names; predicted and true (N,). Where there are only "normal" and
"defective", the measures of `classification` say more.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray


def class_accuracy(predicted: ArrayLike, true: ArrayLike) -> float:
    """Share of images that are given to their class, in [0, 1]; NaN without images."""
    said, is_ = _checked(predicted, true)
    return float((said == is_).mean()) if len(said) else math.nan


def macro_f1(predicted: ArrayLike, true: ArrayLike) -> float:
    """`mean_c 2 TP_c / (2 TP_c + FP_c + FN_c)` over the classes that occur in either, in [0, 1].

    A rare class weighs as much as a frequent one. NaN without images. Equals
    `sklearn.metrics.f1_score(average="macro")`.
    """
    said, is_ = _checked(predicted, true)
    if not len(said):
        return math.nan
    _, codes = np.unique(np.concatenate([said, is_]), return_inverse=True)
    p, t = codes[: len(said)], codes[len(said) :]
    count = int(codes.max()) + 1
    hits, given, there = (np.bincount(x, minlength=count) for x in (t[p == t], p, t))
    return float((2 * hits / (given + there)).mean())


def _checked(predicted: ArrayLike, true: ArrayLike) -> tuple[NDArray[np.generic], ...]:
    said, is_ = np.asarray(predicted), np.asarray(true)
    if said.ndim != 1 or said.shape != is_.shape:
        raise ValueError(
            "predicted and true classes must be vectors of one length, found shapes "
            f"{said.shape} and {is_.shape}"
        )
    return said, is_
