"""Take a region out of a picture so that it looks as if nothing had ever been there.

A yardstick for evaluation: the region comes from a mask that no prediction may see.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csc_matrix
from scipy.sparse.linalg import splu
from torch import Tensor
from torch.nn import functional


def dilate(masks: Tensor, margin: int) -> Tensor:
    """Grow masks (B, 1, H, W), 0 or 1, by `margin` pixels in every direction, diagonals too."""
    grown = (masks > 0.5).to(masks.dtype)
    if margin:
        grown = functional.max_pool2d(grown, 2 * margin + 1, stride=1, padding=margin)
    return grown


def harmonic_fill(images: Tensor, regions: Tensor) -> Tensor:
    """The smoothest continuation into `regions`: Laplace's equation with the border as it is.

    Inside, each pixel is the mean of its neighbours above, below, left and right (of those that
    exist, at the edge of the image); outside nothing changes. A linear ramp comes back exactly,
    but for a region at the edge of the image, which the ramp meets with no slope.

    One sparse factorization per image, in double precision on the CPU, for all its channels.

    Args:
        images: (B, C, H, W) float. What stands inside the regions is not read, NaN included.
        regions: (B, 1, H, W), 1 where to fill and 0 elsewhere.

    Returns:
        (B, C, H, W).

    Raises:
        ValueError: shapes that don't fit, or an image of which nothing is known.
    """
    _check(images, regions)
    inside = (regions[:, 0] > 0.5).cpu().numpy()
    if inside.all((1, 2)).any():
        raise ValueError(
            "harmonic_fill: expected something known of every image, found a region that covers "
            "a whole one; leave it out, or give `inpaint` a donor"
        )
    filled = images.clone()
    for image, region in zip(filled, inside, strict=True):
        if region.any():
            values = _solve(image.detach().double().cpu().numpy(), region)
            image[:, torch.from_numpy(region).to(image.device)] = torch.from_numpy(values).to(image)
    return filled


def inpaint(images: Tensor, regions: Tensor, donors: Tensor | None = None) -> Tensor:
    """Fill `regions` with the donors' texture at the images' own brightness, without a seam.

    `d + H(x - d)` inside, x outside, with H the `harmonic_fill`: the donor keeps its gradients and
    gets the border of the image. Without donors, d = 0, the fill is smooth. Where a region covers
    a whole image the donor is all that is left.

    images, donors (B, C, H, W) in [0, 1]; regions (B, 1, H, W), 0 or 1; returns (B, C, H, W) in
    [0, 1]. Raises as `harmonic_fill`.

    Source: Perez, Gangnet and Blake, "Poisson image editing", SIGGRAPH 2003.
    """
    _check(images, regions)
    if donors is None:
        return harmonic_fill(images, regions)
    covered = (regions > 0.5).flatten(1).all(1)[:, None, None, None]
    solvable = torch.where(covered, torch.zeros_like(regions), regions)
    filled = donors + harmonic_fill(images - donors, solvable)
    filled = torch.where(covered, donors, filled).clamp(0, 1)
    return torch.where(regions > 0.5, filled, images)


def free_shift(
    regions: Tensor, avoid: Tensor, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """A shift that takes each region to a place inside the image and clear of `avoid`.

    The overlap of all shifts at once is the cross-correlation of the two masks. With a `generator`
    a shift is drawn from the possible ones, without it is the shortest.

    Args:
        regions: (B, 1, H, W), 0 or 1.
        avoid: the same shape.
        generator: on the CPU, so that every device draws alike.

    Returns:
        Shifts (B, 2) in rows and columns, and whether there is one, (B,) bool; 0 where not.
    """
    _check(regions, avoid)
    height, width = regions.shape[2:]
    size = (2 * height, 2 * width)  # room for every shift, without wrapping around
    a, r = (torch.fft.rfft2((m[:, 0] > 0.5).float(), size) for m in (avoid, regions))
    overlap = torch.fft.irfft2(a * r.conj(), size)
    rows = _steps(height, regions.device)
    columns = _steps(width, regions.device)
    inside = _staying(regions.amax(3)[:, 0], rows)[:, :, None]
    inside = inside & _staying(regions.amax(2)[:, 0], columns)[:, None, :]
    possible = inside & (overlap < 0.5)
    if generator is None:
        cost = (rows.square()[:, None] + columns.square()[None]).float().expand(overlap.shape)
    else:
        cost = torch.rand(overlap.shape, generator=generator).to(overlap.device)
    best = torch.where(possible, cost, torch.inf).flatten(1).argmin(1)
    found = possible.flatten(1).any(1)
    shifts = torch.stack([rows[best // size[1]], columns[best % size[1]]], 1)
    return torch.where(found[:, None], shifts, 0), found


def shift(values: Tensor, shifts: Tensor) -> Tensor:
    """Move each of (B, C, H, W) by its shift (B, 2); what leaves at one side enters opposite."""
    if not len(values):
        return values
    pairs = zip(values, shifts.tolist(), strict=True)
    return torch.stack([value.roll((dy, dx), dims=(1, 2)) for value, (dy, dx) in pairs])


def own_surface(images: Tensor, regions: Tensor, avoid: Tensor) -> tuple[Tensor, Tensor]:
    """Each image as the donor of its own fill: moved so that intact surface lies on the region.

    The nearest place clear of `avoid` is taken, where light and texture differ least.

    images (B, C, H, W); regions, avoid (B, 1, H, W), 0 or 1. Returns donors (B, C, H, W) and
    whether there is such a place, (B,) bool.
    """
    shifts, found = free_shift(regions, avoid)
    return shift(images, -shifts), found


def _check(values: Tensor, regions: Tensor) -> None:
    fits = values.ndim == 4 and regions.shape == (len(values), 1, *values.shape[2:])
    if not fits:
        raise ValueError(
            "expected images (B, C, H, W) and regions (B, 1, H, W) of the same B, H and W, found "
            f"{tuple(values.shape)} and {tuple(regions.shape)}"
        )


def _solve(known: NDArray[np.float64], region: NDArray[np.bool_]) -> NDArray[np.float64]:
    """`degree u - neighbours(u) = neighbours(known)` for the n pixels of a region (H, W).

    known (C, H, W); returns (C, n), in the order of a mask's index.
    """
    count = int(region.sum())
    number = np.full(region.shape, -1)
    number[region] = np.arange(count)
    outside = np.where(region, 0.0, known)
    degree, right = np.zeros(region.shape), np.zeros(known.shape)
    ends: list[NDArray[np.int64]] = []
    for one, other in (
        ((slice(None, -1), slice(None)), (slice(1, None), slice(None))),
        ((slice(None), slice(None, -1)), (slice(None), slice(1, None))),
    ):
        for here, there in ((one, other), (other, one)):
            degree[here] += 1
            right[:, *here] += outside[:, *there]
        joined = region[one] & region[other]
        ends.append(np.stack([number[one][joined], number[other][joined]]))
    first, second = np.concatenate(ends, 1)
    every = np.arange(count)
    values = np.concatenate([degree[region], np.full(2 * len(first), -1.0)])
    places = np.concatenate([every, first, second]), np.concatenate([every, second, first])
    matrix = csc_matrix((values, places), shape=(count, count))
    # Symmetric and diagonally dominant: no pivot is needed.
    factors = splu(
        matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
    )
    return np.ascontiguousarray(factors.solve(right[:, region].T).T)


def _steps(length: int, device: torch.device) -> Tensor:
    """Shifts in the order of a Fourier transform of 2 x length: 0, 1, …, then the negative."""
    steps = torch.arange(2 * length, device=device)
    return torch.where(steps < length, steps, steps - 2 * length)


def _staying(occupied: Tensor, steps: Tensor) -> Tensor:
    """Which steps keep the occupied places (B, L) of a line inside it: (B, len(steps)) bool."""
    length = occupied.shape[1]
    taken = occupied > 0.5
    place = torch.arange(length, device=occupied.device)
    first = torch.where(taken, place, length).amin(1)
    last = torch.where(taken, place, -1).amax(1)
    return (steps >= -first[:, None]) & (steps < length - last[:, None])
