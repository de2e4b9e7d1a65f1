"""Measures: of the verdict, of the map, its sharpness, of pixels pooled, of faithfulness."""

from __future__ import annotations

from gainmtl.metrics.agreement import (
    centre_map,
    random_map,
    rank_correlation,
    soft_overlap,
    uniform_map,
)
from gainmtl.metrics.classes import class_accuracy, macro_f1
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
from gainmtl.metrics.faithfulness import Curve, deletion_curve, insertion_curve
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
    aupro_per_image,
    pixel_ap,
    pixel_auroc,
    pooled_pixel_ap,
)
from gainmtl.metrics.road import RoadScores, road
from gainmtl.metrics.sharpness import (
    cam_contrast,
    cam_dispersion,
    cam_elliptic_area,
    cam_entropy,
    cam_relative_difference,
    relative_spread,
    vanished,
)

__all__ = [
    "Curve",
    "PixelHistogram",
    "RoadScores",
    "accuracy",
    "aupro",
    "aupro_per_image",
    "auroc",
    "average_precision",
    "cam_contrast",
    "cam_dispersion",
    "cam_elliptic_area",
    "cam_entropy",
    "cam_relative_difference",
    "centre_map",
    "class_accuracy",
    "classification_report",
    "deletion_curve",
    "dice",
    "energy_inside",
    "expected_calibration_error",
    "f1",
    "false_activation",
    "fixed_iou",
    "insertion_curve",
    "macro_f1",
    "map_iou",
    "oracle_map",
    "pixel_ap",
    "pixel_auroc",
    "point_game",
    "pooled_pixel_ap",
    "positive_energy",
    "precision",
    "random_map",
    "rank_correlation",
    "recall",
    "recall_at_fpr",
    "relative_spread",
    "road",
    "soft_overlap",
    "threshold_at_fpr",
    "uniform_map",
    "vanished",
]
