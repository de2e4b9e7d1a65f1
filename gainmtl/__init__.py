"""Does a classifier use the defect that it reports? Models, losses and measures.

    data = gainmtl.datasets.load("synthetic")
    model = gainmtl.GAINMTL("mobilenetv2_100", "S5")
    history = gainmtl.fit(model, data)
    rows = gainmtl.evaluate(model, data.test)
    maps = gainmtl.explain(model.eval(), model.preprocess(images), "grad_cam")

Where to find what:

    model         GAINMTL: the network with its training step
    network       forward pass; built from backbone, attention, heads
    objective     the loss terms of one training step
    losses        their formulas; with cam, counterfactual, fostering
    strategies    S1 to S6: which terms, their weights, when they are active
    interface     what every trainable model offers to `fit`
    types         Sample, Batch, Outputs
    io            save and load
    training/     the training loop, its recipe, checkpoints
    evaluation/   scores, predictions, confidence intervals, interventions
    explanation/  CAM, Grad-CAM, Grad-CAM++, HiResCAM, Score-CAM
    anomaly/      detectors trained on normal images alone
    baselines/    U-Net, FCOS, attention branch network
    datasets/     reading, splitting, augmenting; synthetic parts
    metrics/      measures of verdicts, maps and pixels
    report/       the inspection report
"""

from gainmtl import datasets as datasets
from gainmtl import losses as losses
from gainmtl import metrics as metrics
from gainmtl.anomaly.fitting import fit_detector as fit_detector
from gainmtl.anomaly.memory_bank import MemoryBank as MemoryBank
from gainmtl.anomaly.reverse_distillation import ReverseDistillation as ReverseDistillation
from gainmtl.backbone import Backbone as Backbone
from gainmtl.baselines.attention_branch import AttentionBranchNetwork as AttentionBranchNetwork
from gainmtl.evaluation.prediction import Predictions as Predictions
from gainmtl.evaluation.prediction import predict as predict
from gainmtl.evaluation.scoring import Scores as Scores
from gainmtl.evaluation.scoring import score as score
from gainmtl.evaluation.tidy import evaluate as evaluate
from gainmtl.explanation.gradient import Target as Target
from gainmtl.explanation.methods import explain as explain
from gainmtl.interface import DefectModel as DefectModel
from gainmtl.io import load as load
from gainmtl.io import save as save
from gainmtl.losses import LossWeights as LossWeights
from gainmtl.model import GAINMTL as GAINMTL
from gainmtl.strategies import STRATEGIES as STRATEGIES
from gainmtl.strategies import Strategy as Strategy
from gainmtl.strategies import get_strategy as get_strategy
from gainmtl.training.fitting import fit as fit
from gainmtl.training.recipe import Recipe as Recipe
from gainmtl.types import Batch as Batch
from gainmtl.types import Outputs as Outputs
from gainmtl.types import Sample as Sample

__version__ = "0.1.0"
