"""Evaluation: scores and measures with intervals, predictions, interventions."""

from gainmtl.evaluation.inpainting import inpaint as inpaint
from gainmtl.evaluation.interventions import intervene as intervene
from gainmtl.evaluation.interventions import score_interventions as score_interventions
from gainmtl.evaluation.prediction import Predictions as Predictions
from gainmtl.evaluation.prediction import predict as predict
from gainmtl.evaluation.scoring import Scores as Scores
from gainmtl.evaluation.scoring import score as score
from gainmtl.evaluation.stats import Interval as Interval
from gainmtl.evaluation.stats import PairedInterval as PairedInterval
from gainmtl.evaluation.stats import bootstrap_interval as bootstrap_interval
from gainmtl.evaluation.stats import paired_interval as paired_interval
from gainmtl.evaluation.stats import student_interval as student_interval
from gainmtl.evaluation.tidy import evaluate as evaluate
from gainmtl.evaluation.tidy import tidy_rows as tidy_rows
