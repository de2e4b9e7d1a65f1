"""Inpainting: replace a region of an image by intact surface without a visible seam.

For evaluation and for training images only: the region comes from a mask, which is never an input
of a prediction.
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
    """Dilate masks (B, 1, H, W), 0 or 1, by a square of `margin` pixels to each side."""
    grown = (masks > 0.5).to(masks.dtype)
    if margin:
        grown = functional.max_pool2d(grown, 2 * margin + 1, stride=1, padding=margin)
    return grown


def harmonic_fill(images: Tensor, regions: Tensor) -> Tensor:
    """The smoothest fill of `regions`: the solution of Laplace's equation with the pixels around.

    Inside, each pixel is the mean of its neighbours above, below, left and right, as far as they
    are in the image; outside nothing changes. A linear ramp is restored exactly, except in a region
    at the image border, where the solution has zero slope across the border.

    One sparse factorization per image, in float64 on the CPU, serves all channels.

    Args:
        images: (B, C, H, W) float. Values inside the regions are not used and may be NaN.
        regions: (B, 1, H, W), 1 inside and 0 outside.

    Returns:
        (B, C, H, W).

    Raises:
        ValueError: shapes that don't fit, or a region that covers a whole image.
    """
    _check(images, regions)
    inside = (regions[:, 0] > 0.5).cpu().numpy()
    if inside.all((1, 2)).any():
        raise ValueError(
            "harmonic_fill: expected pixels outside the region in every image, got a region that "
            "covers a whole image; leave the image out, or use `inpaint` with donors"
        )
    filled = images.clone()
    for image, region in zip(filled, inside, strict=True):
        if region.any():
            values = _solve(image.detach().double().cpu().numpy(), region)
            image[:, torch.from_numpy(region).to(image.device)] = torch.from_numpy(values).to(image)
    return filled


def inpaint(images: Tensor, regions: Tensor, donors: Tensor | None = None) -> Tensor:
    """Fill `regions` with the texture of donors at the brightness of the images, without a seam.

    `d + H(x - d)` inside and x outside, with image x, donor d and H the `harmonic_fill`. The fill
    has the gradients of the donor and continues the border of the image. Without donors, d = 0, the
    fill is smooth. A region that covers a whole image gives the donor.

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
    """A shift of each region to a place inside the image without overlap with `avoid`.

    The cross-correlation of the two masks gives the overlap for all shifts at once.

    Args:
        regions: (B, 1, H, W), 0 or 1.
        avoid: the same shape.
        generator: draws one of the possible shifts; on the CPU, so that all devices draw the same.
            `None` is the shortest shift.

    Returns:
        Shifts (B, 2) in rows and columns, 0 if none is possible; and whether one is, (B,) bool.
    """
    _check(regions, avoid)
    height, width = regions.shape[2:]
    size = (2 * height, 2 * width)  # padded, because the FFT is circular
    a, r = (torch.fft.rfft2((m[:, 0] > 0.5).float(), size) for m in (avoid, regions))
    overlap = torch.fft.irfft2(a * r.conj(), size)
    rows = _steps(height, regions.device)
    columns = _steps(width, regions.device)
    inside = _stays_inside(regions.amax(3)[:, 0], rows)[:, :, None]
    inside = inside & _stays_inside(regions.amax(2)[:, 0], columns)[:, None, :]
    possible = inside & (overlap < 0.5)
    if generator is None:
        cost = (rows.square()[:, None] + columns.square()[None]).float().expand(overlap.shape)
    else:
        cost = torch.rand(overlap.shape, generator=generator).to(overlap.device)
    best = torch.where(possible, cost, torch.inf).flatten(1).argmin(1)
    exists = possible.flatten(1).any(1)
    shifts = torch.stack([rows[best // size[1]], columns[best % size[1]]], 1)
    return torch.where(exists[:, None], shifts, 0), exists


def shift(values: Tensor, shifts: Tensor) -> Tensor:
    """Shift each of (B, C, H, W) by its row of `shifts` (B, 2), circularly."""
    if not len(values):
        return values
    pairs = zip(values, shifts.tolist(), strict=True)
    return torch.stack([value.roll((dy, dx), dims=(1, 2)) for value, (dy, dx) in pairs])


def own_surface(images: Tensor, regions: Tensor, avoid: Tensor) -> tuple[Tensor, Tensor]:
    """Each image as the donor of its own fill, shifted so that intact surface covers the region.

    The surface is that of the nearest place without `avoid`, where light and texture differ least.

    images (B, C, H, W); regions, avoid (B, 1, H, W), 0 or 1. Returns donors (B, C, H, W) and
    whether such a place exists, (B,) bool.
    """
    shifts, exists = free_shift(regions, avoid)
    return shift(images, -shifts), exists


def _check(values: Tensor, regions: Tensor) -> None:
    if values.ndim != 4 or regions.shape != (len(values), 1, *values.shape[2:]):
        raise ValueError(
            "expected images (B, C, H, W) and regions (B, 1, H, W) of the same B, H and W, got "
            f"{tuple(values.shape)} and {tuple(regions.shape)}"
        )


def _solve(known: NDArray[np.float64], region: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Solve the discrete Laplace equation for the n pixels of a region (H, W).

    For each pixel p with `degree` neighbours in the image: `degree u_p - sum of u over neighbours
    in the region = sum of known over neighbours outside`. known (C, H, W); returns (C, n), in the
    order of boolean indexing by the region.
    """
    count = int(region.sum())
    index = np.full(region.shape, -1)
    index[region] = np.arange(count)
    outside = np.where(region, 0.0, known)
    degree, right = np.zeros(region.shape), np.zeros(known.shape)
    edges: list[NDArray[np.int64]] = []
    # The two slices are all pairs of vertical, then of horizontal neighbours.
    for first, second in (
        ((slice(None, -1), slice(None)), (slice(1, None), slice(None))),
        ((slice(None), slice(None, -1)), (slice(None), slice(1, None))),
    ):
        for pixel, neighbour in ((first, second), (second, first)):
            degree[pixel] += 1
            right[:, *pixel] += outside[:, *neighbour]
        both = region[first] & region[second]
        edges.append(np.stack([index[first][both], index[second][both]]))
    a, b = np.concatenate(edges, 1)
    diagonal = np.arange(count)
    values = np.concatenate([degree[region], np.full(2 * len(a), -1.0)])
    places = np.concatenate([diagonal, a, b]), np.concatenate([diagonal, b, a])
    matrix = csc_matrix((values, places), shape=(count, count))
    # The matrix is symmetric and diagonally dominant, so no pivoting is needed.
    factors = splu(
        matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
    )
    return np.ascontiguousarray(factors.solve(right[:, region].T).T)


def _steps(length: int, device: torch.device) -> Tensor:
    """Shifts in the order of an FFT of length 2 x `length`: 0, 1, …, then the negative ones."""
    steps = torch.arange(2 * length, device=device)
    return torch.where(steps < length, steps, steps - 2 * length)


def _stays_inside(occupied: Tensor, steps: Tensor) -> Tensor:
    """Whether a step keeps the occupied places of a line (B, L) inside it: (B, len(steps)) bool."""
    length = occupied.shape[1]
    taken = occupied > 0.5
    place = torch.arange(length, device=occupied.device)
    first = torch.where(taken, place, length).amin(1)
    last = torch.where(taken, place, -1).amax(1)
    return (steps >= -first[:, None]) & (steps < length - last[:, None])
