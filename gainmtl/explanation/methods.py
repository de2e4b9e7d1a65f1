"""Explain the verdict of a `GAINMTL` by any of five methods, on the features its heads read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gainmtl.explanation.gradient import (
    Explanation,
    Target,
    grad_cam,
    grad_cam_plus_plus,
    hires_cam,
)
from gainmtl.explanation.sanity import cascade
from gainmtl.explanation.score_cam import score_cam
from gainmtl.metrics.agreement import rank_correlation
from gainmtl.model import GAINMTL

METHODS: dict[str, str] = {
    "cam": "CAM",
    "grad_cam": "Grad-CAM",
    "grad_cam_plus_plus": "Grad-CAM++",
    "hires_cam": "HiResCAM",
    "score_cam": "Score-CAM",
}
"""Names of the methods, and what readers call them."""
GRADIENT = {
    "grad_cam": grad_cam,
    "grad_cam_plus_plus": grad_cam_plus_plus,
    "hires_cam": hires_cam,
}


def head_logits(model: GAINMTL, features: Tensor) -> Tensor:
    """Features (B, C, h, w) to the deciding head's logits (B, K)."""
    return model.decide(features).verdict.logits


def explain(
    model: GAINMTL,
    images: Tensor,
    method: str = "cam",
    target: Target | None = None,
    chunk: int = 32,
    create_graph: bool = False,
) -> Explanation:
    """The map of a method for every image, on the grid of `model.features`.

    Args:
        model: in `eval` mode, on the device of the images.
        images: (B, 3, H, W), normalised by `model.preprocess`.
        method: one of `METHODS`. `"cam"` is `out.cam`, the evidence map itself.
        target: the score that is explained; `None` is the evidence of *defective*, with K > 2 of
            the most probable defect class. A CAM is always of the evidence, and of the head that
            reads what the attention left; the others are of the features below the attention.
        chunk: see `score_cam`.
        create_graph: differentiable, for a loss on the map.

    Raises:
        ValueError: an unknown method.
    """
    if method not in METHODS:
        raise ValueError(f"method: expected one of {', '.join(METHODS)}, got {method!r}")
    with torch.set_grad_enabled(create_graph):
        features = model.features(images)
        if method == "cam":
            return Explanation(_evidence(model, features), None)
        if target is None:
            target = _verdict(model, features)
        if method == "score_cam":
            return score_cam(
                images,
                features,
                lambda x: head_logits(model, model.features(x)),
                target,
                chunk,
                create_graph=create_graph,
            )
        return GRADIENT[method](features, lambda a: head_logits(model, a), target, create_graph)


def _evidence(model: GAINMTL, features: Tensor) -> Tensor:
    """`A_c - A_0` of the deciding head, c as in `_verdict`; (B, 1, h, w)."""
    verdict = model.decide(features).verdict
    best = verdict.logits[:, 1:].argmax(1) + 1
    rows = torch.arange(len(best), device=best.device)
    return verdict.class_cam[rows, best][:, None] - verdict.class_cam[:, :1]


def _verdict(model: GAINMTL, features: Tensor) -> Target:
    if len(model.classes) == 2:
        return Target()
    with torch.no_grad():
        return Target("evidence", head_logits(model, features)[:, 1:].argmax(1) + 1)


class Survival(NamedTuple):
    """How much of a method's maps is left while the network is randomised from the top."""

    method: str
    share: list[float]
    """Share of the parameters randomised, from 0."""
    resemblance: list[float]
    """Mean over images of |rank correlation| with the trained network's map; the first is 1."""
    strangers: float
    """The same between the trained network's maps of two different images: what resembling
    nothing looks like on this grid."""


def survival(
    model: GAINMTL,
    images: Tensor,
    methods: Sequence[str] = tuple(METHODS),
    stops: int = 6,
    seed: int = 0,
) -> list[Survival]:
    """The randomisation check for several methods, on normalised images (B, 3, H, W), B >= 2.

    The correlation is of maps after the ReLU and without its sign: a shuffled head may turn a map
    over and still show the same shapes. An image whose map is constant resembles nothing: 0.

    Source: see `sanity.cascade`.
    """
    if len(images) < 2:
        raise ValueError(f"survival: expected at least two images, got {len(images)}")
    trained = {name: explain(model, images, name).map for name in methods}
    shares, found = [0.0], {name: [1.0] for name in methods}
    for stop in cascade(model, stops, seed):
        assert isinstance(stop.model, GAINMTL)
        shares.append(stop.share)
        for name in methods:
            found[name].append(_alike(trained[name], explain(stop.model, images, name).map))
    return [
        Survival(name, shares, found[name], _alike(trained[name], trained[name].roll(1, 0)))
        for name in methods
    ]


def _alike(a: Tensor, b: Tensor) -> float:
    return float(rank_correlation(a, b).abs().nan_to_num(0.0).mean())
