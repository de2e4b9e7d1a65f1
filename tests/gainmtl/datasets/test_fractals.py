"""Fractals: a known one, and reproducible batches."""

from __future__ import annotations

import numpy as np
import torch

from gainmtl.datasets.synthetic.fractals import Systems, chaos_game, draw_systems, fractal_batch


def test_three_maps_half_way_to_a_corner_draw_sierpinskis_triangle() -> None:
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    linear = np.tile(np.eye(2) / 2, (1, 3, 1, 1))
    systems = Systems(linear, corners[None] / 2, np.full((1, 3), 1 / 3))
    x, y = chaos_game(systems, np.zeros(1, dtype=np.int64), np.random.default_rng(0))[0].T
    assert (x >= -1e-3).all()
    assert (y >= -1e-3).all()
    assert (x + y <= 1 + 1e-3).all()
    # The open middle triangle and those of the next order hold no point.
    for scale, dx, dy in ((1, 0, 0), (0.5, 0, 0), (0.5, 0.5, 0), (0.5, 0, 0.5)):
        u, v = (x - dx) / scale, (y - dy) / scale
        assert not ((u < 0.49) & (v < 0.49) & (u + v > 0.51) & (u > 0) & (v > 0)).any()
    # Each map is used equally often, and so are the three halves of the triangle.
    assert abs((x > 0.5).mean() - 1 / 3) < 0.02


def test_systems_shrink_and_repeat() -> None:
    systems = draw_systems(6, seed=3)
    used = systems.weight > 0
    values = np.linalg.svd(systems.linear[used], compute_uv=False)
    assert (values < 1).all()
    assert np.allclose(systems.weight.sum(1), 1)
    for one, other in zip(systems, draw_systems(6, seed=3), strict=True):
        assert np.array_equal(one, other)
    assert not np.array_equal(systems.offset, draw_systems(6, seed=4).offset)


def test_a_batch_is_a_function_of_seed_and_number() -> None:
    systems = draw_systems(4)
    images, labels = fractal_batch(systems, 32, 6, 0, 5)
    again, _ = fractal_batch(systems, 32, 6, 0, 5)
    other, _ = fractal_batch(systems, 32, 6, 0, 6)
    assert images.shape == (6, 3, 32, 32)
    assert images.dtype == torch.float32
    assert images.min() >= 0
    assert images.max() <= 1
    assert set(labels.tolist()) <= set(range(4))
    assert torch.equal(images, again)
    assert not torch.equal(images, other)
    assert images.std((1, 2, 3)).min() > 0.01


def test_about_half_of_the_images_are_bright_on_black() -> None:
    images, _ = fractal_batch(draw_systems(4), 32, 80, 0, 0)
    spread = (images.amax(1) - images.amin(1)).amax((1, 2))
    empty = (images == 0).float().mean((1, 2, 3))
    plain = (spread == 0) & (empty > 0.1)
    assert 28 <= int(plain.sum()) <= 52
    assert bool((images[plain].amax((1, 2, 3)) == 1).all())
