"""The loss terms of one training step: the terms of the strategy for the network and a batch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gainmtl import losses
from gainmtl.cam import erase, soft_mask
from gainmtl.counterfactual import cell_mask, keep_only, remove
from gainmtl.fostering import certainty, layer_map, true_map, true_score
from gainmtl.heads import HeadOutput
from gainmtl.metrics.sharpness import vanished
from gainmtl.network import Decision, Encoding, Network
from gainmtl.types import Batch


@contextlib.contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """A context in which batch norms use their running statistics and don't update them."""
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.training]
    for norm in norms:
        norm.eval()
    try:
        yield
    finally:
        for norm in norms:
            norm.train()


def training_terms(
    network: Network, encoding: Encoding, batch: Batch, labels: Tensor, progress: float = 1.0
) -> dict[str, Tensor]:
    """The named loss terms that are active at `progress`, unweighted scalars.

    The loss is `sum_t w_t(progress) L_t` with `w = network.strategy.weights_at(progress)`; a term
    of weight 0 is not computed. The running mean of normal features is updated on the way.

    Args:
        network: computes heads and maps; holds the strategy.
        encoding: that of the normalised `batch.image`.
        batch: images in [0, 1], float32.
        labels: class indices (B,), 0 normal.
        progress: finished share of the run, in [0, 1].
    """
    weights = network.strategy.weights_at(progress)
    defective, marked = batch.is_defective, batch.is_defective & batch.has_mask
    features = encoding.features
    network.normal_features.update(features, ~defective)
    decision = network.classify(features, _fused_masks(network, batch, features, progress))
    cam = network.evidence(decision.output)
    terms: dict[str, Tensor] = {}
    gamma = network.strategy.focal_gamma
    if weights.classification:
        terms["classification"] = losses.focal_loss(decision.plain.logits, labels, gamma)
    if weights.attended_classification and decision.attended is not None:
        terms["attended_classification"] = losses.focal_loss(
            decision.attended.logits, labels, gamma
        )
    if weights.cam_guidance:
        terms["cam_guidance"] = losses.map_guidance_loss(
            network.calibrate(cam, decision.output.logits), batch.mask, defective, batch.has_mask
        )
    terms |= _map_terms(network, batch, features, decision, progress)
    if weights.mining:
        terms["mining"] = _mining(network, network.preprocess(batch.image), cam, defective)
    if weights.counterfactual:
        terms["counterfactual"] = _counterfactual(
            network, features[marked], batch.mask[marked], labels[marked]
        )
    if weights.fostering:
        level = network.fostered_level
        layer = None if level is None else encoding.levels[level]
        terms["fostering"] = _fostering(network, decision.output, labels, layer)
    return terms


def _fused_masks(
    network: Network, batch: Batch, features: Tensor, progress: float
) -> tuple[Tensor, Tensor] | None:
    """S6's masks (B, 1, h, w) and their shares in the gate (B, 1, 1, 1); `None` for share 0."""
    share = network.strategy.fusion_at(progress)
    if not share:
        return None
    # A missing mask is not an empty mask: such a sample keeps its own attention.
    shares = share * batch.has_mask.to(features.dtype)[:, None, None, None]
    return losses.pooled_mask(batch.mask, (features.shape[2], features.shape[3])), shares


def _map_terms(
    network: Network, batch: Batch, features: Tensor, decision: Decision, progress: float
) -> dict[str, Tensor]:
    """Guidance of the attention, localization, and the consistency of the two maps."""
    weights = network.strategy.weights_at(progress)
    gates = (batch.mask, batch.is_defective, batch.has_mask)
    attention, terms = decision.attention_logits, {}
    if weights.guidance and attention is not None:
        terms["guidance"] = losses.map_guidance_loss(attention, *gates, iou=True)
    if network.localization is None or not (weights.localization or weights.consistency):
        return terms
    localization = network.localization(features, (batch.mask.shape[2], batch.mask.shape[3]))
    if weights.localization:
        parts = network.strategy.localization_loss.split("+")
        terms["localization"] = losses.map_guidance_loss(
            localization, *gates, bce="bce" in parts, dice="dice" in parts
        )
    if weights.consistency and attention is not None:
        terms["consistency"] = losses.consistency_loss(attention, localization, batch.is_defective)
    return terms


def _fostering(
    network: Network, output: HeadOutput, labels: Tensor, layer: Tensor | None
) -> Tensor:
    """The spread of the true class's map; `layer` (B, C, h, w) selects Grad-CAM at that layer."""
    strategy = network.strategy
    if layer is None:
        zero = network.deciding_head.bias if strategy.fostering_zero == "verdict" else None
        maps = true_map(output.class_cam, output.logits, labels, zero)
    else:
        maps = layer_map(true_score(output.logits, labels), layer)
    fostered = (labels > 0) | strategy.fostering_normal
    network.fostering_tally.add(vanished(maps.detach()), fostered)
    weight = certainty(output.logits, labels) if strategy.fostering_certain else None
    return losses.fostering_loss(maps, fostered, strategy.fostering_measure, weight)


def _mining(network: Network, images: Tensor, cam: Tensor, defective: Tensor) -> Tensor:
    """Defect probability after erasing the soft mask, of at most a quarter of the batch.

    Images (B, 3, H, W), normalised. A second pass of the network costs as much as the first, so
    only some of the defective images take part.
    """
    chosen = defective.nonzero()[:, 0][: max(1, len(images) // 4)]
    if not len(chosen):
        return cam.sum() * 0
    erased = erase(images[chosen], soft_mask(cam[chosen]))
    # Erased images must not change the running statistics that prediction uses.
    with frozen_statistics(network):
        return losses.mining_loss(network.classify(network.features(erased)).output.logits)


def _counterfactual(network: Network, features: Tensor, masks: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of the deciding head without the defect and with the defect alone.

    Features (b, C, h, w), masks (b, 1, H, W) and labels (b,) of defective samples with a mask.
    """
    if not len(features):
        return features.sum() * 0
    cells = cell_mask(masks, (features.shape[2], features.shape[3]))
    mean = network.normal_features.mean
    with frozen_statistics(network):
        both = torch.cat([remove(features, cells, mean), keep_only(features, cells, mean)])
        removed, kept = network.classify(both).output.logits.chunk(2)
    return losses.counterfactual_loss(removed, kept, labels)
