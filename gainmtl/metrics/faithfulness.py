"""Faithfulness of maps: how the score changes if the marked pixels are deleted or inserted.

`score` returns scores (B,) for images (B, 3, H, W), usually the probability of the predicted class.
`maps` (B, 1, h, w) are resized to the images bilinearly and only define an order of the pixels.

Deletion in one colour draws the outline of what was removed, and a network may respond to that
outline. ROAD therefore fills removed pixels with the weighted mean of their eight neighbours, known
or removed, plus a little noise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

ScoreFunction = Callable[[Tensor], Tensor]
BLUR = 5 / 224
"""Standard deviation of the insertion's blur as a share of the image side, as in RISE."""


class Curve(NamedTuple):
    """Scores while more and more pixels are changed."""

    share: Tensor
    """(S + 1,) share of changed pixels, from 0 to 1."""
    scores: Tensor
    """(B, S + 1) float64."""

    @property
    def area(self) -> Tensor:
        """(B,) area under the curve by trapezoids, in the units of the score."""
        return torch.trapezoid(self.scores, self.share, dim=1)


def pixel_ranks(maps: Tensor, size: tuple[int, int], seed: int = 0) -> Tensor:
    """(B, 1, H, W) int64: the rank of each pixel by its map value, 0 for the highest.

    Equal values are ranked in a random order, which is the same for all maps of one size. Ranking
    them row by row would add an order that the map does not have.

    Raises:
        ValueError: maps of another shape, or not finite.
    """
    if maps.ndim != 4 or maps.shape[1] != 1:
        raise ValueError(f"maps must be (B, 1, h, w), found {tuple(maps.shape)}")
    if not bool(torch.isfinite(maps).all()):
        raise ValueError("maps must be finite, found NaN or infinity; look for a diverged training")
    values = maps.detach().float()
    if tuple(maps.shape[2:]) != tuple(size):
        # On the CPU in float64, because rounding of the weights breaks ties between equal cells.
        resized = functional.interpolate(values.cpu().double(), size, mode="bilinear")
        values = resized.float().to(maps.device)
    flat = values.flatten(1)
    shuffle = torch.randperm(flat.shape[1], generator=torch.Generator().manual_seed(seed))
    shuffle = shuffle.to(flat.device)
    order = shuffle[flat[:, shuffle].argsort(dim=1, descending=True, stable=True)]
    ranks = torch.empty_like(order)
    places = torch.arange(flat.shape[1], device=flat.device).expand_as(order)
    return ranks.scatter_(1, order, places).view(len(maps), 1, *size)


def deletion_curve(score: ScoreFunction, images: Tensor, maps: Tensor, steps: int = 20) -> Curve:
    """Scores while pixels are replaced by the image's mean colour, highest map values first.

    A small area means that the score depends on the marked pixels. The partly deleted images look
    unlike any part, so the area also depends on how the network scores such images.

    Source: Petsiuk, Das and Saenko, "RISE", BMVC 2018. Deviation: the mean colour instead of
    black, and ties in random order.
    """
    empty = images.mean((2, 3), keepdim=True).expand_as(images)
    return _curve(score, empty, images, maps, steps)


def insertion_curve(score: ScoreFunction, images: Tensor, maps: Tensor, steps: int = 20) -> Curve:
    """Scores while pixels of a blurred image are restored, highest map values first.

    A large area means that the marked pixels suffice. A defect that survives the blur is visible
    from the start. Source and deviation as in `deletion_curve`; the blur is RISE's, relative to
    the image side.
    """
    from torchvision.transforms.functional import gaussian_blur  # on demand: it takes a second

    sigma = BLUR * min(images.shape[2:])
    reach = max(1, round(2 * sigma))
    blurred = gaussian_blur(images, [2 * reach + 1] * 2, [sigma, sigma])
    return _curve(score, images, blurred, maps, steps)


def _check_maps(maps: Tensor, images: Tensor) -> None:
    if len(maps) != len(images):
        raise ValueError(f"expected a map for each of {len(images)} images, found {len(maps)}")


@torch.no_grad()
def _curve(score: ScoreFunction, new: Tensor, old: Tensor, maps: Tensor, steps: int) -> Curve:
    """Scores of `old` while its pixels are replaced by those of `new`, highest map values first."""
    _check_maps(maps, old)
    if steps < 1 or steps != int(steps):
        raise ValueError(f"steps: expected a whole number from 1, found {steps}")
    size = (old.shape[2], old.shape[3])
    ranks = pixel_ranks(maps, size).to(old.device)
    share = torch.arange(steps + 1, dtype=torch.float64) / steps
    scores = [
        score(torch.where(ranks < round(float(s) * size[0] * size[1]), new, old)).cpu().double()
        for s in share
    ]
    return Curve(share, torch.stack(scores, dim=1))


