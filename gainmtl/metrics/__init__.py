"""Measures: of the verdict, of the map image by image, and of pixels pooled over a test set."""

from __future__ import annotations

from gainmtl.metrics.classification import (
    accuracy,
    auroc,
    average_precision,
    classification_report,
    expected_calibration_error,
    f1,
    precision,
    recall,
    recall_at_fpr,
    threshold_at_fpr,
)
from gainmtl.metrics.histogram import PixelHistogram
from gainmtl.metrics.maps import (
    dice,
    energy_inside,
    false_activation,
    fixed_iou,
    map_iou,
    oracle_map,
    point_game,
    positive_energy,
)
from gainmtl.metrics.pixels import (
    aupro,
    pixel_ap,
    pixel_auroc,
    pooled_pixel_ap,
)

__all__ = [
    "PixelHistogram",
    "accuracy",
    "aupro",
    "auroc",
    "average_precision",
    "classification_report",
    "dice",
    "energy_inside",
    "expected_calibration_error",
    "f1",
    "false_activation",
    "fixed_iou",
    "map_iou",
    "oracle_map",
    "pixel_ap",
    "pixel_auroc",
    "point_game",
    "pooled_pixel_ap",
    "positive_energy",
    "precision",
    "recall",
    "recall_at_fpr",
    "threshold_at_fpr",
]
