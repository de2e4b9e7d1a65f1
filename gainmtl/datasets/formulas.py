"""Pictures by formula, to pretrain a backbone where no photographs and no weights can be had.

A class is an iterated function system: a handful of affine maps of the plane whose common fixed set
is a fractal (Barnsley 1988). Telling such classes apart teaches edges, corners and textures without
a single photograph (Kataoka et al. 2020). Nothing is read or stored: a batch is a function of the
seed and its number.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]

CHAINS, BURN_IN, STEPS = 160, 12, 72
"""Points that wander at once, moves before they count, moves that count."""
LEAST_FILL = 0.12
"""A class whose points meet fewer cells of a 32 x 32 grid than this share is drawn again."""
PLAIN = 0.5
"""Share of pictures that are bright on black. Where all are in colours of their own, with contrast
of either sign, no single pixel says anything about the class, and a ConvNeXt, whose blocks begin as
the identity, was still at chance after 900 steps in which a ResNet had begun to learn."""


class Systems(NamedTuple):
    """C iterated function systems of up to M maps x -> A x + b; unused maps have weight 0."""

    linear: Array
    """(C, M, 2, 2)."""
    offset: Array
    """(C, M, 2)."""
    weight: Array
    """(C, M), each row sums to 1: about the area that a map covers."""


def draw_systems(classes: int, seed: int = 0, maps: int = 6) -> Systems:
    """`classes` different systems, each wide enough to fill a picture; see `LEAST_FILL`.

    Singular values of a map are drawn below 1, so that every system has a fixed set.
    """
    rng = np.random.default_rng([seed, 1])
    linear: list[Array] = []
    offset: list[Array] = []
    weight: list[Array] = []
    while len(linear) < classes:
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
        one = Systems(a[None], b[None], (w / w.sum())[None])
        points = wander(one, np.zeros(1, dtype=np.int64), rng)
        cells = _place(points, 32)
        if len(np.unique(cells)) >= LEAST_FILL * 32 * 32:
            linear.append(a)
            offset.append(b)
            weight.append(w / w.sum())
    return Systems(np.array(linear), np.array(offset), np.array(weight))


def wander(systems: Systems, labels: NDArray[np.int64], rng: np.random.Generator) -> Array:
    """(B, P, 2) points on the fixed sets of the classes `labels` (B,): the chaos game."""
    batch = np.arange(len(labels))[:, None]
    edges = np.cumsum(systems.weight[labels], axis=1)[:, None]
    linear, offset = systems.linear[labels], systems.offset[labels]
    point = rng.uniform(-1, 1, (len(labels), CHAINS, 2))
    found = np.empty((len(labels), STEPS, CHAINS, 2))
    for step in range(BURN_IN + STEPS):
        chosen = (rng.random((len(labels), CHAINS, 1)) > edges).sum(2)
        chosen = np.minimum(chosen, systems.weight.shape[1] - 1)
        moved = linear[batch, chosen] @ point[..., None]
        point = moved[..., 0] + offset[batch, chosen]
        if step >= BURN_IN:
            found[:, step - BURN_IN] = point
    return found.reshape(len(labels), -1, 2)


def formula_batch(
    systems: Systems, size: int, count: int, seed: int, number: int
) -> tuple[Tensor, Tensor]:
    """Images (count, 3, size, size) in [0, 1] and labels (count,): batch `number` of a stream.

    Each picture is its class seen from another angle, with its maps moved a little: a share
    `PLAIN` bright on black, the others in colours of their own, over a ground of soft noise.
    """
    rng = np.random.default_rng([seed, 2, number])
    labels = rng.integers(0, len(systems.weight), count)
    near = systems.linear[labels] * rng.uniform(0.92, 1.08, (count, 1, 1, 1))
    jitter = systems.offset[labels] + rng.normal(0, 0.03, (count, systems.offset.shape[1], 2))
    shaken = Systems(near.clip(-0.97, 0.97), jitter, systems.weight[labels])
    points = wander(shaken, np.arange(count), rng)
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
    """(B, P) cells of a size x size grid, scaled so that all but a few stray points fit."""
    low, high = np.quantile(points[:, ::7], [0.01, 0.99], axis=1)
    middle, reach = (low + high) / 2, (high - low).max(-1) / 2 + 1e-9
    scaled = (points - middle[:, None]) / (1.1 * reach[:, None, None])
    place = ((scaled + 1) / 2 * size).astype(np.int64).clip(0, size - 1)
    return np.asarray(place[..., 0] * size + place[..., 1])


def _soft_noise(count: int, size: int, rng: np.random.Generator) -> Array:
    """(count, 1, size, size) in [0, 1]: noise of a few cells, resized."""
    cells = int(rng.integers(3, 17))
    small = torch.from_numpy(rng.random((count, 1, cells, cells)))
    soft = torch.nn.functional.interpolate(small, (size, size), mode="bilinear")
    return soft.numpy()
