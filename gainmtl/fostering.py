"""CAM fostering: the maps that are made sharper in training, by two routes.

For a sample of class y the score is the log-odds `z = logit_y - logit_o` against an opponent class
o: normal for a defect, the most probable defect class for a normal sample. The map of this score is
one of two:

- At the features that the deciding head reads: `E = A_y - A_o`, known from the forward pass. By the
  identity in `gainmtl.explanation.gradient`, Grad-CAM there is `ReLU(E) / n` over n cells, so
  fostering needs no derivative beyond the usual ones.
- At an earlier layer F: n times Grad-CAM before the ReLU, `sum_k w_k F_k` with
  `w_k = sum_ij dz/dF_kij`. The weights are gradients, and training differentiates them again. This
  is the second-order route of the paper.

Fostering reads a map after a ReLU, so the zero of the map matters, but the classifier does not
determine it: subtracting a constant from every cell sharpens the map, the bias adds the constant
again, and the output does not change. In the limit no cell is positive. Therefore the zero is by
default that of the decision, `E + b_y - b_o`: a cell is positive if an image that looks like this
cell everywhere would be classified as y. A sample that is classified as y has such a cell, because
no pooling exceeds the highest cell. The map without the bias, as in the paper, is available too.

Sharpening a map makes sense once the classification is right. Earlier the loss selects cells at
random, and a network that is trained with it from the start learns nothing else. So the loss is off
at first, see `gainmtl.strategies.STAGED`, and each map is weighted by its sample's `certainty`.

The paper explains the logit of the true class among 20 object classes. Here the classes are
compared with *normal*, because the decision depends on that difference.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gainmtl.precision import no_autocast, to_float32


def opponents(logits: Tensor, labels: Tensor) -> Tensor:
    """The opponent class of each sample, (B,): 0 for a defect, else the most probable defect class.

    logits (B, K), labels (B,) integer classes.
    """
    return torch.where(labels > 0, torch.zeros_like(labels), logits[:, 1:].argmax(1) + 1)


def true_score(logits: Tensor, labels: Tensor) -> Tensor:
    """`logit_y - logit_o`, (B,)."""
    against = opponents(logits, labels)
    return (logits.gather(1, labels[:, None]) - logits.gather(1, against[:, None]))[:, 0]


def certainty(logits: Tensor, labels: Tensor) -> Tensor:
    """Certainty of the true class, (B,) in [0, 1): `max(2 p - 1, 0)`.

    `p = sigmoid(true_score)` is the probability of the true class against its opponent alone. The
    certainty is 0 for a sample whose classification is wrong.
    """
    # 2 sigmoid(z) - 1 = tanh(z / 2)
    return (true_score(logits, labels) / 2).tanh().clamp_min(0)


ZEROS = ("verdict", "map")
"""Zero of the evidence map: that of the decision, with the bias, or of the map without it."""


def true_map(
    class_cam: Tensor, logits: Tensor, labels: Tensor, bias: Tensor | None = None
) -> Tensor:
    """`A_y - A_o`, plus `b_y - b_o` with a `bias` (K,): (B, K, h, w) to (B, 1, h, w), unbounded."""
    rows = torch.arange(len(labels), device=labels.device)
    against = opponents(logits, labels)
    evidence = (class_cam[rows, labels] - class_cam[rows, against])[:, None]
    if bias is None:
        return evidence
    return evidence + (bias[labels] - bias[against])[:, None, None, None]


def layer_map(score: Tensor, layer: Tensor) -> Tensor:
    """n times Grad-CAM before its ReLU, (B, 1, h, w), of scores (B,) computed from `layer`.

    layer (B, C, h, w); the map is in the units of the score and can be differentiated again. One
    gradient of the sum of the scores serves the whole batch, because image i's score depends on
    image i alone. A batch norm in training mode mixes the images; then a map also contains small
    contributions of the other images, as in the paper.

    Raises:
        ValueError: the score does not depend on the layer, or the layer is frozen.
    """
    if not layer.requires_grad:
        raise ValueError(
            "fostering_layer: this layer and all before it are frozen; choose a layer of a larger "
            "stride, or a smaller freeze_stride"
        )
    (gradient,) = torch.autograd.grad(score.sum(), layer, create_graph=True, allow_unused=True)
    if gradient is None:
        raise ValueError(
            "fostering_layer: the score does not depend on the tensor that the backbone returns "
            "for this layer, which may be a copy; choose another layer, or None for the evidence "
            "map"
        )
    with no_autocast(layer):
        return (to_float32(gradient).sum((2, 3), keepdim=True) * to_float32(layer)).sum(
            1, keepdim=True
        )


class Tally:
    """Counts the fostered maps without a positive cell."""

    def __init__(self) -> None:
        self._vanished: list[Tensor] = []
        self._fostered: list[Tensor] = []

    def add(self, vanished: Tensor, fostered: Tensor) -> None:
        """Count a batch; both (B,) bool."""
        self._vanished.append((vanished & fostered).sum())
        self._fostered.append(fostered.sum())

    def take(self) -> float:
        """The share of vanished maps since the last call; NaN if none was fostered."""
        vanished, fostered = (float(sum(counts)) for counts in (self._vanished, self._fostered))
        self._vanished, self._fostered = [], []
        return vanished / fostered if fostered else float("nan")
