"""Random choices, and budgets divided among classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gainmtl.active.uncertainty import Rows, check_budget


def uniform(count: int, budget: int, rng: np.random.Generator) -> Rows:
    """`budget` different rows of `count`, each set equally likely.

    Raises:
        ValueError: a budget outside 0 … count.
    """
    check_budget(budget, count)
    return rng.permutation(count)[:budget].astype(np.int64)


def fill_up(labelled: ArrayLike, available: ArrayLike, budget: int) -> Rows:
    """How many images of each class to take, so that the class counts become as even as possible.

    One image at a time goes to the class with the smallest count among those with images left; of
    equal ones to the first.

    Args:
        labelled: (K,) images that each class has already.
        available: (K,) images that can be taken of each class.
        budget: number of images to take, at most the sum of `available`.

    Raises:
        ValueError: a budget outside 0 … sum of `available`.
    """
    have, left = (np.asarray(x, dtype=np.int64).copy() for x in (labelled, available))
    check_budget(budget, int(left.sum()))
    taken = np.zeros_like(have)
    for _ in range(budget):
        place = int(np.argmin(np.where(left > 0, have + taken, np.iinfo(np.int64).max)))
        taken[place] += 1
        left[place] -= 1
    return taken


def share_out(need: ArrayLike, available: ArrayLike, budget: int) -> Rows:
    """How many images of each class to take, in proportion to `need`.

    The next image goes to the class with the largest `need / (2 taken + 1)` among those with images
    left (the method of Sainte-Laguë); of equal ones to the first. Classes without need come last.

    Args:
        need: (K,) at least 0.
        available: (K,) images that can be taken of each class.
        budget: number of images to take, at most the sum of `available`.

    Raises:
        ValueError: a negative or undefined need, or a budget outside 0 … sum of `available`.
    """
    wanted = np.asarray(need, dtype=np.float64)
    left = np.asarray(available, dtype=np.int64).copy()
    if not (wanted >= 0).all():
        raise ValueError(f"need: expected numbers of at least 0, got {wanted.tolist()}")
    check_budget(budget, int(left.sum()))
    taken = np.zeros_like(left)
    for _ in range(budget):
        place = int(np.argmax(np.where(left > 0, wanted / (2 * taken + 1), -1.0)))
        taken[place] += 1
        left[place] -= 1
    return taken


def class_balanced(
    predicted: ArrayLike,
    labelled: ArrayLike,
    num_classes: int,
    budget: int,
    rng: np.random.Generator,
) -> Rows:
    """Random rows of the pool that even out the classes: no uncertainty, no features.

    The budget is divided by `fill_up`; within a class the rows are random. The classes of the pool
    are *predicted* ones, since its labels are not known.

    Args:
        predicted: (N,) predicted class of each image of the pool, 0 … K - 1.
        labelled: (M,) true class of each labelled image.
        num_classes: K.
        budget: number of rows.
        rng: draws the rows.

    Raises:
        ValueError: a class outside 0 … K - 1, or a budget outside 0 … N.
    """
    pool, known = (classes_of(x, num_classes) for x in (predicted, labelled))
    check_budget(budget, len(pool))
    available = np.bincount(pool, minlength=num_classes)
    quota = fill_up(np.bincount(known, minlength=num_classes), available, budget)
    rows = [rng.permutation(np.flatnonzero(pool == k))[:n] for k, n in enumerate(quota)]
    return np.concatenate(rows).astype(np.int64)


def highest_by_class(
    scores: ArrayLike, predicted: ArrayLike, num_classes: int, budget: int
) -> Rows:
    """Rows with the highest scores of each predicted class; the budget follows the class means.

    Classes get images in proportion to the mean score of the images predicted as that class (see
    `share_out`), and within a class the highest scores are taken.

    Args:
        scores: (N,) at least 0.
        predicted: (N,) predicted class of each image of the pool, 0 … K - 1.
        num_classes: K.
        budget: number of rows.

    Raises:
        ValueError: a class outside 0 … K - 1, a negative or undefined score, or a budget outside
            0 … N.
    """
    values, pool = np.asarray(scores, dtype=np.float64), classes_of(predicted, num_classes)
    if values.shape != pool.shape or not (values >= 0).all():
        raise ValueError(
            f"expected scores (N,) of at least 0, one per predicted class, got {values.shape} and "
            f"{pool.shape}"
        )
    check_budget(budget, len(pool))
    available = np.bincount(pool, minlength=num_classes)
    sums = np.bincount(pool, values, minlength=num_classes)
    quota = share_out(sums / np.maximum(available, 1), available, budget)
    order = np.argsort(-values, kind="stable")
    rows = [order[pool[order] == k][:n] for k, n in enumerate(quota)]
    return np.concatenate(rows).astype(np.int64)


def classes_of(values: ArrayLike, num_classes: int) -> NDArray[np.int64]:
    """Class numbers (N,).

    Raises:
        ValueError: another shape, or a number outside 0 … num_classes - 1.
    """
    given = np.asarray(values)
    classes = given.astype(np.int64)
    if (classes != given).any():
        raise ValueError("expected whole class numbers, got fractions")
    if classes.ndim != 1 or (
        len(classes) and not 0 <= classes.min() <= classes.max() < num_classes
    ):
        raise ValueError(
            f"expected class numbers (N,) from 0 to {num_classes - 1}, got shape {classes.shape}"
            + (f" from {classes.min()} to {classes.max()}" if classes.size else "")
        )
    return classes