ROAD_SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Default shares of removed pixels."""
ROAD_NOISE = 0.01
"""Default standard deviation of the noise on filled pixels."""


class RoadScores(NamedTuple):
    """Scores after removal, (B, S) float64 each for S shares of the pixels."""

    most: Tensor
    """Without the pixels of the highest map values."""
    least: Tensor
    """Without the pixels of the lowest map values."""

    @property
    def combined(self) -> Tensor:
        """(B,) `mean_s (least - most) / 2`; about 0 for a random map, higher is better."""
        return ((self.least - self.most) / 2).mean(1)


def _blend(values: Tensor) -> Tensor:
    """Weighted sum of the 8 neighbours: 1/6 for an edge, 1/12 for a corner; 0 outside the image.

    The weights are (1 2 1) x (1 2 1) / 12 without the centre: one pass along each axis.
    """
    rows = functional.pad(values, (0, 0, 1, 1))
    rows = rows[..., :-2, :] + 2 * rows[..., 1:-1, :] + rows[..., 2:, :]
    both = functional.pad(rows, (1, 1))
    both = both[..., :-2] + 2 * both[..., 1:-1] + both[..., 2:]
    return both / 12 - values / 3


def _guess(known: Tensor, present: Tensor) -> Tensor:
    """A smooth fill as the start of the solver: means of the known pixels, from coarse to fine.

    Conjugate gradients propagate values by one pixel per iteration, which is slow in large holes.
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
    noise: float = ROAD_NOISE,
    generator: torch.Generator | None = None,
    tolerance: float = 1e-7,
    max_iterations: int = 2000,
) -> Tensor:
    """Fill removed pixels with the weighted mean of their neighbours.

    Solves `sum_j w_ij (x_i - x_j) = 0` over the neighbours j of every removed pixel i, for the
    whole batch by conjugate gradients. The system is symmetric, and positive definite if at least
    one pixel per image remains.

    Args:
        images: (B, 3, H, W).
        removed: (B, 1, H, W) bool.
        noise: standard deviation of the noise added to every filled pixel.
        generator: of the noise, on the CPU.
        tolerance: of the residual's norm, relative to that of the right side or, if larger, of the
            first residual. Below 1e-4 the solver uses float64, if the device has it.
        max_iterations: of the solver.

    Raises:
        ValueError: an image without a known pixel.
        RuntimeError: no solution within `max_iterations`.
    """
    if bool(removed.flatten(1).all(1).any()):
        raise ValueError(
            "impute: expected at least one known pixel per image, found none; remove fewer pixels"
        )
    # MPS has no float64, and a rough tolerance does not need it.
    fine = tolerance < 1e-4 and images.device.type != "mps"
    dtype = torch.float64 if fine else torch.float32
    hole = removed.to(images.device, dtype)
    known = images.to(dtype) * (1 - hole)
    weight = _blend(torch.ones_like(hole[:1]))
    right = hole * _blend(known)
    values = hole * _guess(known, 1 - hole)

    def apply(x: Tensor) -> Tensor:
        return hole * (weight * x - _blend(x))

    def dot(x: Tensor, y: Tensor) -> Tensor:
        return (x * y).sum((2, 3), keepdim=True)

    tiny = torch.finfo(dtype).tiny
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
        values = values + noise * hole * drawn.to(images.device, dtype)
    return (known + values).to(images.dtype)


@torch.no_grad()
def road(
    score: ScoreFunction,
    images: Tensor,
    maps: Tensor,
    shares: tuple[float, ...] = ROAD_SHARES,
    noise: float = ROAD_NOISE,
    seed: int = 0,
    tolerance: float = 1e-3,
) -> RoadScores:
    """ROAD: scores after the pixels of the highest, or the lowest, values are removed and filled.

    `shares` of the pixels lie in (0, 1). At the default `tolerance` the error of the fill is a
    fraction of its noise.

    Source: Rong et al., "A Consistent and Efficient Evaluation Strategy for Attribution Methods",
    ICML 2022. Deviation: the linear system is solved iteratively, on any device.

    Raises:
        ValueError: no shares, or shares outside (0, 1).
    """
    if not shares or not all(0 < share < 1 for share in shares):
        raise ValueError(f"shares: expected numbers between 0 and 1, found {shares}")
    _check_maps(maps, images)
    size = (images.shape[2], images.shape[3])
    pixels = size[0] * size[1]
    ranks = pixel_ranks(maps, size, seed).to(images.device)
    generator = torch.Generator().manual_seed(seed)
    scores: list[list[Tensor]] = [[], []]
    for share in shares:
        count = round(share * pixels)
        for place, removed in enumerate((ranks < count, ranks >= pixels - count)):
            filled = impute(images, removed, noise, generator, tolerance)
            scores[place].append(score(filled).cpu().double())
    most, least = (torch.stack(part, dim=1) for part in scores)
    return RoadScores(most, least)


FAITHFULNESS = ("deletion_auc", "insertion_auc", "road")
"""The scores of `faithfulness_scores`."""
FEW_SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Its shares of removed pixels for ROAD: every second one, which takes about half the time."""


def faithfulness_scores(
    score: ScoreFunction, images: Tensor, maps: Tensor, steps: int = 16
) -> dict[str, Tensor]:
    """`FAITHFULNESS` by name, (B,) each: both areas under the curves, and the combined ROAD score.

    Low is better for deletion, high for the others. `steps` are those of the two curves.
    """
    return {
        "deletion_auc": deletion_curve(score, images, maps, steps).area,
        "insertion_auc": insertion_curve(score, images, maps, steps).area,
        "road": road(score, images, maps, FEW_SHARES).combined,
    }
