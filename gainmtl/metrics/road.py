"""ROAD: remove the marked pixels without leaving a trace of their shape, and ask again.

Painting pixels in one colour draws the outline of what was removed, and a network may answer to
that outline. Here every removed pixel becomes the weighted mean of its eight neighbours, known or
removed, plus a little noise.

Source: Rong et al., "A Consistent and Efficient Evaluation Strategy for Attribution Methods", ICML
2022. The linear system is solved for the whole batch by conjugate gradients, on any device.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from gainmtl.metrics.faithfulness import Ask, pixel_ranks

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
NOISE = 0.01


class RoadScores(NamedTuple):
    """Scores after removal, (B, S) float64 each for S shares of the pixels."""

    most: Tensor
    """After removing the most marked."""
    least: Tensor
    """After removing the least marked."""

    @property
    def combined(self) -> Tensor:
        """(B,) `mean_s (least - most) / 2`; 0 for a map that orders nothing, higher is better."""
        return ((self.least - self.most) / 2).mean(1)


def _blend(values: Tensor) -> Tensor:
    """Weighted sum of the 8 neighbours: 1/6 beside, 1/12 across; nothing beyond the border.

    The weights are (1 2 1) x (1 2 1) / 12 without their centre, so two passes along the axes do.
    """
    rows = functional.pad(values, (0, 0, 1, 1))
    rows = rows[..., :-2, :] + 2 * rows[..., 1:-1, :] + rows[..., 2:, :]
    both = functional.pad(rows, (1, 1))
    both = both[..., :-2] + 2 * both[..., 1:-1] + both[..., 2:]
    return both / 12 - values / 3


def _guess(known: Tensor, present: Tensor) -> Tensor:
    """A smooth fill to start from: means of what is known, from coarse to fine.

    Conjugate gradients carry values one pixel per iteration; across a hole of half the image that
    is slow, and this is where they would get to.
    """
    if present.shape[-1] * present.shape[-2] == 1:
        return known
    share = functional.avg_pool2d(present, 2, ceil_mode=True)
    mean = functional.avg_pool2d(known, 2, ceil_mode=True) / share.where(share > 0, 1)
    coarse = _guess(mean, (share > 0).to(known.dtype))
    size = (known.shape[2], known.shape[3])
    return known + (1 - present) * functional.interpolate(coarse, size, mode="bilinear")


@torch.no_grad()
def impute(
    images: Tensor,
    removed: Tensor,
    noise: float = NOISE,
    generator: torch.Generator | None = None,
    tolerance: float = 1e-7,
    max_iterations: int = 2000,
) -> Tensor:
    """Fill removed pixels with the weighted mean of their neighbours.

    Solves `sum_j w_ij (x_i - x_j) = 0` over the neighbours j of every removed pixel i: the system
    is symmetric and positive definite as long as an image has a pixel left.

    Args:
        images: (B, 3, H, W).
        removed: (B, 1, H, W) bool.
        noise: standard deviation of what is added to every filled pixel.
        generator: of the noise, on the CPU.
        tolerance: of the residual, relative to the right side or, if larger, to the start's.
            Below 1e-4 the system is solved in float64, where the device has it.
        max_iterations: at most.

    Raises:
        ValueError: an image without a pixel left.
        RuntimeError: no solution within the iterations.
    """
    if bool(removed.flatten(1).all(1).any()):
        raise ValueError("impute: expected at least one known pixel per image, found none")
    # Not every device has float64, and what is to be rough need not be slow.
    fine = tolerance < 1e-4 and images.device.type != "mps"
    exact = torch.float64 if fine else torch.float32
    hole = removed.to(images.device, exact)
    known = images.to(exact) * (1 - hole)
    weight = _blend(torch.ones_like(hole[:1]))
    right = hole * _blend(known)
    values = hole * _guess(known, 1 - hole)

    def apply(x: Tensor) -> Tensor:
        return hole * (weight * x - _blend(x))

    def dot(x: Tensor, y: Tensor) -> Tensor:
        return (x * y).sum((2, 3), keepdim=True)

    tiny = torch.finfo(exact).tiny
    residual = right - apply(values)
    limit = tolerance**2 * torch.maximum(dot(right, right), dot(residual, residual))
    direction = residual / weight
    energy = dot(residual, direction)
    for _ in range(max_iterations):
        if bool((dot(residual, residual) <= limit).all()):
            break
        applied = apply(direction)
        step = energy / dot(direction, applied).clamp_min(tiny)
        values = values + step * direction
        residual = residual - step * applied
        scaled = residual / weight
        new = dot(residual, scaled)
        direction = scaled + new / energy.clamp_min(tiny) * direction
        energy = new
    else:
        raise RuntimeError(
            f"impute: no solution to {tolerance:g} within {max_iterations} iterations; allow more, "
            "or a larger tolerance"
        )
    if noise:
        drawn = torch.randn(images.shape, generator=generator, dtype=torch.float32)
        values = values + noise * hole * drawn.to(images.device, exact)
    return (known + values).to(images.dtype)


@torch.no_grad()
def road(
    ask: Ask,
    images: Tensor,
    maps: Tensor,
    shares: tuple[float, ...] = SHARES,
    noise: float = NOISE,
    seed: int = 0,
    tolerance: float = 1e-3,
) -> RoadScores:
    """Scores (B, S) after the most, and after the least marked pixels were removed and filled.

    `ask` gives scores (B,) for images (B, 3, H, W); `maps` (B, 1, h, w) are an order of pixels,
    ties in random order; `shares` lie in (0, 1). The fill is solved to `tolerance`, at which what
    it misses is a fraction of its own noise.
    """
    if not shares or not all(0 < share < 1 for share in shares):
        raise ValueError(f"shares: expected numbers between 0 and 1, found {shares}")
    size = (images.shape[2], images.shape[3])
    pixels = size[0] * size[1]
    ranks = pixel_ranks(maps, size, seed).to(images.device)
    generator = torch.Generator().manual_seed(seed)
    answers: list[list[Tensor]] = [[], []]
    for share in shares:
        count = round(share * pixels)
        for place, removed in enumerate((ranks < count, ranks >= pixels - count)):
            filled = impute(images, removed, noise, generator, tolerance)
            answers[place].append(ask(filled).cpu().double())
    most, least = (torch.stack(part, dim=1) for part in answers)
    return RoadScores(most, least)
