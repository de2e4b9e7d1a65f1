"""CAM fostering: the map that a sharper map is asked of, by two routes.

For a sample of class y the score is the log-odds `z = logit_y - logit_o` against an opponent o:
normal for a defect, the most probable defect for a normal sample. Its map is

- at the features that the deciding head reads, `E = A_y - A_o`, read off the forward pass. By the
  identity of `gainmtl.explanation.gradient` Grad-CAM there is `E / n` over n cells: fostering costs
  no derivative beyond the ordinary ones;
- at an earlier layer F, n times Grad-CAM, `sum_k w_k F_k` with `w_k = sum_ij dz/dF_kij`. Its
  weights are gradients, and training on it differentiates them again: the paper's second-order
  route.

Fostering reads a map after a ReLU, so it matters where its zero lies, and nothing fixes that: a
constant taken off every cell sharpens the map, the bias gives it back, and the verdict is what it
was. In the end no cell is positive. So the evidence is read from the *verdict's* zero, `E + b_y -
b_o`, where a cell is positive if a part that looks like it all over would be given to class y: a
sample that is given to its class has such a cell, because no pooling exceeds the highest cell. The
map's own zero is the paper's and stays available.

A map is worth sharpening once the verdict that it stands for is right. Before that the entropy
pulls at cells that nothing has chosen yet, and a network pulled too early learns nothing else. So
the loss rises after the classifier has settled, and each map counts by its verdict's `certainty`.

The paper takes the map of the logit of the true class among 20 objects; against *normal* is what a
verdict about defects depends on.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gainmtl.precision import exact, full


def opponents(logits: Tensor, labels: Tensor) -> Tensor:
    """(B,) classes: 0 for a defect, the most probable defect class for a normal sample.

    logits (B, K), labels (B,) integer classes.
    """
    return torch.where(labels > 0, torch.zeros_like(labels), logits[:, 1:].argmax(1) + 1)


def true_score(logits: Tensor, labels: Tensor) -> Tensor:
    """`logit_y - logit_o`, (B,)."""
    against = opponents(logits, labels)
    return (logits.gather(1, labels[:, None]) - logits.gather(1, against[:, None]))[:, 0]


def certainty(logits: Tensor, labels: Tensor) -> Tensor:
    """How sure the verdict is of the true class, (B,) in [0, 1): `max(2 p - 1, 0)`.

    p is the probability of the true class against its opponent alone, `sigmoid(true_score)`; 0 for
    a verdict that is wrong.
    """
    return (true_score(logits, labels) / 2).tanh().clamp_min(0)


ZEROS = ("verdict", "map")
"""Where the zero of an evidence map may lie; see above."""


def true_map(
    class_cam: Tensor, logits: Tensor, labels: Tensor, bias: Tensor | None = None
) -> Tensor:
    """`A_y - A_o`, with a `bias` (K,) plus `b_y - b_o`: (B, K, h, w) to (B, 1, h, w), unbounded."""
    rows = torch.arange(len(labels), device=labels.device)
    against = opponents(logits, labels)
    found = (class_cam[rows, labels] - class_cam[rows, against])[:, None]
    return found if bias is None else found + (bias[labels] - bias[against])[:, None, None, None]


def layer_map(score: Tensor, layer: Tensor) -> Tensor:
    """n times Grad-CAM before its ReLU, (B, 1, h, w), of scores (B,) computed from `layer`.

    layer (B, C, h, w); in the units of the score. Differentiable twice over. One gradient of the
    sum serves the batch, which takes scores that don't mix images; batch norm that trains does,
    and then the map of one image holds a little of the others', as in the paper.

    Raises:
        ValueError: the score does not depend on the layer, or the layer is frozen.
    """
    if not layer.requires_grad:
        raise ValueError(
            "fostering_layer: this layer and all before it are frozen; choose a coarser one, or "
            "a smaller freeze_stride"
        )
    (gradient,) = torch.autograd.grad(score.sum(), layer, create_graph=True, allow_unused=True)
    if gradient is None:
        raise ValueError(
            "fostering_layer: the score does not depend on what the backbone returns for this "
            "layer, which may be a copy; choose another one, or none for the evidence map"
        )
    with exact(layer):
        return (full(gradient).sum((2, 3), keepdim=True) * full(layer)).sum(1, keepdim=True)


class Tally:
    """How many of the maps asked for had vanished, since the last look."""

    def __init__(self) -> None:
        self._gone: list[Tensor] = []
        self._asked: list[Tensor] = []

    def add(self, gone: Tensor, asked: Tensor) -> None:
        """Both (B,) bool; a map counts where it was asked for."""
        self._gone.append((gone & asked).sum())
        self._asked.append(asked.sum())

    def take(self) -> float:
        """The share that had vanished, and start anew; NaN if none was asked for."""
        gone, asked = (float(sum(counts)) for counts in (self._gone, self._asked))
        self._gone, self._asked = [], []
        return gone / asked if asked else float("nan")
