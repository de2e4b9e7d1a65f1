"""The graph of an exported model: from the pixels of a file to the verdict and the maps."""

from __future__ import annotations

import copy
import functools
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gainmtl.anomaly.base import AnomalyOutputs
from gainmtl.anomaly.memory_bank import MemoryBank
from gainmtl.baselines.fcos import BoxDetector
from gainmtl.cam import resize_map
from gainmtl.deployment.boxes import painted_boxes
from gainmtl.types import Outputs


class GraphOutputs(NamedTuple):
    """The outputs of an exported model, in the order of the graph; see `runner.OnnxOutputs`."""

    probability: Tensor
    """(B,) float64 in [0, 1]: as precise as when the threshold was chosen."""
    verdict: Tensor
    """(B,) bool."""
    defect_map: Tensor
    """(B, 1, S, S) in [0, 1]."""
    evidence_map: Tensor | None
    """(B, 1, S, S), unbounded: the evidence of a `GAINMTL`, the anomaly map of a detector."""


class Graph(nn.Module):
    """`model` from images (B, 3, S, S) uint8 to `GraphOutputs`, in operations of fixed shapes.

    It holds a copy of the model, because the exporter leaves placeholders where a model caches
    tensors.
    """

    threshold: Tensor

    def __init__(self, model: Any) -> None:
        super().__init__()
        copied: Any = copy.deepcopy(model).cpu().to(memory_format=torch.contiguous_format)
        if isinstance(model, MemoryBank):
            copied.chunk = None  # a loop over chunks would fix the number of images
        if isinstance(model, BoxDetector):
            copied.painted = functools.partial(painted_boxes, copied.fcos)
        self.model = copied
        self.register_buffer("threshold", torch.tensor(model.threshold, dtype=torch.float64))
        self.eval()

    def outputs(self, images: Tensor) -> GraphOutputs:
        """Images (B, 3, S, S) uint8 to the outputs."""
        out = self.model(self.model.preprocess(images.float() / 255))
        if isinstance(out, AnomalyOutputs):
            probability = out.logits.double().sigmoid()
            verdict = ~(out.anomaly_score.double() < self.threshold)
            return GraphOutputs(probability, verdict, out.defect_map, out.anomaly_map)
        probability = 1 - out.logits.double().softmax(1)[:, 0]
        evidence = None
        if isinstance(out, Outputs):
            evidence = resize_map(out.cam, (images.shape[2], images.shape[3]))
        # Not `>=`: with it, a probability that is NaN would count as normal.
        verdict = ~(probability < self.threshold)
        return GraphOutputs(probability, verdict, out.defect_map, evidence)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """The outputs that exist, by name: a graph has no `None`."""
        return {k: v for k, v in self.outputs(images)._asdict().items() if v is not None}
