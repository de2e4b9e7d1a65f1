"""Explain the output of a `GAINMTL` by one of five methods, on the features that its heads read.

`randomisation_check` tests the methods: the map of a network that has lost what it learned must
differ from the map of the trained one.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gainmtl.explanation.gradient import (
    Explanation,
    Target,
    grad_cam,
    grad_cam_plus_plus,
    hires_cam,
)
from gainmtl.explanation.perturbation import score_cam
from gainmtl.interface import check_model, evaluating
from gainmtl.metrics.agreement import rank_correlation
from gainmtl.model import GAINMTL

METHODS: dict[str, str] = {
    "cam": "CAM",
    "grad_cam": "Grad-CAM",
    "grad_cam_plus_plus": "Grad-CAM++",
    "hires_cam": "HiResCAM",
    "score_cam": "Score-CAM",
}
"""Argument of `explain` to the name in the literature."""
GRADIENT_METHODS = {
    "grad_cam": grad_cam,
    "grad_cam_plus_plus": grad_cam_plus_plus,
    "hires_cam": hires_cam,
}


def head_logits(model: GAINMTL, features: Tensor) -> Tensor:
    """Features (B, C, h, w) to the logits (B, K) of the deciding head."""
    return model.classify(features).output.logits


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
        model: on the device of the images. It is in evaluation mode during the call: in training
            mode batch norm would mix the images of a batch and update its statistics.
        images: (B, 3, H, W), normalised by `model.preprocess`.
        method: one of `METHODS`. `"cam"` is `out.cam`, the evidence map itself.
        target: the score that is explained; `None` is the evidence of the defect class, with K > 2
            of the most probable one. It does not apply to `"cam"`. A CAM explains the deciding
            head from the attended features; the other methods explain it from the features before
            the attention.
        chunk: masked images per forward pass; see `score_cam`.
        create_graph: makes the map differentiable, for a loss on it.

    Raises:
        TypeError: a model that is no `GAINMTL`.
        ValueError: an unknown method, or images of another shape.
    """
    advice = "other models have no class activation map; gainmtl.predict returns their own maps"
    check_model("explain", model, (GAINMTL,), advice)
    if not isinstance(images, Tensor) or images.ndim != 4 or images.shape[1] != 3:
        found = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise ValueError(
            "explain: expected a tensor of images (B, 3, H, W), normalised by model.preprocess, "
            f"got {found}; gainmtl.predict reads files and returns the CAM of each"
        )
    wanted = next(model.parameters()).dtype
    if images.dtype != wanted:
        raise ValueError(
            f"explain: expected images of type {wanted}, as model.preprocess returns them, got "
            f"{images.dtype}"
        )
    if create_graph and torch.is_inference_mode_enabled():
        raise ValueError("create_graph: expected no inference mode, in which no graph is kept")
    if method not in METHODS:
        raise ValueError(f"method: expected one of {', '.join(METHODS)}, got {method!r}")
    with evaluating(model), torch.set_grad_enabled(create_graph):
        features = model.features(images)
        if method == "cam":
            return Explanation(model.evidence(model.classify(features).output), None)
        if target is None:
            target = _default_target(model, features)
        if method == "score_cam":

            def network(x: Tensor) -> Tensor:
                # The backward pass runs it again, when the model may be in training mode.
                with evaluating(model):
                    return head_logits(model, model.features(x))

            return score_cam(images, features, network, target, chunk, create_graph=create_graph)
        function = GRADIENT_METHODS[method]
        return function(features, lambda a: head_logits(model, a), target, create_graph)


def _default_target(model: GAINMTL, features: Tensor) -> Target:
    """The evidence of the most probable defect class."""
    if len(model.classes) == 2:
        return Target()
    with torch.no_grad():
        return Target("evidence", head_logits(model, features)[:, 1:].argmax(1) + 1)


class Randomised(NamedTuple):
    """One stop of `randomise_top_down`."""

    done: int
    """Modules randomised so far, from the output down."""
    share: float
    """Share of the parameters randomised so far, in (0, 1]."""
    name: str
    """The lowest module randomised so far."""
    model: nn.Module
    """The network at this stop; the next stop changes it further."""


