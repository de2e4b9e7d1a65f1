"""A mistake on purpose: an evaluation that multiplies the true mask into the attention.

The published code of S6 does so, in validation and in the test. It stands here apart from the
model, whose predictions take images and nothing else, to show what such figures mean. Only
defective images have a mask that is not empty, so the mask gives the label away, and everything
outside it is erased before the head reads the features.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from gainmtl import metrics
from gainmtl.losses import pooled_mask
from gainmtl.model import GAINMTL
from gainmtl.types import collate


class Leaked(NamedTuple):
    """The outputs of a model that gets the true mask."""

    defect_probability: Tensor
    """(B,) in [0, 1]."""
    attention: Tensor
    """(B, 1, h, w) in [0, 1], the map that has been multiplied with the mask."""


def leaking_attention(attention: Tensor, masks: Tensor) -> Tensor:
    """M * A / max(M * A) where there is a mask, else A: (B, 1, h, w) in [0, 1].

    attention (B, 1, h, w) in [0, 1]; masks (B, 1, H, W), pooled to its grid. An empty mask selects
    the other branch: this is where the label leaks.
    """
    inside = pooled_mask(masks, (attention.shape[2], attention.shape[3])) * attention
    peak = inside.amax((2, 3), keepdim=True)
    return torch.where(peak > 0, inside / peak.clamp_min(1e-12), attention)


def leaking_features(model: GAINMTL, images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """The refined features (B, C, h, w) times the leaking attention, and it (B, 1, h, w).

    Images (B, 3, H, W) in [0, 1].

    Raises:
        ValueError: a model without attention.
    """
    if model.attention is None or model.attended_head is None:
        raise ValueError(f"expected a strategy with attention, S3 to S6; got {model.strategy.name}")
    features = model.features(model.preprocess(images))
    refined = features if model.refine is None else model.refine(features)
    attention = leaking_attention(torch.sigmoid(model.attention(refined)), masks)
    return refined * attention, attention


@torch.no_grad()
def leaking_answers(model: GAINMTL, images: Tensor, masks: Tensor) -> Leaked:
    """Images (B, 3, H, W) in [0, 1] and their true masks (B, 1, H, W) to outputs that leak."""
    features, attention = leaking_features(model, images, masks)
    return Leaked(1 - model.deciding_head(features).logits.softmax(1)[:, 0], attention)


def fit_leaking(
    model: GAINMTL,
    images: Tensor,
    masks: Tensor,
    labels: Tensor,
    steps: int = 30,
    rate: float = 0.05,
) -> list[float]:
    """Fit the deciding head, and nothing else, to leaking features; the loss of every step.

    The backbone, the attention and all that reads an image stay as they were, so an improvement
    was not learned from an image. labels (B,), 0 normal.
    """
    model.eval()
    with torch.no_grad():
        features, _ = leaking_features(model, images, masks)
    optimizer = torch.optim.Adam(model.deciding_head.parameters(), lr=rate)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = functional.cross_entropy(model.deciding_head(features).logits, labels.long())
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def drawn_labels(count: int, size: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random labels (count,) bool, half of them true, and for these a random box as their mask.

    Masks (count, 1, size, size). For sound parts no image has anything that fits the label.
    """
    generator = torch.Generator().manual_seed(seed)
    labels = torch.zeros(count, dtype=torch.bool)
    labels[torch.randperm(count, generator=generator)[: count // 2]] = True
    side = max(1, size // 6)
    corners = torch.randint(0, size - side + 1, (count, 2), generator=generator).tolist()
    masks = torch.zeros(count, 1, size, size)
    for index, (top, left) in enumerate(corners):
        if labels[index]:
            masks[index, 0, top : top + side, left : left + side] = 1
    return labels, masks


class MarkedParts(NamedTuple):
    """Parts with masks and labels."""

    images: Tensor
    """(B, 3, H, W) in [0, 1]."""
    masks: Tensor
    """(B, 1, H, W)."""
    labels: Tensor
    """(B,) bool."""


def parts_as_they_are(dataset: Any, count: int) -> MarkedParts:
    """The first `count` parts of a data set."""
    batch = collate([dataset[i] for i in range(count)])
    return MarkedParts(batch.image, batch.mask, batch.is_defective)


def sound_parts(dataset: Any, count: int, seed: int) -> MarkedParts:
    """The first `count` synthetic parts without their defects, with `drawn_labels`."""
    images = torch.stack([dataset.clean_image(i) for i in range(count)])
    labels, masks = drawn_labels(count, images.shape[2], seed)
    return MarkedParts(images, masks, labels)


def score_with_and_without_mask(
    model: GAINMTL, parts: MarkedParts
) -> dict[str, tuple[float, float]]:
    """AUROC and PointGame of the attention: mask kept out ("shut") and multiplied in ("open")."""
    with torch.no_grad():
        out = model(model.preprocess(parts.images))
    assert out.attention_logits is not None
    honest = Leaked(out.defect_probability, torch.sigmoid(out.attention_logits))
    leaked = leaking_answers(model, parts.images, parts.masks)
    return {
        leak: (
            metrics.auroc(probability.numpy(), parts.labels.numpy()),
            float(metrics.point_game(a[parts.labels], parts.masks[parts.labels]).mean()),
        )
        for leak, (probability, a) in {"shut": honest, "open": leaked}.items()
    }
