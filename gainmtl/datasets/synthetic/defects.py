"""Procedural defects: the relative change of every pixel's reflectance, per colour channel.

A defect function takes a random generator, the image size and a factor on its linear dimensions.
It draws the same random numbers for every factor: the same defect, only larger.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gainmtl.datasets.synthetic.textures import Array, Generator, smooth_noise

# Half of a pixel's diagonal: a thinner line or smaller hole could fall between pixel centres.
MIN_HALF_WIDTH = 0.71


class Defect(NamedTuple):
    """What a defect function returns."""

    change: Array
    """(H, W) relative change of the reflectance: -0.6 leaves 40 % of it."""
    colour: Array
    """(3,) factors on the change in each colour channel; the largest is 1."""


_GREY = np.ones(3, dtype=np.float32)


def _centre(rng: Generator, size: int) -> NDArray[np.float64]:
    return rng.uniform(0.14, 0.86, 2) * size


def _log_uniform(rng: Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _strokes(
    points: NDArray[np.float64], half_width: NDArray[np.float64], weight: Array, size: int
) -> Array:
    """Anti-aliased coverage (H, W) in [0, 1] of discs at `points` (N, 2), as (x, y).

    `half_width` (N,) are their radii, `weight` (N,) the coverage at their centres.
    """
    reach = int(np.ceil(float(half_width.max()) + 0.5))
    offset = np.arange(-reach, reach + 1)
    nearest = np.rint(points).astype(np.int64)
    columns = nearest[:, :1] + offset
    rows = nearest[:, 1:] + offset
    dx = (columns - points[:, :1]).astype(np.float32)
    dy = (rows - points[:, 1:]).astype(np.float32)
    distance = np.sqrt(dy[:, :, None] ** 2 + dx[:, None, :] ** 2)
    edge = (half_width + 0.5).astype(np.float32)[:, None, None]
    cover = np.clip(edge - distance, 0, 1) * weight[:, None, None]
    inside = (rows >= 0) & (rows < size)
    inside_columns = (columns >= 0) & (columns < size)
    keep = inside[:, :, None] & inside_columns[:, None, :] & (cover > 0)
    index = rows[:, :, None] * size + columns[:, None, :]
    canvas = np.zeros(size * size, dtype=np.float32)
    np.maximum.at(canvas, index[keep], cover[keep])
    return canvas.reshape(size, size)


def scratch(rng: Generator, size: int, scale: float) -> Defect:
    """A long shallow arc that fades at its ends; a bright one has a shaded flank."""
    centre, angle = _centre(rng, size), rng.uniform(0, np.pi)
    length = _log_uniform(rng, 0.14, 0.6) * size * scale
    bend = rng.uniform(-0.5, 0.5)
    width = max(MIN_HALF_WIDTH, rng.uniform(0.45, 1.15) * size / 128 * scale)
    bright, depth = rng.random() < 0.6, rng.uniform(0.3, 0.65)
    wear = rng.standard_normal(8)
    t = np.linspace(-0.5, 0.5, max(6, int(length * 1.4)))
    direction = np.array([np.cos(angle), np.sin(angle)])
    normal = np.array([-direction[1], direction[0]])
    points = centre + length * (t[:, None] * direction + bend * (t**2)[:, None] * normal)
    fade = np.sqrt(1 - (2 * t) ** 2) * (1 + 0.15 * np.interp(t, np.linspace(-0.5, 0.5, 8), wear))
    weight = np.clip(fade, 0, 1).astype(np.float32)
    widths = np.full(len(t), width)
    core = _strokes(points, widths, weight, size)
    flank = _strokes(points + (width + 0.8) * normal, widths, weight, size)
    change = np.where(core >= 0.3, core, -0.35 * flank) if bright else -core
    return Defect((depth * change).astype(np.float32), _GREY)


def crack(rng: Generator, size: int, scale: float) -> Defect:
    """A dark jagged line of varying width, with up to two branches."""
    centre, heading = _centre(rng, size), rng.uniform(0, 2 * np.pi)
    length = _log_uniform(rng, 0.16, 0.55) * size * scale
    width = rng.uniform(0.35, 0.95) * size / 128 * scale
    depth = rng.uniform(0.4, 0.75)
    steps = max(8, int(length * 1.4))
    # A fixed number of kinks, so that the crack keeps its shape when it is scaled.
    kinks = np.repeat(rng.normal(0, 0.55, 24), -(-steps // 24))[:steps]
    drift = np.interp(np.linspace(0, 5, steps), np.arange(6), rng.normal(0, 0.4, 6))
    angle = heading + kinks + drift
    path = np.cumsum(np.stack([np.cos(angle), np.sin(angle)], axis=1) * (length / steps), axis=0)
    path += centre - path[steps // 2]
    thickness = np.interp(np.linspace(0, 9, steps), np.arange(10), rng.uniform(0.6, 1.3, 10))
    taper = np.sqrt(np.linspace(0.15, 1, steps)[::-1])
    paths, widths, tapers = [path], [width * thickness * taper], [taper]
    for _ in range(int(rng.integers(0, 3))):
        start = int(rng.uniform(0.15, 0.7) * steps)
        count = max(3, int(rng.uniform(0.2, 0.45) * steps))
        turn = rng.choice((-1, 1)) * rng.uniform(0.5, 1.1)
        side = heading + turn + kinks[::-1][:count]
        branch = np.cumsum(np.stack([np.cos(side), np.sin(side)], axis=1), axis=0)
        paths.append(path[start] + branch * (length / steps))
        tapers.append(np.linspace(0.9, 0.2, count))
        widths.append(width * 0.7 * tapers[-1])
    line = _strokes(
        np.concatenate(paths),
        np.maximum(np.concatenate(widths), MIN_HALF_WIDTH * 0.8),
        np.concatenate(tapers).astype(np.float32),
        size,
    )
    return Defect(np.float32(-depth) * line, _GREY)


def _window(centre: NDArray[np.float64], reach: float, size: int) -> tuple[slice, slice]:
    """Row and column slices of the square around (x, y), clipped to the image."""
    low = np.clip(np.floor(centre - reach).astype(int), 0, size - 1)
    high = np.clip(np.ceil(centre + reach).astype(int) + 1, low + 1, size)
    return slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0]))


def _local(
    rows: slice, columns: slice, centre: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Coordinates relative to the centre: x (1, w) and y (h, 1)."""
    x = np.arange(columns.start, columns.stop, dtype=np.float32) - np.float32(centre[0])
    y = np.arange(rows.start, rows.stop, dtype=np.float32) - np.float32(centre[1])
    return x[None, :], y[:, None]


