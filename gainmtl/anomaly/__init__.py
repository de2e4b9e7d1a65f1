"""Anomaly detection: detectors that are trained only on normal images."""

from gainmtl.anomaly.base import AnomalyOutputs as AnomalyOutputs
from gainmtl.anomaly.base import Detector as Detector
from gainmtl.anomaly.filters import flat_field as flat_field
from gainmtl.anomaly.filters import smoothing_matrix as smoothing_matrix
from gainmtl.anomaly.fitting import RECIPES as RECIPES
from gainmtl.anomaly.fitting import DistillationRecipe as DistillationRecipe
from gainmtl.anomaly.fitting import fit_detector as fit_detector
from gainmtl.anomaly.fitting import set_threshold as set_threshold
from gainmtl.anomaly.memory_bank import MemoryBank as MemoryBank
from gainmtl.anomaly.reverse_distillation import ReverseDistillation as ReverseDistillation
from gainmtl.anomaly.reverse_distillation import cosine_distance as cosine_distance
from gainmtl.anomaly.scores import anomaly_scores as anomaly_scores
from gainmtl.anomaly.scores import detector_outputs as detector_outputs
from gainmtl.anomaly.scores import score_detector as score_detector
from gainmtl.anomaly.teacher import Teacher as Teacher
from gainmtl.anomaly.teacher import feature_statistics as feature_statistics
from gainmtl.anomaly.teacher import level_statistics as level_statistics
