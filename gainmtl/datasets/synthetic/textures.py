"""Procedural surfaces: the normal part that a defect is drawn on.

A texture function takes a random generator and an image size. Smooth noise is a tensor product of
cubic B-splines, `S @ knots @ S.T`: two small matrix products instead of a filter over every pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Generator = np.random.Generator


class Surface(NamedTuple):
    """What a texture function returns."""

    reflectance: Array
    """(H, W), about 0.2 to 0.9."""
    tint: Array
    """(3,) factors of the colour channels, around 1."""


@lru_cache(maxsize=64)
def spline_matrix(pixels: int, spans: int) -> Array:
    """Uniform cubic B-spline basis, (pixels, spans + 3); its rows sum to 1."""
    position = (np.arange(pixels) + 0.5) * (spans / pixels)
    first = np.minimum(position.astype(int), spans - 1)
    t = position - first
    weights = np.stack(
        [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1
    )
    basis = np.zeros((pixels, spans + 3), dtype=np.float32)
    basis[np.arange(pixels)[:, None], first[:, None] + np.arange(4)] = weights / 6
    basis.setflags(write=False)
    return basis


def smooth_noise(rng: Generator, size: int, spans: int) -> Array:
    """(size, size) noise of about unit variance with bumps size / spans pixels wide."""
    basis = spline_matrix(size, spans)
    knots = rng.standard_normal((spans + 3, spans + 3), dtype=np.float32)
    # Mean of the squared basis over a span: 0.479 of the variance per axis, so of the std in 2D.
    return np.asarray(basis @ knots @ basis.T, dtype=np.float32) / np.float32(0.479)


@lru_cache(maxsize=8)
def pixel_grid(size: int) -> tuple[Array, Array]:
    """x (1, size) and y (size, 1) coordinates of the pixel centres, 0 in the middle."""
    axis = np.arange(size, dtype=np.float32) - np.float32((size - 1) / 2)
    axis.setflags(write=False)
    return axis[None, :], axis[:, None]


def rotated_grid(size: int, angle: float) -> tuple[Array, Array]:
    """Pixel coordinates along and across a direction, (size, size) each."""
    x, y = pixel_grid(size)
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return x * cosine + y * sine, y * cosine - x * sine


def _grain(rng: Generator, size: int) -> Array:
    """White noise softened by a 2 x 2 box, of unit variance."""
    white = rng.standard_normal((size + 1, size + 1), dtype=np.float32)
    return (white[1:, 1:] + white[:-1, 1:] + white[1:, :-1] + white[:-1, :-1]) / np.float32(2)


def _tint(rng: Generator, spread: float) -> Array:
    tint = 1 + rng.uniform(-spread, spread, 3)
    return np.asarray(tint / tint.mean(), dtype=np.float32)


def _interpolate(profile: Array, position: Array) -> Array:
    """Linear interpolation in a table of unit spacing; `position` must lie inside it."""
    low = position.astype(np.int32)
    left = profile.take(low)
    return left + (profile.take(low + 1) - left) * (position - low)


def brushed_metal(rng: Generator, size: int) -> Surface:
    """Fine streaks of limited length along one direction."""
    along, across = rotated_grid(size, rng.uniform(0, np.pi))
    rows = int(1.45 * size) + 3
    spans = int(rng.integers(3, 9))
    streaks = rng.standard_normal((rows, spans + 3), dtype=np.float32)
    soft = np.float32(rng.uniform(0.2, 0.8))
    streaks[1:] += soft * streaks[:-1]
    streaks *= np.float32(rng.uniform(0.05, 0.11))
    field = streaks @ spline_matrix(rows, spans).T
    table = np.ascontiguousarray(field.T).ravel()
    column = (along + np.float32(rows / 2)).astype(np.int32)
    position = across + np.float32(rows / 2)
    row = position.astype(np.int32)
    index = column * rows + row
    low = table.take(index)
    fine = low + (table.take(index + 1) - low) * (position - row)
    bands = rng.standard_normal(rows // 6 + 3, dtype=np.float32) * np.float32(0.05)
    coarse = _interpolate(bands, position * np.float32(1 / 6))
    base = np.float32(rng.uniform(0.45, 0.68))
    return Surface(base * (1 + fine + coarse), _tint(rng, 0.03))


def cast(rng: Generator, size: int) -> Surface:
    """Shot-blasted casting: rough relief lit from one side."""
    relief = smooth_noise(rng, size + 1, size // 3) + np.float32(0.6) * _grain(rng, size + 1)
    angle = rng.uniform(0, 2 * np.pi)
    slope = np.float32(np.cos(angle)) * (relief[1:, 1:] - relief[1:, :-1])
    slope += np.float32(np.sin(angle)) * (relief[1:, 1:] - relief[:-1, 1:])
    slope *= np.float32(rng.uniform(0.05, 0.11))
    mottle = smooth_noise(rng, size, int(rng.integers(8, 18))) * np.float32(0.04)
    base = np.float32(rng.uniform(0.38, 0.6))
    return Surface(base * (1 + slope + mottle), _tint(rng, 0.04))


def woven(rng: Generator, size: int) -> Surface:
    """Plain or twill weave of threads that differ in brightness and are slightly bent."""
    pitch = max(3.5, rng.uniform(4.5, 8.5) * size / 128)
    along, across = rotated_grid(size, rng.uniform(-0.5, 0.5))
    offset = np.float32(size)  # positive coordinates: truncation is then the floor
    u = (along + offset) * np.float32(1 / pitch) + np.float32(0.2) * smooth_noise(rng, size, 4)
    v = (across + offset) * np.float32(1 / pitch) + np.float32(0.2) * smooth_noise(rng, size, 4)
    iu, iv = u.astype(np.int32), v.astype(np.int32)
    fu, fv = np.square(2 * (u - iu) - 1), np.square(2 * (v - iv) - 1)
    phase = iu + iv
    weft_on_top = (phase & 1) == 0 if rng.random() < 0.5 else (phase & 3) < 2
    threads = 1 + rng.standard_normal((2, int(2 * size / pitch) + 4), dtype=np.float32) * 0.06
    weft = (1 - np.float32(0.4) * fv - np.float32(0.15) * fu) * threads[0].take(iv)
    warp = (1 - np.float32(0.4) * fu - np.float32(0.15) * fv) * threads[1].take(iu)
    warp *= np.float32(rng.uniform(0.8, 1.0))
    fibre = np.float32(0.04) * _grain(rng, size)
    base = np.float32(rng.uniform(0.48, 0.72))
    return Surface(base * (np.where(weft_on_top, weft, warp) + fibre), _tint(rng, 0.12))


def ceramic(rng: Generator, size: int) -> Surface:
    """Smooth glaze with fine and coarse speckles, dark or light."""
    glaze = smooth_noise(rng, size, 5) * np.float32(0.02)
    fine = np.clip(_grain(rng, size) - np.float32(rng.uniform(1.6, 2.4)), 0, 1)
    spans = int(rng.integers(size // 5, size // 3))
    level = np.float32(rng.uniform(1.7, 2.4))
    coarse = np.clip((smooth_noise(rng, size, spans) - level) * np.float32(2), 0, 1)
    sign = np.float32(-1 if rng.random() < 0.75 else 0.5)
    speckles = fine * np.float32(rng.uniform(0.15, 0.4)) + coarse * np.float32(
        rng.uniform(0.12, 0.3)
    )
    grain = np.float32(0.012) * _grain(rng, size)
    base = np.float32(rng.uniform(0.55, 0.75))
    return Surface(base * (1 + glaze + sign * speckles + grain), _tint(rng, 0.07))


def machined_rings(rng: Generator, size: int) -> Surface:
    """Turning marks: rings around a centre inside or outside the image, with a two-lobed sheen."""
    x, y = pixel_grid(size)
    direction, distance = rng.uniform(0, 2 * np.pi), size * rng.uniform(0.1, 1.6)
    dx = x - np.float32(distance * np.cos(direction))
    dy = y - np.float32(distance * np.sin(direction))
    squared = dx * dx + dy * dy
    radius = np.sqrt(squared)
    length = int(distance + size) + 4
    step = np.arange(length)
    feed = max(2.6, rng.uniform(3, 7) * size / 128)
    marks = np.cos(2 * np.pi * step / feed) * rng.uniform(0.02, 0.07)
    noise = rng.standard_normal(length) * rng.uniform(0.03, 0.06)
    wide = np.repeat(rng.standard_normal(length // 8 + 1), 8)[:length] * 0.03
    rings = _interpolate((marks + noise + wide).astype(np.float32), radius)
    angle = rng.uniform(0, 2 * np.pi)
    lobes = (dx * dx - dy * dy) * np.float32(np.cos(angle)) + dx * dy * np.float32(
        2 * np.sin(angle)
    )
    sheen = lobes / (squared + np.float32(size)) * np.float32(rng.uniform(0.05, 0.15))
    grain = np.float32(0.02) * _grain(rng, size)
    base = np.float32(rng.uniform(0.42, 0.65))
    return Surface(base * (1 + rings + sheen + grain), _tint(rng, 0.03))


TEXTURES: dict[str, Callable[[Generator, int], Surface]] = {
    "brushed_metal": brushed_metal,
    "cast": cast,
    "woven": woven,
    "ceramic": ceramic,
    "machined_rings": machined_rings,
}