def blowhole(rng: Generator, size: int, scale: float) -> Defect:
    """One pore or a small cluster: a dark hole, darkest on one side, with a bright rim opposite."""
    change = np.zeros((size, size), dtype=np.float32)
    centre, light = _centre(rng, size), rng.uniform(0, 2 * np.pi)
    radius = _log_uniform(rng, 0.017, 0.06) * size * scale
    depth = rng.uniform(0.5, 0.8)
    count = 1 if rng.random() < 0.7 else int(rng.integers(2, 5))
    for pore in range(count):
        shrink = 1.0 if pore == 0 else rng.uniform(0.35, 0.75)
        place = centre + (0 if pore == 0 else rng.normal(0, 2.2 * radius, 2))
        major = max(MIN_HALF_WIDTH, radius * shrink)
        squash, angle = rng.uniform(0.7, 1), rng.uniform(0, np.pi)
        rows, columns = _window(np.clip(place, 0, size - 1), major + 3, size)
        x, y = _local(rows, columns, place)
        u = x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle))
        v = (y * np.float32(np.cos(angle)) - x * np.float32(np.sin(angle))) / np.float32(squash)
        rho = np.sqrt(u * u + v * v)
        lit = (x * np.float32(np.cos(light)) + y * np.float32(np.sin(light))) / (rho + 1)
        hole = np.clip(major + 0.5 - rho, 0, 1) * (1 - 0.25 * lit)
        rim = np.clip(1.4 - np.abs(rho - major - 1.2), 0, 1) * np.clip(lit - 0.2, 0, 1)
        pore_change = np.where(hole > 0.25, -depth * hole, 0.45 * rim)
        view = change[rows, columns]
        view[...] = np.where(np.abs(pore_change) > np.abs(view), pore_change, view)
    return Defect(change, _GREY)


