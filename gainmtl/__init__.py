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
    active/       active learning: which images to label next
    anomaly/      detectors trained on normal images alone
    baselines/    U-Net, FCOS, attention branch network
    datasets/     reading, splitting, augmenting; synthetic parts
    deployment/   export to ONNX, 8-bit quantization
    metrics/      measures of verdicts, maps and pixels
    report/       the inspection report
    runner        verdicts of an exported model on image files, without torch
"""

import ast
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gainmtl import datasets as datasets
    from gainmtl import losses as losses
    from gainmtl import metrics as metrics
    from gainmtl.anomaly.fitting import fit_detector as fit_detector
    from gainmtl.anomaly.memory_bank import MemoryBank as MemoryBank
    from gainmtl.anomaly.reverse_distillation import ReverseDistillation as ReverseDistillation
    from gainmtl.backbone import Backbone as Backbone
    from gainmtl.baselines.attention_branch import AttentionBranchNetwork as AttentionBranchNetwork
    from gainmtl.deployment.exporting import export as export
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

if not TYPE_CHECKING:
    # Imported at their first use: `python -m gainmtl predict` runs where torch is not installed.
    # Read from the block above, so that there is one list for the type checker and for use.
    _MODULES = {
        alias.name: node.module
        for node in ast.walk(ast.parse(Path(__file__).read_text("utf-8")))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname
    }

    def __getattr__(name: str) -> Any:
        module = _MODULES.get(name, __name__)
        if module != __name__:
            return getattr(import_module(module), name)
        if name.startswith("_") or find_spec(f"{__name__}.{name}") is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return import_module(f"{__name__}.{name}")

    def __dir__() -> list[str]:
        return sorted(_MODULES)
