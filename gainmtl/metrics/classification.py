"""Image-level classification measures: scores (N,), labels (N,) with 1 = defective.

An image is predicted defective if `score >= threshold`, see `is_flagged`. Undefined measures are
NaN: AUROC with one class, precision without a prediction "defective", recall without a defect. For
more than two classes see `class_accuracy` and `macro_f1`, which take predicted and true classes
(N,) as numbers or names.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gainmtl.metrics.ranking import (
    Array,
    RankingCurve,
    curve_auroc,
    curve_average_precision,
    ranking_curve,
)


def auroc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Area under the ROC curve: P(s⁺ > s⁻) + P(s⁺ = s⁻) / 2; NaN with one class only.

    Equals `sklearn.metrics.roc_auc_score`, but is about ten times faster on a thousand images,
    which a bootstrap needs.
    """
    return float(curve_auroc(_curve(scores, labels)))


def average_precision(scores: ArrayLike, labels: ArrayLike) -> float:
    """Σ (R_n - R_{n-1}) P_n over distinct thresholds, no interpolation; NaN without positives."""
    return float(curve_average_precision(_curve(scores, labels)))


def recall_at_fpr(scores: ArrayLike, labels: ArrayLike, fpr: float) -> float:
    """Highest recall on the ROC curve with false alarm rate <= fpr, without interpolation.

    NaN with one class only.
    """
    values, is_defective = _checked(scores, labels)
    positives, normals = values[is_defective], values[~is_defective]
    if len(positives) == 0 or len(normals) == 0:
        return math.nan
    return float(np.mean(positives > _highest_excluded(normals, fpr)))


def is_flagged(scores: ArrayLike, threshold: ArrayLike) -> NDArray[np.bool_]:
    """The verdicts `score >= threshold`, true for defective; scores of any shape.

    In place of a bare `>=`, which is false for NaN and so would count it as normal.

    Raises:
        ValueError: a score or a threshold that is NaN or infinite.
    """
    for name, values in (("scores", scores), ("threshold", threshold)):
        found = np.asarray(values, dtype=np.float64)
        if not np.isfinite(found).all():
            bad = np.flatnonzero(~np.isfinite(found))
            advice = (
                "check the weights of the model and the pixels of the images"
                if name == "scores"
                else "fit the model, or load one with a threshold"
            )
            raise ValueError(
                f"a verdict needs finite {name}, found {len(bad)} of {found.size} that are NaN or "
                f"infinite (index {', '.join(map(str, bad[:5]))}); {advice}"
            )
    return np.asarray(scores) >= np.asarray(threshold)


def threshold_at_fpr(scores: ArrayLike, labels: ArrayLike, max_fpr: float = 0.05) -> float:
    """The lowest threshold with a false alarm rate on normal samples of at most `max_fpr`.

    With n normal samples, k = ⌊max_fpr · n⌋ may be predicted defective, so the threshold must
    exceed the (k+1)-th largest normal score, s. All thresholds above s, up to the next score of
    either class, give the same predictions. The middle of that gap is returned, so that rounding
    changes no prediction; if no score exceeds s, it is the next float32 after s. Normal samples
    that tie at s all stay below, so there may be fewer than k false alarms. If all n are allowed,
    the threshold is the smallest score.

    Raises:
        ValueError: no normal sample, or `max_fpr` outside [0, 1].
    """
    values, is_defective = _checked(scores, labels)
    normals = values[~is_defective]
    if len(normals) == 0:
        raise ValueError(
            "a threshold for the false alarm rate needs normal samples, found "
            f"{len(values)} samples, all defective; add normal samples to the validation split"
        )
    excluded = _highest_excluded(normals, max_fpr)
    if excluded == -math.inf:
        return float(values.min())
    above = values[values > excluded]
    if len(above) == 0:
        return float(np.nextafter(np.float32(excluded), np.float32(math.inf)))
    following = float(above.min())
    # A model compares its scores in float32, so the middle must lie in the gap in float32.
    middle = float(np.float32(excluded + (following - excluded) / 2))
    return middle if excluded < middle <= following else following


def accuracy(scores: ArrayLike, labels: ArrayLike, threshold: float = 0.5) -> float:
    """Share of correct predictions; NaN without samples."""
    hits, false_alarms, misses, rejections = _confusion(scores, labels, threshold)
    return _ratio(hits + rejections, hits + false_alarms + misses + rejections)


def precision(scores: ArrayLike, labels: ArrayLike, threshold: float = 0.5) -> float:
    """TP / (TP + FP); NaN if nothing is predicted defective."""
    hits, false_alarms, _, _ = _confusion(scores, labels, threshold)
    return _ratio(hits, hits + false_alarms)


def recall(scores: ArrayLike, labels: ArrayLike, threshold: float = 0.5) -> float:
    """TP / (TP + FN); NaN if nothing is defective."""
    hits, _, misses, _ = _confusion(scores, labels, threshold)
    return _ratio(hits, hits + misses)


def f1(scores: ArrayLike, labels: ArrayLike, threshold: float = 0.5) -> float:
    """2 TP / (2 TP + FP + FN); NaN if nothing is defective and nothing is predicted defective."""
    hits, false_alarms, misses, _ = _confusion(scores, labels, threshold)
    return _ratio(2 * hits, 2 * hits + false_alarms + misses)


