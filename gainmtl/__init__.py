"""Does a classifier that says "defective" look at the defect? Models, losses and measures.

The parts come one by one from their modules; figures and widgets are imported on demand.
"""

# Not on demand: `evaluate` and `predict` are modules and functions, and only an import here,
# after the module's own, makes each name mean the function for good.
from gainmtl import datasets as datasets
from gainmtl.evaluation.prediction import predict as predict
from gainmtl.evaluation.tidy import evaluate as evaluate
from gainmtl.io import load as load
from gainmtl.io import save as save
from gainmtl.model import GAINMTL as GAINMTL
from gainmtl.training.fitting import fit as fit

__version__ = "0.1.0"
