"""Frozen features: views, exact maps, and the cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from gainbook.chapters.ch14_active.features import (
    Levels,
    cached,
    encode,
    pooled,
    turn,
    weighted_sum,
)

from gainmtl.backbone import Backbone


def levels(count: int = 3) -> Levels:
    rng = np.random.default_rng(0)
    fine, coarse = rng.normal(size=(count, 2, 4, 6)), rng.normal(size=(count, 5, 2, 3))
    return Levels(fine.astype(np.float16), coarse.astype(np.float16))


def test_the_mean_of_the_map_is_the_weighted_mean_of_the_features() -> None:
    maps = levels()
    weight = np.random.default_rng(1).normal(size=(3, 7)).astype(np.float32)
    found = weighted_sum(maps, weight)
    assert found.shape == (3, 4, 6)
    assert found.mean((1, 2)) == pytest.approx((weight * pooled(maps)).sum(1), abs=1e-3)
    by_hand = weight[1, :2] @ maps.fine[1, :, 3, 5].astype(float) + weight[1, 2:] @ maps.coarse[
        1, :, 1, 2
    ].astype(float)
    assert found[1, 3, 5] == pytest.approx(by_hand, abs=1e-3)


def test_views_move_pixels() -> None:
    row = torch.arange(6.0).expand(1, 1, 2, 6)
    assert turn(row, "plain", 2)[0, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert turn(row, "flipped", 2)[0, 0, 0].tolist() == [5, 4, 3, 2, 1, 0]
    assert turn(row, "shifted", 2)[0, 0, 0].tolist() == [2, 1, 0, 1, 2, 3]


def test_encoding_does_not_depend_on_the_batch(backbone: Backbone) -> None:
    images = torch.rand(5, 3, 64, 64)
    whole, pieces = encode(backbone, images, "plain"), encode(backbone, images, "plain", batch=2)
    assert whole.fine.shape[2] == 2 * whole.coarse.shape[2]
    for a, b in zip(whole, pieces, strict=True):
        assert a == pytest.approx(b, abs=2e-2, rel=2e-2)


def test_a_mirrored_view_of_a_mirrored_image_is_the_image(backbone: Backbone) -> None:
    images = torch.rand(2, 3, 64, 64)
    plain, other = encode(backbone, images, "plain"), encode(backbone, images.flip(3), "flipped")
    assert plain.coarse == pytest.approx(other.coarse, abs=2e-2, rel=2e-2)


def test_impossible_images_are_refused(backbone: Backbone) -> None:
    with pytest.raises(ValueError, match="expected a multiple of 32"):
        encode(backbone, torch.rand(1, 3, 60, 60), "plain")
    with pytest.raises(ValueError, match="at least one image"):
        encode(backbone, [], "plain")


def test_the_cache_is_read_until_the_images_change(tmp_path: Path) -> None:
    path, made = tmp_path / "a" / "x.npz", []

    def make() -> Levels:
        made.append(1)
        return levels()

    first = cached(path, make, ["a", "b", "c"])
    again = cached(path, make, ["a", "b", "c"])
    assert len(made) == 1
    assert (first.fine == again.fine).all()
    cached(path, make, ["a", "b", "d"])
    assert len(made) == 2
