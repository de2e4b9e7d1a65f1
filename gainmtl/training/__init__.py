"""Training: `fit`, its recipe, its checkpoints, and what it can measure on the way."""

from gainmtl.training.checkpoint import CHECKPOINT as CHECKPOINT
from gainmtl.training.fitting import fit as fit
from gainmtl.training.gradient_conflict import Conflict as Conflict
from gainmtl.training.gradient_conflict import conflict as conflict
from gainmtl.training.recipe import Recipe as Recipe
from gainmtl.training.run import MODEL as MODEL
from gainmtl.training.run import TrainingRun as TrainingRun