def layers_top_down(model: nn.Module) -> list[str]:
    """Names of the modules with parameters of their own, last registered first.

    If the modules are registered in the order in which they run, this is the order from the output
    to the input.
    """
    return [
        name
        for name, module in reversed(list(model.named_modules()))
        if any(True for _ in module.parameters(recurse=False))
    ]


@torch.no_grad()
def shuffle_(module: nn.Module, generator: torch.Generator) -> None:
    """Shuffle the entries of each of the module's own tensors in place.

    This removes what the layer learned and keeps the distribution of its values, so activations
    keep their order of magnitude in any architecture. Vectors of the same length, such as scale,
    shift, mean and variance of a batch norm, get the same permutation.
    """
    orders: dict[int, Tensor] = {}
    tensors = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    for tensor in tensors:
        count = tensor.numel()
        if count < 2:
            continue
        order = orders.get(count) if tensor.ndim == 1 else None
        if order is None:
            order = torch.randperm(count, generator=generator)
        if tensor.ndim == 1:
            orders[count] = order
        tensor.copy_(tensor.flatten()[order.to(tensor.device)].view_as(tensor))


def randomise_top_down(model: nn.Module, stops: int = 6, seed: int = 0) -> Iterator[Randomised]:
    """Randomise a copy of `model` from the output down, and yield it at `stops` depths.

    The first stop is the topmost module alone, the last one the whole network; the others lie
    between at equal numbers of modules.

    Source: the cascading randomisation of Adebayo et al., "Sanity Checks for Saliency Maps",
    NeurIPS 2018. Deviation: parameters are shuffled within their tensor, not drawn anew; see
    `shuffle_`.

    Raises:
        ValueError: a model without parameters, or fewer than one stop.
    """
    names = layers_top_down(model)
    if not names or stops < 1:
        raise ValueError(
            f"randomise_top_down: expected at least one layer with parameters and one stop, got "
            f"{len(names)} layers and {stops} stops"
        )
    counts = torch.linspace(1, len(names), min(stops, len(names))).round().int().tolist()
    twin = copy.deepcopy(model)
    modules = dict(twin.named_modules())
    generator = torch.Generator().manual_seed(seed)
    total = sum(p.numel() for p in twin.parameters())
    changed = 0
    for done, name in enumerate(names, 1):
        shuffle_(modules[name], generator)
        changed += sum(p.numel() for p in modules[name].parameters(recurse=False))
        if done in counts:
            yield Randomised(done, changed / total, name, twin)


class RandomisationCheck(NamedTuple):
    """How much a method's maps depend on the parameters; see `randomisation_check`."""

    method: str
    share: list[float]
    """Share of the parameters randomised, from 0."""
    correlation: list[float]
    """Mean over images of |rank correlation| with the trained network's map; the first is 1."""
    baseline: float
    """Mean |rank correlation| between the trained network's maps of two different images: the
    value of unrelated maps on this grid."""


def randomisation_check(
    model: GAINMTL,
    images: Tensor,
    methods: Sequence[str] = tuple(METHODS),
    stops: int = 6,
    seed: int = 0,
) -> list[RandomisationCheck]:
    """The randomisation check for several methods, on normalised images (B, 3, H, W), B >= 2.

    A method whose maps stay correlated with those of the trained network while the parameters are
    randomised shows the image and not what the network learned. Maps are compared after the ReLU,
    and correlations without their sign, because a shuffled head may invert a map and still show
    the same shapes. A constant map has no correlation and counts as 0.

    Source: see `randomise_top_down`.

    Raises:
        ValueError: fewer than two images.
    """
    if len(images) < 2:
        raise ValueError(f"randomisation_check: expected at least two images, got {len(images)}")
    trained = {name: explain(model, images, name).map for name in methods}
    shares = [0.0]
    correlations: dict[str, list[float]] = {name: [1.0] for name in methods}
    for stop in randomise_top_down(model, stops, seed):
        assert isinstance(stop.model, GAINMTL)
        shares.append(stop.share)
        for name in methods:
            randomised = explain(stop.model, images, name).map
            correlations[name].append(_mean_correlation(trained[name], randomised))
    return [
        RandomisationCheck(
            name,
            shares,
            correlations[name],
            _mean_correlation(trained[name], trained[name].roll(1, 0)),
        )
        for name in methods
    ]


def _mean_correlation(a: Tensor, b: Tensor) -> float:
    return float(rank_correlation(a, b).abs().nan_to_num(0.0).mean())
