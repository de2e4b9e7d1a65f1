"""Insertion, deletion and ROAD: by hand, by brute force, and against pytorch-grad-cam's solver."""

from __future__ import annotations

import math

import pytest
import torch
from pytorch_grad_cam.metrics.road import NoisyLinearImputer
from torch import Tensor

from gainmtl import metrics
from gainmtl.metrics.faithfulness import FAITHFULNESS, impute, pixel_ranks


def brightness(images: Tensor) -> Tensor:
    """The score of a network that only sums its first channel."""
    return images[:, 0].sum((1, 2))


def test_ranks_by_hand_and_ties_in_random_order() -> None:
    maps = torch.tensor([[[[0.1, 0.4], [0.3, 0.2]]]])
    assert pixel_ranks(maps, (2, 2)).flatten().tolist() == [3, 0, 1, 2]
    flat = pixel_ranks(torch.zeros(2, 1, 8, 8), (8, 8))
    assert torch.equal(flat[0], flat[1])
    assert sorted(flat[0].flatten().tolist()) == list(range(64))
    assert flat[0].flatten().tolist() != list(range(64))
    other = pixel_ranks(torch.zeros(1, 1, 8, 8), (8, 8), seed=1)
    assert not torch.equal(flat[:1], other)
    with pytest.raises(ValueError, match="must be finite"):
        pixel_ranks(torch.full((1, 1, 2, 2), math.nan), (2, 2))


def test_deletion_by_hand() -> None:
    images = torch.zeros(1, 3, 1, 4)
    images[0, 0, 0] = torch.tensor([8.0, 4.0, 0.0, 0.0])  # mean 3
    maps = torch.tensor([[[[4.0, 3.0, 2.0, 1.0]]]])
    curve = metrics.deletion_curve(brightness, images, maps, steps=4)
    assert curve.share.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert curve.scores[0].tolist() == [12, 7, 6, 9, 12]
    assert float(curve.area) == pytest.approx((12 / 2 + 7 + 6 + 9 + 12 / 2) / 4)


def test_insertion_starts_blurred_and_ends_with_the_image() -> None:
    torch.manual_seed(0)
    images = torch.rand(2, 3, 32, 32)
    curve = metrics.insertion_curve(
        lambda x: x.var((1, 2, 3)), images, torch.rand(2, 1, 8, 8), steps=5
    )
    torch.testing.assert_close(curve.scores[:, -1], images.var((1, 2, 3)).double())
    assert (curve.scores[:, 0] < curve.scores[:, -1]).all()


def test_the_right_map_is_more_faithful_than_its_opposite() -> None:
    images = torch.zeros(1, 3, 16, 16)
    images[:, 0, 4:8, 4:8] = 1.0
    right = images[:, :1]
    areas = [float(metrics.deletion_curve(brightness, images, m, 16).area) for m in (right, -right)]
    assert areas[0] < areas[1]
    scores = [
        float(metrics.road(brightness, images, m, noise=0.0).combined) for m in (right, -right)
    ]
    assert scores[0] > 0 > scores[1]


def test_a_map_that_orders_nothing_scores_near_zero() -> None:
    torch.manual_seed(1)
    images = torch.rand(4, 3, 16, 16)
    found = metrics.road(brightness, images, torch.ones(4, 1, 4, 4)).combined
    assert float(found.abs().max()) < 0.1 * float(brightness(images).min())


