"""Figures of verdicts from scores: one threshold rule for classifiers and detectors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gainbook.lab.seed_study import figure
from gainmtl import metrics
from gainmtl.types import NORMAL

Scores = NDArray[np.float64]
FALSE_ALARMS = 0.05


def threshold(val: Scores) -> float:
    """The lowest threshold with at most 5 % false alarms on normal validation images."""
    return metrics.threshold_at_fpr(val, np.zeros(len(val), dtype=bool), FALSE_ALARMS)


def verdict_figures(
    val: Scores, test: Scores, types: NDArray[Any], **condition: Any
) -> list[dict[str, Any]]:
    """`auroc`, `recall_at_fpr05`, `recall` and `false_alarms` on test images.

    The last two are at `threshold`, which test images have no part in.

    Args:
        val: scores of normal validation images, which the threshold is chosen on.
        test: scores of test images.
        types: defect type of each test image.
        condition: of the figures.
    """
    bad = types != NORMAL
    flagged = metrics.is_flagged(test, threshold(val))
    return [
        figure("auroc", metrics.auroc(test, bad), n=len(test), **condition),
        figure("recall_at_fpr05", metrics.recall_at_fpr(test, bad, FALSE_ALARMS), **condition),
        figure("recall", share(flagged, bad), n=int(bad.sum()), **condition),
        figure("false_alarms", share(flagged, ~bad), n=int((~bad).sum()), **condition),
    ]


def recalls(
    val: Scores, test: Scores, chosen: NDArray[np.bool_], normal: NDArray[np.bool_]
) -> dict[str, float]:
    """`recall` and `recall_at_fpr05` of the chosen test images, defective ones.

    The first is at `threshold`. The second is at 5 % false alarms on the test's normal images, so
    that arms are compared at equal false alarms; it is no rule that could be applied.
    """
    rows = chosen | normal
    return {
        "recall": share(metrics.is_flagged(test, threshold(val)), chosen),
        "recall_at_fpr05": metrics.recall_at_fpr(test[rows], chosen[rows], FALSE_ALARMS),
    }


def share(flagged: NDArray[np.bool_], chosen: NDArray[np.bool_]) -> float:
    """The share of the chosen images that are flagged; NaN without any."""
    return float(flagged[chosen].mean()) if chosen.any() else float("nan")
