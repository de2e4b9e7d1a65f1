"""The loss terms of a training step: what a strategy asks of the model and a batch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gainmtl import losses
from gainmtl.cam import erase, soft_mask
from gainmtl.counterfactual import cell_mask, keep_only, remove
from gainmtl.fostering import certainty, layer_map, true_map, true_score
from gainmtl.heads import Verdict
from gainmtl.metrics.sharpness import vanished
from gainmtl.precision import full_batch
from gainmtl.types import Batch

if TYPE_CHECKING:
    from gainmtl.model import GAINMTL, Decision


@contextlib.contextmanager
def undisturbed_statistics(model: nn.Module) -> Iterator[None]:
    """Within the context, batch norms use their running statistics and don't update them."""
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.training]
    for norm in norms:
        norm.eval()
    try:
        yield
    finally:
        for norm in norms:
            norm.train()


def training_terms(model: GAINMTL, batch: Batch, progress: float = 1.0) -> dict[str, Tensor]:
    """The named loss terms in force at `progress` (share of the run), unweighted scalars.

    `batch.image` in [0, 1]. Multiply by `model.strategy.weights_at(progress)` and add. The running
    mean of normal features is updated on the way; a term of weight 0 is not computed.
    """
    batch = full_batch(batch)
    weights = model.strategy.weights_at(progress)
    images, labels = model.preprocess(batch.image), model.labels(batch)
    defective, marked = batch.is_defective, batch.is_defective & batch.has_mask
    look = model.look(images)
    features = look.features
    model.normal_features.update(features, ~defective)
    decision = model.decide(features, _fused_masks(model, batch, features, progress))
    cam = model.evidence(decision.verdict)
    terms: dict[str, Tensor] = {}
    gamma = model.strategy.focal_gamma
    if weights.classification:
        terms["classification"] = losses.focal_loss(decision.plain.logits, labels, gamma)
    if weights.attended_classification and decision.attended is not None:
        terms["attended_classification"] = losses.focal_loss(
            decision.attended.logits, labels, gamma
        )
    if weights.cam_guidance:
        terms["cam_guidance"] = losses.map_guidance_loss(
            model.calibrate(cam, decision.verdict.logits), batch.mask, defective, batch.has_mask
        )
    terms |= _located(model, batch, features, decision, progress)
    if weights.mining:
        terms["mining"] = _mining(model, images, cam, defective)
    if weights.counterfactual:
        terms["counterfactual"] = _counterfactual(
            model, features[marked], batch.mask[marked], labels[marked]
        )
    if weights.fostering:
        level = model.fostered_level
        layer = None if level is None else look.levels[level]
        terms["fostering"] = _fostering(model, decision.verdict, labels, layer)
    if weights.attention_branch and look.branch is not None:
        terms["attention_branch"] = losses.focal_loss(look.branch.logits, labels, gamma)
    return terms


def _fused_masks(
    model: GAINMTL, batch: Batch, features: Tensor, progress: float
) -> tuple[Tensor, Tensor] | None:
    """S6's masks (B, 1, h, w) and how much of them is blended in, (B, 1, 1, 1); `None` if none."""
    share = model.strategy.fusion_at(progress)
    if not share:
        return None
    # A missing mask is no empty mask: there the attention stays its own.
    shares = share * batch.has_mask.to(features.dtype)[:, None, None, None]
    return losses.pooled_mask(batch.mask, (features.shape[2], features.shape[3])), shares


def _located(
    model: GAINMTL, batch: Batch, features: Tensor, decision: Decision, progress: float
) -> dict[str, Tensor]:
    """The terms of the attention and of the localization head."""
    weights = model.strategy.weights_at(progress)
    gates = (batch.mask, batch.is_defective, batch.has_mask)
    attention, terms = decision.attention_logits, {}
    if weights.guidance and attention is not None:
        terms["guidance"] = losses.map_guidance_loss(attention, *gates, iou=True)
    if model.localization is None or not (weights.localization or weights.consistency):
        return terms
    located = model.localization(features, (batch.mask.shape[2], batch.mask.shape[3]))
    if weights.localization:
        parts = model.strategy.localization_loss.split("+")
        terms["localization"] = losses.map_guidance_loss(
            located, *gates, bce="bce" in parts, dice="dice" in parts
        )
    if weights.consistency and attention is not None:
        terms["consistency"] = losses.consistency_loss(attention, located, batch.is_defective)
    return terms


def _fostering(model: GAINMTL, verdict: Verdict, labels: Tensor, layer: Tensor | None) -> Tensor:
    """The spread of the true class's map, of defects, and of normal samples if asked."""
    if layer is None:
        zero = model.deciding_head.bias if model.strategy.fostering_zero == "verdict" else None
        maps = true_map(verdict.class_cam, verdict.logits, labels, zero)
    else:
        maps = layer_map(true_score(verdict.logits, labels), layer)
    asked = torch.ones_like(labels, dtype=torch.bool)
    if not model.strategy.fostering_normal:
        asked = labels > 0
    model.fostering_tally.add(vanished(maps.detach()), asked)
    sure = certainty(verdict.logits, labels) if model.strategy.fostering_certain else None
    return losses.fostering_loss(maps, asked, model.strategy.fostering_measure, sure)


def _mining(model: GAINMTL, images: Tensor, cam: Tensor, defective: Tensor) -> Tensor:
    """Erase the soft mask from up to a quarter of the batch and ask the same network again."""
    chosen = defective.nonzero()[:, 0][: max(1, len(images) // 4)]
    if not len(chosen):
        return cam.sum() * 0
    erased = erase(images[chosen], soft_mask(cam[chosen]))
    with undisturbed_statistics(model):
        return losses.mining_loss(model.decide(model.features(erased)).verdict.logits)


def _counterfactual(model: GAINMTL, features: Tensor, masks: Tensor, labels: Tensor) -> Tensor:
    """Ask the deciding head about features without, and with nothing but, the defect."""
    if not len(features):
        return features.sum() * 0
    cells = cell_mask(masks, (features.shape[2], features.shape[3]))
    mean = model.normal_features.mean
    with undisturbed_statistics(model):
        both = torch.cat([remove(features, cells, mean), keep_only(features, cells, mean)])
        removed, kept = model.decide(both).verdict.logits.chunk(2)
    return losses.counterfactual_loss(removed, kept, labels)