def dense_fill(image: Tensor, removed: Tensor) -> Tensor:
    """The linear system written out, pixel by pixel."""
    height, width = removed.shape
    matrix = torch.eye(height * width, dtype=torch.float64)
    right = image.double().flatten(1).T.clone()
    for y in range(height):
        for x in range(width):
            if not removed[y, x]:
                continue
            row = y * width + x
            matrix[row] = 0
            right[row] = 0
            for dy in (-1, 0, 1):
                for dx in (-1, 0, 1):
                    inside = 0 <= y + dy < height and 0 <= x + dx < width
                    if (dy or dx) and inside:
                        weight = 1 / 12 if dy and dx else 1 / 6
                        matrix[row, row] += weight
                        matrix[row, row + dy * width + dx] -= weight
    return torch.linalg.solve(matrix, right).T.view_as(image)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_filling_solves_the_system(share: float) -> None:
    generator = torch.Generator().manual_seed(2)
    images = torch.randn(3, 3, 12, 9, generator=generator)
    removed = torch.rand(3, 1, 12, 9, generator=generator) < share
    found = impute(images, removed, noise=0.0)
    for image, hole, filled in zip(images, removed, found, strict=True):
        expected = dense_fill(image, hole[0]).float()
        torch.testing.assert_close(filled, expected, atol=1e-5, rtol=1e-4)
        assert torch.equal(filled[:, ~hole[0]], image[:, ~hole[0]])


def test_filling_against_pytorch_grad_cam() -> None:
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(2, 3, 24, 24, generator=generator)
    removed = torch.rand(2, 1, 24, 24, generator=generator) < 0.7
    found = impute(images, removed, noise=0.0)
    library = NoisyLinearImputer(noise=0.0)
    for image, hole, filled in zip(images, removed, found, strict=True):
        theirs = library(image, (~hole[0]).float())
        torch.testing.assert_close(filled, theirs, atol=1e-4, rtol=1e-4)


def test_a_large_hole_is_filled_smoothly() -> None:
    ramp = torch.linspace(0, 1, 64).expand(1, 3, 64, 64).contiguous()
    removed = torch.zeros(1, 1, 64, 64, dtype=torch.bool)
    removed[..., 2:-2, 2:-2] = True
    torch.testing.assert_close(impute(ramp, removed, noise=0.0), ramp, atol=1e-4, rtol=0)
    noisy = impute(ramp, removed, 0.01, torch.Generator().manual_seed(0)) - ramp
    assert float(noisy[..., 2:-2, 2:-2].std()) == pytest.approx(0.01, rel=0.1)
    assert not noisy[..., :2].any()


def test_three_scores_of_the_same_maps() -> None:
    torch.manual_seed(0)
    images, maps = torch.rand(2, 3, 16, 16), torch.rand(2, 1, 4, 4)
    scores = metrics.faithfulness_scores(brightness, images, maps, steps=4)
    assert tuple(scores) == FAITHFULNESS
    deletion = metrics.deletion_curve(brightness, images, maps, steps=4)
    insertion = metrics.insertion_curve(brightness, images, maps, steps=4)
    road = metrics.road(brightness, images, maps, shares=(0.1, 0.3, 0.5, 0.7, 0.9))
    for value, expected in zip(
        scores.values(), (deletion.area, insertion.area, road.combined), strict=True
    ):
        assert torch.equal(value, expected)


def test_mistakes_are_named() -> None:
    images = torch.rand(1, 3, 4, 4)
    with pytest.raises(ValueError, match="at least one known pixel"):
        impute(images, torch.ones(1, 1, 4, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match="shares: expected numbers between 0 and 1"):
        metrics.road(brightness, images, images[:, :1], shares=(1.0,))
    with pytest.raises(ValueError, match="a map for each of 1 images"):
        metrics.deletion_curve(brightness, images, torch.rand(2, 1, 4, 4))
    with pytest.raises(RuntimeError, match="no solution"):
        impute(torch.rand(1, 3, 32, 32), torch.rand(1, 1, 32, 32) < 0.9, max_iterations=1)


def test_steps_and_maps_that_fit_no_image() -> None:
    images, maps = torch.rand(3, 3, 8, 8), torch.rand(3, 1, 8, 8)

    def score(x: Tensor) -> Tensor:
        return x.mean((1, 2, 3))

    with pytest.raises(ValueError, match="steps: expected a whole number from 1, found 2.5"):
        metrics.deletion_curve(score, images, maps, steps=2.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a map for each of 3 images, found 1"):
        metrics.road(score, images, maps[:1])
