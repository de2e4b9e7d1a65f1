"""A loss on a map: its derivative, training on it, and the cost of each explanation method."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gainbook.lab.cost import Counted, median_ratio, peak_bytes, side_by_side
from gainbook.lab.results_file import row
from gainbook.lab.systems import System
from gainmtl import metrics
from gainmtl.explanation.methods import METHODS, explain, head_logits
from gainmtl.model import GAINMTL


def energy_outside(model: GAINMTL, images: Tensor, masks: Tensor, method: str) -> Tensor:
    """Mean share of a map's energy off the defect, in [0, 1]: `1 - sum_mask m / sum m`.

    `m` is the method's map after the ReLU, differentiable in all parameters. `images`
    (B, 3, H, W) are normalised, `masks` (B, 1, H, W).
    """
    shown = explain(model, images, method, create_graph=True).map
    inside = metrics.oracle_map(masks, (shown.shape[2], shown.shape[3])).to(shown)
    total = shown.sum((1, 2, 3)).clamp_min(1e-12)
    return 1 - ((shown * inside).sum((1, 2, 3)) / total).mean()


def slope_error(
    model: GAINMTL, images: Tensor, masks: Tensor, method: str, step: float = 1e-6
) -> float:
    """Relative error of the derivative of `energy_outside`, in double precision.

    The derivative along one random direction of all parameters by automatic differentiation, beside
    central finite differences of width `2 step`.
    """
    twin, x = copy.deepcopy(model).double(), images.double()
    parameters = list(twin.parameters())
    generator = torch.Generator().manual_seed(0)
    along = [torch.randn(p.shape, generator=generator).double() for p in parameters]
    along = [d * p.detach().abs().mean() for d, p in zip(along, parameters, strict=True)]
    loss = energy_outside(twin, x, masks, method)
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    slope = sum(
        float((g * d).sum()) for g, d in zip(gradients, along, strict=True) if g is not None
    )
    values = []
    for move in (step, -2 * step):
        for parameter, direction in zip(parameters, along, strict=True):
            parameter.data.add_(direction, alpha=move)
        values.append(energy_outside(twin, x, masks, method).item())
    expected = (values[0] - values[1]) / (2 * step)
    return abs(slope - expected) / max(abs(expected), 1e-9)


class Practice(NamedTuple):
    """A short training on `energy_outside` alone."""

    before: float
    """The loss before the first step."""
    after: float
    """The loss after the last step."""
    seconds: float
    """Median of a step."""
    model: GAINMTL
    """The trained copy."""


def practise(
    model: GAINMTL, images: Tensor, masks: Tensor, method: str, steps: int = 5
) -> Practice:
    """Train a copy of `model` by `steps` of Adam (rate 0.001) on `energy_outside` alone."""
    twin = copy.deepcopy(model)
    optimizer = torch.optim.Adam(twin.parameters(), 1e-3)
    losses, seconds = [], []
    for _ in range(steps):
        begun = time.perf_counter()
        loss = energy_outside(twin, images, masks, method)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        seconds.append(time.perf_counter() - begun)
    after = energy_outside(twin, images, masks, method).item()
    return Practice(losses[0], after, float(np.median(seconds)), twin)


class Cost(NamedTuple):
    """The cost of a method's maps, beside the prediction alone."""

    forward: float
    """Forward passes of the backbone per image."""
    backward: float
    """Backward passes of the backbone per image."""
    head_forward: float
    head_backward: float
    time: float
    """Seconds over those of a prediction, the median over turns."""
    memory: float
    """Most bytes of tensors held at one time, over those of a prediction."""


def method_costs(
    model: GAINMTL, images: Tensor, methods: Sequence[str] = tuple(METHODS), repeats: int = 3
) -> dict[str, Cost]:
    """The `Cost` of every method on normalised images; the clock is this machine's."""

    def predict() -> Tensor:
        with torch.no_grad():
            return head_logits(model, model.features(images))

    def passes(method: str) -> tuple[float, float, float, float]:
        twin = copy.deepcopy(model)
        below, above = Counted(twin.features), Counted(twin.classify)
        twin.features, twin.classify = below, above  # type: ignore[method-assign, assignment]
        explain(twin, images, method)
        n = len(images)
        return below.forward / n, below.backward / n, above.forward / n, above.backward / n

    steps = {name: lambda name=name: explain(model, images, name) for name in methods}
    seconds = side_by_side({"prediction": predict, **steps}, repeats)
    held = peak_bytes(predict)
    return {
        name: Cost(
            *passes(name),
            median_ratio(seconds[name], seconds["prediction"]),
            peak_bytes(step) / held,
        )
        for name, step in steps.items()
    }


def live_rows(
    system: System,
    errors: dict[str, float],
    practices: dict[str, Practice],
    costs: dict[str, Cost],
) -> list[dict[str, Any]]:
    """Result rows of the live part, by method."""
    return [
        row("synthetic", system.name, metric, value, map="cam",
            condition={**system.condition, "method": name})
        for name in errors
        for metric, value in {
            "slope_error": errors[name],
            "loss_before": practices[name].before,
            "loss_after": practices[name].after,
            "forward_passes": costs[name].forward,
            "head_backward_passes": costs[name].head_backward,
            "time_ratio": costs[name].time,
            "memory_ratio": costs[name].memory,
        }.items()
    ]  # fmt: skip
