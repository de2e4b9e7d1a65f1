"""Images of fractals, to pretrain a backbone without photographs and without published weights.

A class is an iterated function system: a few affine maps of the plane whose common fixed set is a
fractal (Barnsley, "Fractals Everywhere", 1988). A network that classifies them learns edges,
corners and textures (Kataoka et al., "Pre-training without Natural Images", ACCV 2020). Nothing is
read or stored: a batch is a function of the seed and its number.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]

CHAINS, BURN_IN, STEPS = 160, 12, 72
"""Points iterated in parallel; iterations before points are recorded; recorded iterations."""
LEAST_FILL = 0.12
"""A class is drawn again if its points cover a smaller share of a 32 x 32 grid than this."""
PLAIN = 0.5
"""Share of images that are bright on black. With random colours and contrast of either sign in all
images no single pixel is informative about the class; a ConvNeXt, whose blocks start as the
identity, was then still at chance after 900 steps, when a ResNet had begun to learn."""


class Systems(NamedTuple):
    """C iterated function systems of up to M maps x -> A x + b; unused maps have weight 0."""

    linear: Array
    """(C, M, 2, 2)."""
    offset: Array
    """(C, M, 2)."""
    weight: Array
    """(C, M), each row sums to 1: roughly proportional to the area that a map covers."""


def draw_systems(classes: int, seed: int = 0, maps: int = 6) -> Systems:
    """`classes` different systems, each large enough to fill an image; see `LEAST_FILL`.

    The singular values of every map are below 1, so that each system has a fixed set.
    """
    rng = np.random.default_rng([seed, 1])
    systems: list[Systems] = []
    while len(systems) < classes:
        count = int(rng.integers(2, maps + 1))
        turn = rng.uniform(0, 2 * np.pi, (2, count))
        large = rng.uniform(0.35, 0.95, count)
        small = large * rng.uniform(0.3, 1.0, count)
        left, right = (_rotation(angle) for angle in turn)
        sign = np.where(rng.random(count) < 0.5, -1.0, 1.0)
        shrink = np.zeros((count, 2, 2))
        shrink[:, 0, 0], shrink[:, 1, 1] = large, small * sign
        a = np.zeros((maps, 2, 2))
        a[:count] = left @ shrink @ right
        b = np.zeros((maps, 2))
        b[:count] = rng.uniform(-1, 1, (count, 2))
        w = np.zeros(maps)
        w[:count] = large * small + 0.02
        system = Systems(a[None], b[None], (w / w.sum())[None])
        points = chaos_game(system, np.zeros(1, dtype=np.int64), rng)
        cells = _place(points, 32)
        if len(np.unique(cells)) >= LEAST_FILL * 32 * 32:
            systems.append(system)
    return Systems(*(np.concatenate(arrays) for arrays in zip(*systems, strict=True)))


def chaos_game(systems: Systems, labels: NDArray[np.int64], rng: np.random.Generator) -> Array:
    """(B, P, 2) points on the fixed sets of the classes `labels` (B,).

    Barnsley's chaos game: apply maps drawn by their weights to a point, again and again.
    """
    batch = np.arange(len(labels))[:, None]
    edges = np.cumsum(systems.weight[labels], axis=1)[:, None]
    linear, offset = systems.linear[labels], systems.offset[labels]
    point = rng.uniform(-1, 1, (len(labels), CHAINS, 2))
    points = np.empty((len(labels), STEPS, CHAINS, 2))
    for step in range(BURN_IN + STEPS):
        chosen = (rng.random((len(labels), CHAINS, 1)) > edges).sum(2)
        chosen = np.minimum(chosen, systems.weight.shape[1] - 1)
        moved = linear[batch, chosen] @ point[..., None]
        point = moved[..., 0] + offset[batch, chosen]
        if step >= BURN_IN:
            points[:, step - BURN_IN] = point
    return points.reshape(len(labels), -1, 2)


def fractal_batch(
    systems: Systems, size: int, count: int, seed: int, number: int
) -> tuple[Tensor, Tensor]:
    """Images (count, 3, size, size) in [0, 1] and labels (count,): batch `number` of a stream.

    Each image shows its class rotated, with its maps slightly changed: a share `PLAIN` bright on
    black, the others in random colours on a background of smooth noise.
    """
    rng = np.random.default_rng([seed, 2, number])
    labels = rng.integers(0, len(systems.weight), count)
    near = systems.linear[labels] * rng.uniform(0.92, 1.08, (count, 1, 1, 1))
    jitter = systems.offset[labels] + rng.normal(0, 0.03, (count, systems.offset.shape[1], 2))
    shaken = Systems(near.clip(-0.97, 0.97), jitter, systems.weight[labels])
    points = chaos_game(shaken, np.arange(count), rng)
    turned = points @ _rotation(rng.uniform(0, 2 * np.pi, count))
    cells = _place(turned, size) + np.arange(count)[:, None] * size * size
    hits = np.bincount(cells.ravel(), minlength=count * size * size)
    density = np.log1p(hits.reshape(count, 1, size, size))
    density = density / density.max((2, 3), keepdims=True)
    density = density ** rng.uniform(0.3, 1.0, (count, 1, 1, 1))
    low, high = rng.uniform(0, 1, (2, count, 3, 1, 1))
    ground = _soft_noise(count, size, rng)
    shade = low + (ground - 0.5) * rng.uniform(0, 0.6, (count, 1, 1, 1))
    drawn = shade * (1 - density) + high * density
    drawn = drawn + rng.normal(0, 1, drawn.shape) * rng.uniform(0, 0.03, (count, 1, 1, 1))
    is_plain = rng.random((count, 1, 1, 1)) < PLAIN
    drawn = np.where(is_plain, density, drawn)
    return torch.from_numpy(drawn.clip(0, 1)).float(), torch.from_numpy(labels)


def _rotation(angle: Array) -> Array:
    """(N, 2, 2) from angles (N,)."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)


def _place(points: Array, size: int) -> NDArray[np.int64]:
    """(B, P) flat indices of cells of a size x size grid, scaled to fit all but the outliers."""
    low, high = np.quantile(points[:, ::7], [0.01, 0.99], axis=1)
    middle, reach = (low + high) / 2, (high - low).max(-1) / 2 + 1e-9
    scaled = (points - middle[:, None]) / (1.1 * reach[:, None, None])
    place = ((scaled + 1) / 2 * size).astype(np.int64).clip(0, size - 1)
    return np.asarray(place[..., 0] * size + place[..., 1])


def _soft_noise(count: int, size: int, rng: np.random.Generator) -> Array:
    """(count, 1, size, size) in [0, 1]: noise on a coarse grid, resized."""
    cells = int(rng.integers(3, 17))
    small = torch.from_numpy(rng.random((count, 1, cells, cells)))
    soft = torch.nn.functional.interpolate(small, (size, size), mode="bilinear")
    return soft.numpy()
