"""Maps that explain a score by its gradient: Grad-CAM, Grad-CAM++ and HiResCAM, for a batch.

A network is split in two: `features(images)` is A (B, C, h, w), `head(A)` are logits (B, K). With
z the explained score, `g = dz/dA` and N = h w cells, every method here is a weighted sum of the
features. Only the head needs a backward pass; the part before it needs one forward pass. One
backward pass serves the whole batch, since image i's score depends on image i alone. This requires
a network in `eval` mode, because batch norm in training mode mixes the images.

If the head is a linear map of A followed by a pooling P with `P(E + c) = P(E) + c`, then
`sum_ij dP/dE_ij = 1` and Grad-CAM is `ReLU(CAM) / N` for every such pooling: mean, log-mean-exp and
top-k. HiResCAM is equal to it with the mean only. With a nonlinearity between A and the logits the
identity does not hold.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

Head = Callable[[Tensor], Tensor]
"""Features (B, C, h, w) to logits (B, K)."""
Kind = Literal["evidence", "logit", "probability"]
KINDS: tuple[str, ...] = get_args(Kind)
LIBRARY_EPSILON = 1e-6
"""The constant that pytorch-grad-cam adds to the denominator of Grad-CAM++."""


class Target(NamedTuple):
    """The explained score z as a function of the logits (B, K).

    - `"evidence"`: `logit_c - logit_0`, the log-odds of class c against normal, which decides a
      binary classification.
    - `"logit"`: `logit_c`. Adding the same map to every class does not change the classification,
      but it changes this score's map.
    - `"probability"`: `softmax(logits)_c`. Its gradient `p_c (e_c - p)` mixes the classes and
      vanishes if the network is certain: in float32 it is 0 from log-odds of about 17 on.
    """

    kind: Kind = "evidence"
    classes: int | Tensor = 1
    """One class for all images, or (B,) integers."""

    def __call__(self, logits: Tensor, rows: Tensor | None = None) -> Tensor:
        """Scores (B,); `rows` (B,) are the images of the logits, by default 0 to B - 1.

        Raises:
            ValueError: an unknown kind, logits that are not (B, K), or a class out of range.
        """
        if self.kind not in KINDS:
            raise ValueError(f"target: expected one of {', '.join(KINDS)}, got {self.kind!r}")
        if logits.ndim != 2:
            raise ValueError(f"target: expected logits (B, K), got {tuple(logits.shape)}")
        chosen = torch.as_tensor(self.classes, device=logits.device)
        fits = not chosen.ndim or rows is not None or len(chosen) == len(logits)
        if chosen.is_floating_point() or chosen.ndim > 1 or not fits:
            raise ValueError(
                f"target: expected a class, or one for each of {len(logits)} images, got "
                f"{self.classes!r}"
            )
        if chosen.ndim == 1 and rows is not None:
            chosen = chosen[rows]
        least = 1 if self.kind == "evidence" else 0  # the evidence of normal is 0 for every image
        if int(chosen.min()) < least or int(chosen.max()) >= logits.shape[1]:
            raise ValueError(
                f"target: expected classes {least} to {logits.shape[1] - 1} for {self.kind!r}, got "
                f"{int(chosen.min())} to {int(chosen.max())}"
            )
        values = logits.softmax(1) if self.kind == "probability" else logits
        picked = values.gather(1, chosen.expand(len(logits))[:, None])[:, 0]
        return picked - logits[:, 0] if self.kind == "evidence" else picked


class Explanation(NamedTuple):
    """A map per image on the grid of the features, neither resized nor normalised."""

    raw: Tensor
    """(B, 1, h, w) unbounded: the weighted sum before the ReLU."""
    weights: Tensor | None
    """(B, C): the weight of each channel; `None` if it differs from cell to cell."""

    @property
    def map(self) -> Tensor:
        """(B, 1, h, w) >= 0: `ReLU(raw)`, the map of the papers."""
        return self.raw.relu()


def over_maximum(maps: Tensor) -> Tensor:
    """Non-negative maps (B, 1, h, w) divided by their maxima, in [0, 1]; a zero map stays zero."""
    return maps / maps.amax((1, 2, 3), keepdim=True).clamp_min(torch.finfo(maps.dtype).tiny)


def weighted_sum(weights: Tensor, features: Tensor) -> Tensor:
    """`sum_k w_k A_k`: (B, C) and (B, C, h, w) to (B, 1, h, w)."""
    return torch.einsum("bc,bchw->bhw", weights, features)[:, None]


def score_gradient(
    features: Tensor, head: Head, target: Target | None = None, create_graph: bool = False
) -> Tensor:
    """`g = dz/dA` for every image of the batch by one backward pass of the head.

    Args:
        features: A (B, C, h, w).
        head: A to logits (B, K), without layers that mix images.
        target: the score z; `None` is the evidence of class 1 against class 0.
        create_graph: keep the graph of g, so that a loss on a map has gradients for the parameters;
            features with a graph then stay connected to it. Otherwise they are detached.

    Returns:
        (B, C, h, w), also under `no_grad` and `inference_mode`.

    Raises:
        ValueError: features of another shape, or a score that does not depend on them.
    """
    if features.ndim != 4:
        raise ValueError(f"features: expected maps (B, C, h, w), got {tuple(features.shape)}")
    with torch.inference_mode(False), torch.enable_grad():
        # A tensor of inference_mode can't require a gradient; a copy can.
        leaf = features.clone() if features.is_inference() else features
        if not (create_graph and leaf.requires_grad):
            leaf = leaf.detach().requires_grad_()
        score = (target or Target())(head(leaf))
        if not score.requires_grad:
            raise ValueError(
                "head: expected a score that depends on the features, got one without a graph; "
                "remove no_grad, detach or a conversion to NumPy inside the head"
            )
        (gradient,) = torch.autograd.grad(score.sum(), leaf, create_graph=create_graph)
    return gradient


def grad_cam(
    features: Tensor, head: Head, target: Target | None = None, create_graph: bool = False
) -> Explanation:
    """Grad-CAM: `sum_k w_k A_k` with `w_k = 1/N sum_ij g_kij`; arguments as `score_gradient`.

    Differentiable with `create_graph=True`; for a linear head the derivative is that of the CAM.

    Source: Selvaraju et al., "Grad-CAM", ICCV 2017, eqs. 1 and 2.
    """
    weights = score_gradient(features, head, target, create_graph).mean((2, 3))
    return Explanation(weighted_sum(weights, features), weights)


def grad_cam_plus_plus(
    features: Tensor,
    head: Head,
    target: Target | None = None,
    create_graph: bool = False,
    epsilon: float = 0.0,
) -> Explanation:
    """Grad-CAM++: `sum_k w_k A_k` with `w_k = sum_ij alpha_kij ReLU(g_kij)`.

    `alpha = g^2 / (2 g^2 + S_k g^3)` with `S_k = sum_ij A_kij`, which is `1 / (2 + S_k g)` where
    g > 0 and not needed elsewhere. The paper's score is exp(z): its second and third derivatives
    are exp(z) times these powers of g. The common factor exp(z) only scales an image's map and is
    left out. Channels with negative gradients only get weight 0.

    Differentiable with `create_graph=True`, except where a gradient changes its sign.

    Args:
        features: A (B, C, h, w). The paper takes A >= 0; where S_k is negative enough the
            denominator can vanish or change its sign. At exactly 0, alpha is 0.
        head, target, create_graph: as in `score_gradient`.
        epsilon: added to the denominator before g^2 is divided out. pytorch-grad-cam adds 1e-6
            (`LIBRARY_EPSILON`). With a mean over N cells g is of the order 1 / N, and once
            `2 g^2` falls below epsilon the weights tend to `g^3 / epsilon`: another method.

    Source: Chattopadhay et al., "Grad-CAM++", WACV 2018, eqs. 10 and 19.
    """
    gradient = score_gradient(features, head, target, create_graph)
    mass = features.sum((2, 3), keepdim=True)
    positive = gradient > 0
    safe = gradient.where(positive, torch.ones_like(gradient))
    denominator = 2 + mass * safe
    if epsilon:
        denominator = denominator + epsilon / safe.square()
    positive = positive & (denominator != 0)
    alpha = 1 / denominator.where(positive, torch.ones_like(denominator))
    weights = (alpha * safe).where(positive, torch.zeros_like(safe)).sum((2, 3))
    return Explanation(weighted_sum(weights, features), weights)


def hires_cam(
    features: Tensor, head: Head, target: Target | None = None, create_graph: bool = False
) -> Explanation:
    """HiResCAM: `sum_k g_k * A_k`, the gradient not averaged; arguments as `score_gradient`.

    With a linear head and mean pooling it is equal to Grad-CAM. With another pooling the evidence
    of each cell is weighted by its influence on the score, `dP/dE_ij E_ij`.

    Source: Draelos and Carin, "Use HiResCAM instead of Grad-CAM", arXiv 2011.08891.
    """
    gradient = score_gradient(features, head, target, create_graph)
    return Explanation((gradient * features).sum(1, keepdim=True), None)
