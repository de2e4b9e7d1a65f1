"""Measures of image classification, of maps and their sharpness, of pixels and faithfulness."""

from gainmtl.metrics.agreement import centre_map as centre_map
from gainmtl.metrics.agreement import random_map as random_map
from gainmtl.metrics.agreement import rank_correlation as rank_correlation
from gainmtl.metrics.agreement import soft_overlap as soft_overlap
from gainmtl.metrics.agreement import uniform_map as uniform_map
from gainmtl.metrics.classification import accuracy as accuracy
from gainmtl.metrics.classification import auroc as auroc
from gainmtl.metrics.classification import average_precision as average_precision
from gainmtl.metrics.classification import class_accuracy as class_accuracy
from gainmtl.metrics.classification import classification_report as classification_report
from gainmtl.metrics.classification import (
    expected_calibration_error as expected_calibration_error,
)
from gainmtl.metrics.classification import f1 as f1
from gainmtl.metrics.classification import is_flagged as is_flagged
from gainmtl.metrics.classification import macro_f1 as macro_f1
from gainmtl.metrics.classification import precision as precision
from gainmtl.metrics.classification import recall as recall
from gainmtl.metrics.classification import recall_at_fpr as recall_at_fpr
from gainmtl.metrics.classification import threshold_at_fpr as threshold_at_fpr
from gainmtl.metrics.faithfulness import Curve as Curve
from gainmtl.metrics.faithfulness import RoadScores as RoadScores
from gainmtl.metrics.faithfulness import deletion_curve as deletion_curve
from gainmtl.metrics.faithfulness import faithfulness_scores as faithfulness_scores
from gainmtl.metrics.faithfulness import insertion_curve as insertion_curve
from gainmtl.metrics.faithfulness import road as road
from gainmtl.metrics.histogram import PixelHistogram as PixelHistogram
from gainmtl.metrics.maps import dice as dice
from gainmtl.metrics.maps import energy_inside as energy_inside
from gainmtl.metrics.maps import false_activation as false_activation
from gainmtl.metrics.maps import fixed_iou as fixed_iou
from gainmtl.metrics.maps import map_iou as map_iou
from gainmtl.metrics.maps import oracle_map as oracle_map
from gainmtl.metrics.maps import point_game as point_game
from gainmtl.metrics.maps import positive_energy as positive_energy
from gainmtl.metrics.pixels import aupro as aupro
from gainmtl.metrics.pixels import aupro_per_image as aupro_per_image
from gainmtl.metrics.pixels import pixel_ap as pixel_ap
from gainmtl.metrics.pixels import pixel_auroc as pixel_auroc
from gainmtl.metrics.pixels import pooled_pixel_ap as pooled_pixel_ap
from gainmtl.metrics.sharpness import cam_contrast as cam_contrast
from gainmtl.metrics.sharpness import cam_dispersion as cam_dispersion
from gainmtl.metrics.sharpness import cam_elliptic_area as cam_elliptic_area
from gainmtl.metrics.sharpness import cam_entropy as cam_entropy
from gainmtl.metrics.sharpness import cam_relative_difference as cam_relative_difference
from gainmtl.metrics.sharpness import relative_spread as relative_spread
from gainmtl.metrics.sharpness import vanished as vanished
