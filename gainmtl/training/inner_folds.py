"""Choose a run's epoch and threshold on inner folds of its training and validation images.

The AUROC of few defective parts is too uncertain to choose an epoch, and the threshold of few
normal images is imprecise. With K inner folds, K further networks are trained, each without one
fold, whose images it then scores. So every image of the training and validation parts gets one
score, by a network that was not trained on its group. Source: cross-validation
(Stone, J. R. Stat. Soc. B 1974), within the training data of an outer split (Varma and Simon, BMC
Bioinformatics 2006).
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from gainmtl import metrics
from gainmtl.datasets import Data
from gainmtl.datasets.data import Described
from gainmtl.datasets.subsets import inner_fold
from gainmtl.evaluation.scoring import batches, defect_scores
from gainmtl.training.recipe import ENOUGH, Recipe
from gainmtl.training.run import TrainingRun, defective_groups


class Choice(NamedTuple):
    """What the inner folds chose."""

    epoch: int
    """From 0: the epoch whose weights are kept."""
    threshold: float
    """Of the defect probability, from all judged images."""
    auroc: tuple[float, ...]
    """By epoch, within the folds; see `within_folds`."""


class InnerRun(TrainingRun):
    """A run on an inner fold, which keeps the scores of its held-out images for every epoch."""

    def _validate(self) -> dict[str, Any]:
        row: dict[str, Any] = super()._validate()
        size = self.settings.batch_size
        judge = copy.deepcopy(self.average)  # as `finish` leaves the model
        judge.fit_on_validation(batches(self.data.val, size))
        return {**row, "scores": defect_scores(judge, self.data.val, size)[0].tolist()}


def within_folds(scores: Sequence[NDArray[Any]], labels: Sequence[NDArray[Any]]) -> float:
    """AUROC over pairs of a defective and a normal image of the same fold, all folds together.

    AUROC = Σ_k p_k n_k AUROC_k / Σ_k p_k n_k, with p_k defective and n_k normal images of fold k.
    Scores of different networks are not compared. NaN without such a pair.
    """
    pairs = [float(is_bad.sum() * (~is_bad).sum()) for is_bad in labels]
    if not sum(pairs):
        return float("nan")
    found = [
        count * metrics.auroc(score, is_bad)
        for count, score, is_bad in zip(pairs, scores, labels, strict=True)
        if count
    ]
    return sum(found) / sum(pairs)


def choose(
    data: Data, settings: Recipe, run: Callable[[Data, Path | None], InnerRun], folder: Path | None
) -> Choice:
    """Train `settings.inner_folds` networks and choose from what they find.

    Args:
        run: from an inner fold and its folder to a finished run; see `gainmtl.fit`.
        folder: of the outer run; the inner ones stand in `inner0`, `inner1`, ….

    Warns:
        UserWarning: with `keep="best"`, fewer than `ENOUGH` defective groups in all folds together;
            the last epoch is kept.
    """
    scores: list[NDArray[np.float64]] = []
    labels: list[NDArray[np.bool_]] = []
    for fold in range(settings.inner_folds):
        inner = inner_fold(data, fold, settings.inner_folds, settings.seed)
        done = run(inner, None if folder is None else folder / f"inner{fold}")
        scores.append(np.array([row["scores"] for row in done.history]))
        labels.append(cast(Described, inner.val).labels)
    curve = [within_folds([one[e] for one in scores], labels) for e in range(settings.epochs)]
    epoch = settings.epochs - 1
    if settings.keep == "best":
        found = defective_groups(data.train, data.val)
        if found >= ENOUGH:
            epoch = int(np.nanargmax(curve))
        else:
            warnings.warn(
                f"fit: keep='best' needs {ENOUGH} defective groups in the training and validation "
                f"parts together, which have {found}: the last epoch is kept.",
                stacklevel=3,
            )
    threshold = metrics.threshold_at_fpr(
        np.concatenate([one[epoch] for one in scores]),
        np.concatenate(labels),
        settings.max_false_alarms,
    )
    return Choice(epoch, threshold, tuple(curve))