def expected_calibration_error(
    probabilities: ArrayLike, labels: ArrayLike, bins: int = 15
) -> float:
    """Σ_b (n_b / n) · |mean probability - share defective| over equal-width bins of [0, 1].

    Of the probability of a defect; Guo et al. (ICML 2017) use the more probable class instead.
    Bins are [lo, hi), the last one closed. NaN without samples.

    Raises:
        ValueError: probabilities outside [0, 1], or no bin.
    """
    values, is_defective = _checked(probabilities, labels)
    if bins < 1:
        raise ValueError(f"bins: expected at least 1, found {bins}")
    if len(values) == 0:
        return math.nan
    if values.min() < 0 or values.max() > 1:
        raise ValueError(
            "calibration needs probabilities in [0, 1], found values from "
            f"{values.min():g} to {values.max():g}; apply softmax or sigmoid first"
        )
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, bins - 1)
    gaps = np.bincount(place, values - is_defective, minlength=bins)
    return float(np.abs(gaps).sum() / len(values))


def classification_report(
    scores: ArrayLike, labels: ArrayLike, threshold: float = 0.5
) -> dict[str, float]:
    """All binary measures by their metric names in results files.

    `ece` is NaN if scores lie outside [0, 1], because they are not probabilities then.
    """
    values, is_defective = _checked(scores, labels)
    probable = len(values) > 0 and values.min() >= 0 and values.max() <= 1
    return {
        "accuracy": accuracy(values, is_defective, threshold),
        "precision": precision(values, is_defective, threshold),
        "recall": recall(values, is_defective, threshold),
        "f1": f1(values, is_defective, threshold),
        "auroc": auroc(values, is_defective),
        "average_precision": average_precision(values, is_defective),
        "recall_at_fpr01": recall_at_fpr(values, is_defective, 0.01),
        "recall_at_fpr05": recall_at_fpr(values, is_defective, 0.05),
        "ece": expected_calibration_error(values, is_defective) if probable else math.nan,
    }


def _checked(scores: ArrayLike, labels: ArrayLike) -> tuple[Array, Array]:
    """Scores (N,) as floats and labels (N,) as booleans."""
    values, classes = np.asarray(scores), np.asarray(labels)
    if values.ndim != 1 or values.shape != classes.shape:
        raise ValueError(
            "scores and labels must be vectors of one length, found shapes "
            f"{values.shape} and {classes.shape}"
        )
    if not np.issubdtype(values.dtype, np.floating):
        values = values.astype(np.float64)
    if not np.isfinite(values).all():
        count = int((~np.isfinite(values)).sum())
        raise ValueError(f"scores must be finite, found {count} of {len(values)} that are not")
    if classes.dtype != np.bool_:
        if not np.isin(classes, (0, 1)).all():
            raise ValueError(f"labels must be 0 or 1, found {np.unique(classes)[:5].tolist()}")
        classes = classes.astype(np.bool_)
    return values, classes


def _curve(scores: ArrayLike, labels: ArrayLike) -> RankingCurve:
    values, is_defective = _checked(scores, labels)
    return ranking_curve(values[is_defective], [values[~is_defective]])


def _highest_excluded(normals: Array, max_fpr: float) -> float:
    """The largest normal score that must be below the threshold; -inf if there is none."""
    if not 0 <= max_fpr <= 1:
        raise ValueError(f"a false alarm rate lies in [0, 1], found {max_fpr}")
    # 0.29 · 100 is 28.999…96 in floating point; the slack allows the 29th alarm.
    allowed = math.floor(max_fpr * len(normals) + 1e-9)
    if allowed >= len(normals):
        return -math.inf
    return float(np.sort(normals)[len(normals) - 1 - allowed])


def _confusion(scores: ArrayLike, labels: ArrayLike, threshold: float) -> tuple[int, int, int, int]:
    """Hits, false alarms, misses, correct rejections."""
    values, is_defective = _checked(scores, labels)
    flagged = is_flagged(values, threshold)
    hits = int((flagged & is_defective).sum())
    alarms = int(flagged.sum())
    defects = int(is_defective.sum())
    return hits, alarms - hits, defects - hits, len(values) - alarms - defects + hits


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def class_accuracy(predicted: ArrayLike, true: ArrayLike) -> float:
    """Share of images whose predicted class is the true one, in [0, 1]; NaN without images."""
    p, t = _checked_classes(predicted, true)
    return float((p == t).mean()) if len(p) else math.nan


def macro_f1(predicted: ArrayLike, true: ArrayLike) -> float:
    """`mean_c 2 TP_c / (2 TP_c + FP_c + FN_c)` over the classes that occur in either, in [0, 1].

    Rare and frequent classes have the same weight. NaN without images. Equals
    `sklearn.metrics.f1_score(average="macro")`.
    """
    classes = np.concatenate(_checked_classes(predicted, true))
    if not len(classes):
        return math.nan
    _, codes = np.unique(classes, return_inverse=True)
    p, t = np.split(codes, 2)
    count = int(codes.max()) + 1
    hits, predictions, truths = (np.bincount(x, minlength=count) for x in (t[p == t], p, t))
    return float((2 * hits / (predictions + truths)).mean())


def _checked_classes(predicted: ArrayLike, true: ArrayLike) -> tuple[Array, Array]:
    p, t = np.asarray(predicted), np.asarray(true)
    if p.ndim != 1 or p.shape != t.shape:
        raise ValueError(
            "predicted and true classes must be vectors of one length, found shapes "
            f"{p.shape} and {t.shape}"
        )
    is_text = [x.dtype.kind in "US" for x in (p, t) if len(x)]
    if len(set(is_text)) > 1:
        raise ValueError(
            f"expected classes of one kind, numbers or names, found {p.dtype} and {t.dtype}; "
            "convert one"
        )
    if any(x.dtype.kind == "f" and np.isnan(x).any() for x in (p, t)):
        raise ValueError("expected a class for each image, found NaN")
    return p, t
