"""Take a region out of a picture so that it looks as if nothing had ever been there.

A yardstick for evaluation: the region comes from a mask that no prediction may see.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

TOLERANCE = 2e-5
"""The largest residual that `harmonic_fill` leaves, in units of the image's range."""
_CHECK_EVERY = 8
_COARSE_STEPS = 24
_SMALLEST = 4


def dilate(masks: Tensor, margin: int) -> Tensor:
    """Grow masks (B, 1, H, W), 0 or 1, by `margin` pixels in every direction, diagonals too."""
    grown = (masks > 0.5).to(masks.dtype)
    if margin:
        grown = functional.max_pool2d(grown, 2 * margin + 1, stride=1, padding=margin)
    return grown


def harmonic_fill(
    images: Tensor, regions: Tensor, tolerance: float = TOLERANCE, max_steps: int = 4000
) -> Tensor:
    """The smoothest continuation into `regions`: Laplace's equation with the border as it is.

    Inside, each pixel is the mean of its neighbours above, below, left and right (of those that
    exist, at the edge of the image); outside nothing changes. A linear ramp comes back exactly,
    but for a region at the edge of the image, which the ramp meets with no slope.

    Solved by conjugate gradients, all images and channels at once on their device, from a first
    guess that is solved on coarser grids.

    Args:
        images: (B, C, H, W) float. What stands inside the regions is not read, NaN included.
        regions: (B, 1, H, W), 1 where to fill and 0 elsewhere.
        tolerance: the largest residual left, |mean of the neighbours - pixel|.
        max_steps: most steps of conjugate gradients.

    Returns:
        (B, C, H, W).

    Raises:
        ValueError: shapes that don't fit, or an image of which nothing is known.
        RuntimeError: no convergence within `max_steps`.
    """
    _check(images, regions)
    region = regions > 0.5
    if bool(region.flatten(1).all(1).any()):
        raise ValueError(
            "harmonic_fill: expected something known of every image, found a region that covers "
            "a whole one; leave it out, or give `inpaint` a donor"
        )
    if not bool(region.any()):
        return images.clone()
    known = torch.where(region, torch.zeros_like(images), images)
    guess = _coarse_guess(known, region)
    return torch.where(region, _solve(known, region, guess, tolerance, max_steps), images)


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


def _neighbours(x: Tensor) -> Tensor:
    """The sum of the neighbours above, below, left and right that exist."""
    padded = functional.pad(x, (1, 1, 1, 1))
    sides = padded[..., :-2, 1:-1] + padded[..., 2:, 1:-1]
    return sides + padded[..., 1:-1, :-2] + padded[..., 1:-1, 2:]


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum((2, 3), keepdim=True)


def _solve(
    known: Tensor, region: Tensor, guess: Tensor, tolerance: float, steps: int, strict: bool = True
) -> Tensor:
    """Conjugate gradients on `degree u - neighbours(u) = neighbours(known)` inside the region.

    The unknowns of every image and channel are a system of their own, with steps of their own.
    """
    inside = region.to(known.dtype)
    degree = _neighbours(torch.ones_like(inside[:1]))
    u = guess * inside
    r = (_neighbours(known + u) - degree * u) * inside
    p = z = r / degree
    rz = _dot(r, z)
    for step in range(steps):
        if step % _CHECK_EVERY == 0 and bool((r.abs() / degree).amax() <= tolerance):
            return u
        q = (degree * p - _neighbours(p)) * inside
        alpha = rz / _dot(p, q).clamp_min(1e-30)
        u = u + alpha * p
        r = r - alpha * q
        z = r / degree
        new = _dot(r, z)
        p = z + (new / rz.clamp_min(1e-30)) * p
        rz = new
    if strict:
        raise RuntimeError(
            f"harmonic_fill: expected a residual of at most {tolerance:g} within {steps} steps, "
            f"found {float((r.abs() / degree).amax()):.2g}; raise tolerance or max_steps"
        )
    return u


def _coarse_guess(known: Tensor, region: Tensor) -> Tensor:
    """A first guess of the fill from half the resolution, down to a few pixels."""
    share = (~region).to(known.dtype)
    if min(known.shape[2:]) <= _SMALLEST:
        mean = _dot(known, share) / share.sum((2, 3), keepdim=True).clamp_min(1)
        return mean.expand_as(known)
    pooled_share = functional.avg_pool2d(share, 2, ceil_mode=True)
    pooled = functional.avg_pool2d(known, 2, ceil_mode=True) / pooled_share.clamp_min(1e-6)
    empty = pooled_share < 1e-6
    pooled = torch.where(empty, torch.zeros_like(pooled), pooled)
    if bool(empty.any()):
        guess = _coarse_guess(pooled, empty)
        solved = _solve(pooled, empty, guess, TOLERANCE, _COARSE_STEPS, strict=False)
        pooled = torch.where(empty, solved, pooled)
    size = (known.shape[2], known.shape[3])
    return functional.interpolate(pooled, size=size, mode="bilinear", align_corners=False)


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
