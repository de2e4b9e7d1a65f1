"""Rendering of one synthetic part: surface, printed mark, defect, light, exposure, noise.

The defective image and its clean counterpart have the same surface, light and noise, so they
differ only where the defect is.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gainmtl.datasets.synthetic.defects import DEFECTS, Defect
from gainmtl.datasets.synthetic.textures import TEXTURES, Array, Generator, pixel_grid, smooth_noise

VISIBLE_SHARE = 0.3
"""A pixel belongs to the mask if its relative change is at least this share of the largest."""

# One random stream each, so that a setting changes only what it is for.
SURFACE, DEFECT, MARK, EXPOSURE = range(4)

_GLYPHS = np.array(
    [[int(bit) for bit in f"{code:015b}"] for code in (0x7B6F, 0x2C97, 0x73E7, 0x5BC9, 0x79A7)],
    dtype=np.float32,
).reshape(5, 5, 3)


class Scene(NamedTuple):
    """What is rendered; the seed, split, part and view determine all random numbers."""

    seed: int
    split: int
    part: int
    view: int
    size: int
    texture: str
    defect: str | None
    defect_size: float
    defect_contrast: float
    marked: bool


class Rendering(NamedTuple):
    """The arrays of one part."""

    image: NDArray[np.uint8]
    """(3, H, W)."""
    clean: NDArray[np.uint8]
    """(3, H, W), the same part in the same light, without the defect."""
    mask: NDArray[np.uint8]
    """(1, H, W), 1 where the defect changes the image visibly."""
    mark_mask: NDArray[np.uint8]
    """(1, H, W), 1 where the mark is printed."""


def stream(seed: int, split: int, *key: int) -> Generator:
    """A generator that depends only on these numbers, not on process, order or platform."""
    return np.random.Generator(
        np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(split, *key)))
    )


def light(rng: Generator, size: int) -> Array:
    """Uneven illumination times exposure, (H, W), in [0.3, 1.35]."""
    x, y = pixel_grid(size)
    angle, slope = rng.uniform(0, 2 * np.pi), rng.uniform(0.0, 0.3)
    gradient = x * np.float32(slope * np.cos(angle) / size)
    gradient = gradient + y * np.float32(slope * np.sin(angle) / size)
    clouds = smooth_noise(rng, size, 2) * np.float32(rng.uniform(0.02, 0.1))
    spot = rng.uniform(-0.5, 0.5, 2) * size
    distance = ((x - np.float32(spot[0])) ** 2 + (y - np.float32(spot[1])) ** 2) / np.float32(
        size * size
    )
    falloff = 1 / (1 + np.float32(rng.uniform(0, 0.8)) * distance)
    exposure = np.float32(np.exp(rng.uniform(np.log(0.65), np.log(1.2))))
    light = exposure * falloff * (1 + gradient + clouds)
    return np.clip(light, np.float32(0.3), np.float32(1.35))


def _ink(rng: Generator, size: int, avoid: Array | None) -> Array:
    """Coverage (H, W) in [0, 1] of a printed dot or of a code of three signs, in a corner.

    It takes the corner where `avoid`, the defect's change, is smallest; ties are random.
    """
    order = rng.permutation(4)
    third = size // 3
    corners = [(0, 0), (0, size - third), (size - third, 0), (size - third, size - third)]
    if avoid is not None:
        covered = [np.abs(avoid[r : r + third, c : c + third]).sum() for r, c in corners]
        order = order[np.argsort(np.asarray(covered)[order], kind="stable")]
    row, column = corners[int(order[0])]
    place = rng.uniform(0.25, 0.75, 2)
    ink = np.zeros((size, size), dtype=np.float32)
    signs = rng.integers(0, len(_GLYPHS), 3)
    if rng.random() < 0.5:
        radius = size * rng.uniform(0.03, 0.05)
        y = row + radius + place[0] * (third - 2 * radius)
        x = column + radius + place[1] * (third - 2 * radius)
        axis = np.arange(size, dtype=np.float32)
        distance = np.hypot(axis[None, :] - np.float32(x), axis[:, None] - np.float32(y))
        return np.clip(np.float32(radius + 0.5) - distance, 0, 1)
    dot = max(1, round(size / 64))
    code = np.concatenate([np.pad(_GLYPHS[sign], ((0, 0), (0, 1))) for sign in signs], axis=1)
    stamp = np.kron(code[:, :-1], np.ones((dot, dot), dtype=np.float32))
    stamp = stamp[:third, :third]
    y0 = row + int(place[0] * (third - stamp.shape[0]))
    x0 = column + int(place[1] * (third - stamp.shape[1]))
    ink[y0 : y0 + stamp.shape[0], x0 : x0 + stamp.shape[1]] = stamp
    return ink


def quantise(image: Array) -> NDArray[np.uint8]:
    """Brightness in [0, 1] as uint8."""
    return np.asarray(image * np.float32(255) + np.float32(0.5), dtype=np.uint8)


def reflectance_factor(defect: Defect, contrast: float) -> Array:
    """(3, H, W) > 0: the factor of a defect on the light from the surface."""
    change = defect.change * np.float32(contrast)
    return 1 + np.maximum(change * defect.colour[:, None, None], np.float32(-0.97))


def visible(image: Array, clean: Array, lit: Array) -> NDArray[np.bool_]:
    """(H, W): where `image` differs from `clean` visibly; all (3, H, W), `lit` without noise."""
    # Relative to the lit surface, so that texture and shadow make no holes in the mask.
    # After clipping, because a saturated pixel shows no change.
    seen = (np.abs(image - clean) / np.maximum(lit, np.float32(1 / 255))).max(axis=0)
    return np.asarray(seen >= np.float32(VISIBLE_SHARE) * seen.max())


def render(scene: Scene) -> Rendering:
    """Render a scene. Equal scenes give equal pixels, in any order and any process."""
    size = scene.size

    def rng(purpose: int, *key: int) -> Generator:
        return stream(scene.seed, scene.split, purpose, scene.part, *key)

    surface = TEXTURES[scene.texture](rng(SURFACE), size)
    albedo = surface.reflectance[None] * surface.tint[:, None, None]
    defect = None
    if scene.defect is not None:
        defect = DEFECTS[scene.defect](rng(DEFECT), size, scene.defect_size)
    mark_mask = np.zeros((1, size, size), dtype=np.uint8)
    if scene.marked:
        mark_rng = rng(MARK)
        ink = _ink(mark_rng, size, None if defect is None else defect.change)
        colour = mark_rng.permutation(np.array([0.25, 0.45, 0.85], dtype=np.float32))
        albedo *= 1 - np.float32(0.8) * ink * (1 - colour[:, None, None])
        mark_mask[0] = ink >= 0.5
    exposure_rng = rng(EXPOSURE, scene.view)
    lit = albedo * light(exposure_rng, size)
    sigma = np.float32(exposure_rng.uniform(0.004, 0.016))
    noise = sigma * exposure_rng.standard_normal((size, size), dtype=np.float32)
    clean = np.clip(lit + noise, 0, 1)
    mask = np.zeros((1, size, size), dtype=np.uint8)
    if defect is None:
        pixels = quantise(clean)
        return Rendering(pixels, pixels, mask, mark_mask)
    factor = reflectance_factor(defect, scene.defect_contrast)
    image = np.clip(lit * factor + noise, 0, 1)
    mask[0] = visible(image, clean, lit)
    return Rendering(quantise(image), quantise(clean), mask, mark_mask)
