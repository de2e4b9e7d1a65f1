"""GAIN-MTL: a classifier whose class activation map is supervised."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import NamedTuple

import torch
from torch import Tensor

from gainmtl.counterfactual import cell_mask, keep_only, remove
from gainmtl.interface import evaluating
from gainmtl.network import Encoding, Network
from gainmtl.objective import training_terms
from gainmtl.precision import batch_to_float32
from gainmtl.types import Batch


class Counterfactual(NamedTuple):
    """Defect probabilities (B,) of the deciding head after interventions on its features."""

    removed: Tensor
    """With the mean of normal features inside the regions."""
    kept: Tensor
    """With the mean of normal features outside the regions."""


class GAINMTL(Network):
    """A timm backbone with the heads of a strategy S1 to S6, and the loss terms that train it.

    `out = model(model.preprocess(images))` gives `Outputs`; no mask is ever an input. The verdict
    is a function of the evidence map alone: with K = 2, `model.pool(out.cam) + model.evidence_bias`
    equals `out.logits[:, 1] - out.logits[:, 0]`.

    Args:
        backbone: a timm model name; see `Backbone`.
        strategy: `"S1"` to `"S6"`, a leave-one-out name such as `"S5-no-mining"`, or a `Strategy`.
        weights: see `Backbone`.
        num_classes: K >= 2; class 0 is normal. With K > 2 the others are defect types, `classes`.
        pooling: of `gainmtl.cam.pool_evidence`; `None` is `"mean"` on the backbone's last map and
            `"lse"` on a finer grid, where a mean would drown a single cell.
        output_stride: pixels per cell of the evidence grid. `None` is the stride of the backbone's
            last map for a strategy of image labels alone (S1), and 4 for all others. A stride
            finer than the last map adds a feature pyramid.
        width: channels of the pyramid.
        dropout: probability with which a feature map is dropped before the class activation map.
        refinement: `"none"`, `"se"` or `"cbam"` before the attention, or before the plain head
            where there is no attention. `None` is `"cbam"` with attention, else `"none"`.
        classes: names of the K classes, `"normal"` first; required for K > 2.
        create_kwargs: see `Backbone`.

    Raises:
        ValueError: an unknown name, a strategy with a term that the class can't compute, or an
            output stride that the backbone does not have.
    """

    def epoch_metrics(self, terms: Collection[str]) -> dict[str, float]:
        """`temperature` of the attention; `fostering_vanished`, see `Tally.take`."""
        values = {}
        if self.attention is not None:
            values["temperature"] = float(self.attention.temperature.detach())
        if "fostering" in terms:
            values["fostering_vanished"] = self.fostering_tally.take()
        return values

    def labels(self, batch: Batch) -> Tensor:
        """Class indices (B,): 0 normal, else 1 or, with K > 2, the index of the defect type."""
        if len(self.classes) == 2:
            return batch.is_defective.long()
        pairs = zip(batch.is_defective.tolist(), batch.defect_type, strict=True)
        names = [kind if bad else self.classes[0] for bad, kind in pairs]
        if unknown := sorted(set(names) - set(self.classes)):
            raise ValueError(
                "classes: expected defect types of the data among the model's classes, one of "
                f"{', '.join(map(repr, self.classes))}, got {', '.join(map(repr, unknown))}"
            )
        return torch.tensor([self.classes.index(n) for n in names], device=batch.image.device)

    def training_step(self, batch: Batch, progress: float = 1.0) -> dict[str, Tensor]:
        """The named loss terms that are active at `progress`; see `training_terms`."""
        batch = batch_to_float32(batch)
        return self.loss_terms(self.encode(self.preprocess(batch.image)), batch, progress)

    def loss_terms(self, encoding: Encoding, batch: Batch, progress: float) -> dict[str, Tensor]:
        """The loss terms of an encoded batch; a subclass may add terms."""
        return training_terms(self, encoding, batch, self.labels(batch), progress)

    @torch.no_grad()
    def counterfactual(self, features: Tensor, regions: Tensor, margin: int = 1) -> Counterfactual:
        """Defect probabilities with the defect's features removed, and with these features alone.

        `features` (B, C, h, w) of `model.features`; `regions` (B, 1, H, W), 0 or 1, cover the
        defect; `margin` as in `cell_mask`. Regions come from masks, so this is for evaluation and
        never part of a prediction.
        """
        cells = cell_mask(regions, (features.shape[2], features.shape[3]), margin)
        mean = self.normal_features.mean
        variants = (remove(features, cells, mean), keep_only(features, cells, mean))
        with evaluating(self):
            return Counterfactual(
                *(1 - self.classify(f).output.logits.softmax(1)[:, 0] for f in variants)
            )

    def with_weights(self, **weights: float) -> GAINMTL:
        """Change weights of the strategy's terms in place, e.g. `localization=0.5`."""
        new = dataclasses.replace(self.strategy.weights, **weights)
        if set(new.active()) != set(self.strategy.weights.active()):
            raise ValueError(
                f"with_weights: expected positive weights of {self.strategy.weights.active()}, "
                f"got {weights}"
            )
        self.strategy = dataclasses.replace(self.strategy, weights=new)
        return self