def stain(rng: Generator, size: int, scale: float) -> Defect:
    """An irregular, soft, coloured patch, sometimes with a dark edge like that of a dried drop."""
    change = np.zeros((size, size), dtype=np.float32)
    centre = _centre(rng, size)
    radius = max(1.5, _log_uniform(rng, 0.06, 0.19) * size * scale)
    squash, angle = rng.uniform(0.55, 1), rng.uniform(0, np.pi)
    strength = rng.uniform(0.2, 0.42) * (1 if rng.random() < 0.2 else -1)
    softness = np.float32(rng.uniform(1.5, 5))
    ring = np.float32(rng.uniform(0, 0.6))
    colour = rng.uniform(0.45, 1, 3)
    side = int(np.ceil(2 * 1.7 * radius)) + 3
    wobble = smooth_noise(rng, side, 5)
    rows, columns = _window(centre, 1.7 * radius, size)
    x, y = _local(rows, columns, centre)
    u = x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle))
    v = (y * np.float32(np.cos(angle)) - x * np.float32(np.sin(angle))) / np.float32(squash)
    top = rows.start - int(np.floor(centre[1] - 1.7 * radius))
    left = columns.start - int(np.floor(centre[0] - 1.7 * radius))
    noise = wobble[top : top + len(y), left : left + x.shape[1]]
    rho = np.sqrt(u * u + v * v) * np.float32(1 / radius) + np.float32(0.16) * noise
    body = np.clip((1 - rho) * softness, 0, 1)
    edge = np.clip(1 - np.abs(rho - np.float32(0.9)) * 9, 0, 1)
    change[rows, columns] = np.float32(strength) * body * (1 - ring * (1 - edge) * 0.7)
    return Defect(change, (colour / colour.max()).astype(np.float32))


def chip(rng: Generator, size: int, scale: float) -> Defect:
    """A broken-out piece: an angular outline with facets of different brightness."""
    change = np.zeros((size, size), dtype=np.float32)
    centre = rng.uniform(0.08, 0.92, 2) * size
    radius = max(MIN_HALF_WIDTH, _log_uniform(rng, 0.035, 0.11) * size * scale)
    sides = int(rng.integers(5, 9))
    spread = rng.uniform(-0.3, 0.3, sides)
    angles = (np.arange(sides) + spread) * (2 * np.pi / sides) + rng.uniform(0, 2 * np.pi)
    reach = radius * rng.uniform(0.65, 1.1, sides)
    light, sign = rng.uniform(0, 2 * np.pi), 1 if rng.random() < 0.4 else -1
    depth = rng.uniform(0.3, 0.55)
    rough = np.clip(rng.standard_normal((32, 32), dtype=np.float32), -1.5, 1.5)
    rows, columns = _window(centre, 1.6 * radius + 1, size)
    x, y = _local(rows, columns, centre)
    normals = np.stack([np.cos(angles), np.sin(angles)]).astype(np.float32)[:, :, None, None]
    inward = reach.astype(np.float32)[:, None, None] - normals[0] * x - normals[1] * y
    cover = np.clip(inward.min(axis=0) + np.float32(0.5), 0, 1)
    facet = 1 + 0.35 * np.cos(angles - light) + rng.uniform(-0.08, 0.08, sides)
    shade = facet.astype(np.float32)[inward.argmin(axis=0)]
    r, c = np.arange(len(y)) % 32, np.arange(x.shape[1]) % 32
    shade += np.float32(0.08) * rough[np.ix_(r, c)]
    change[rows, columns] = np.float32(sign * depth) * cover * shade
    return Defect(change, _GREY)


DEFECTS: dict[str, Callable[[Generator, int, float], Defect]] = {
    "scratch": scratch,
    "crack": crack,
    "blowhole": blowhole,
    "stain": stain,
    "chip": chip,
}
