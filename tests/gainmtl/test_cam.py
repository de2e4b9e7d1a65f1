"""The class activation map, its poolings and the soft mask, against hand-computed values."""

from __future__ import annotations

import math

import pytest
import torch

from gainmtl.cam import (
    LSE_SHARPNESS,
    POOLINGS,
    check_pooling,
    class_activation_map,
    erase,
    pool_evidence,
    resize_map,
    soft_mask,
)

R = LSE_SHARPNESS
MAP = torch.tensor([[1.0, 2.0], [3.0, 6.0]])[None, None]


def test_class_activation_map_by_hand() -> None:
    features = torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]])  # (1, 2, 1, 2)
    weight = torch.tensor([[1.0, 0.0], [2.0, -1.0], [0.0, 10.0]])
    expected = torch.tensor([[[[1.0, 2.0]], [[-1.0, 0.0]], [[30.0, 40.0]]]])
    assert torch.equal(class_activation_map(features, weight), expected)


@pytest.mark.parametrize(
    ("pooling", "value"),
    [
        ("mean", 3.0),
        ("lse", math.log(sum(math.exp(R * e) for e in (1, 2, 3, 6)) / 4) / R),
        ("topk", 6.0),  # 1 % of four cells is less than one: the highest
    ],
)
def test_pooling_by_hand(pooling: str, value: float) -> None:
    assert float(pool_evidence(MAP, pooling)) == pytest.approx(value, rel=1e-6)


def test_topk_pools_one_percent() -> None:
    maps = torch.arange(400.0).view(1, 1, 20, 20)
    assert float(pool_evidence(maps, "topk")) == pytest.approx((399 + 398 + 397 + 396) / 4)


def test_log_sum_exp_goes_from_mean_to_maximum_with_r() -> None:
    maps = torch.tensor([[[[0.0, 0.0], [0.0, math.log(5)]]]])
    assert float(pool_evidence(maps, "lse:1")) == pytest.approx(math.log(8 / 4))
    assert float(pool_evidence(maps, f"lse:{R:g}")) == float(pool_evidence(maps, "lse"))
    found = [float(pool_evidence(maps, f"lse:{r}")) for r in (1e-3, 0.5, 2, 100)]
    assert found == sorted(found)
    assert found[0] == pytest.approx(math.log(5) / 4, abs=2e-3)
    assert found[-1] == pytest.approx(math.log(5), abs=0.02)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("constant", [-300.0, 0.0, 2.5, 300.0])
def test_a_constant_map_pools_to_its_constant(pooling: str, constant: float) -> None:
    pooled = pool_evidence(torch.full((2, 3, 8, 9), constant), pooling)
    torch.testing.assert_close(pooled, torch.full((2, 3), constant))


def test_lse_is_between_mean_and_maximum_and_depends_on_a_single_cell() -> None:
    maps = torch.randn(50, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    pooled = pool_evidence(maps, "lse")
    assert (pooled > maps.mean((2, 3))).all()
    assert (pooled < maps.amax((2, 3))).all()
    one = torch.zeros(1, 1, 48, 48)
    one[..., 5, 7] = 12.0
    assert float(pool_evidence(one, "mean")) < 0.01
    assert float(pool_evidence(one, "lse")) > 4


@pytest.mark.parametrize("pooling", ["max", "lse:", "lse:0", "lse:-1", "lse:inf", "mean:1"])
def test_unknown_pooling(pooling: str) -> None:
    for call in (lambda: check_pooling(pooling), lambda: pool_evidence(MAP, pooling)):
        with pytest.raises(ValueError, match=f"one of mean, lse, topk, or as .* got '{pooling}'"):
            call()


def test_soft_mask_is_one_half_at_the_threshold() -> None:
    evidence = torch.tensor([[[[-5.0, 0.0, 2.0, 4.0]]]])  # over its maximum: 0, 0, 0.5, 1
    mask = soft_mask(evidence, threshold=0.5, sharpness=10.0)
    outside, inside = 1 / (1 + math.exp(5)), 1 / (1 + math.exp(-5))
    torch.testing.assert_close(mask, torch.tensor([[[[outside, outside, 0.5, inside]]]]))


def test_soft_mask_does_not_depend_on_the_scale_of_an_image() -> None:
    evidence = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    scale = torch.tensor([1.0, 7.0, 1000.0])[:, None, None, None]
    torch.testing.assert_close(soft_mask(evidence), soft_mask(evidence * scale))


def test_soft_mask_without_evidence_is_almost_zero() -> None:
    mask = soft_mask(torch.full((1, 1, 4, 4), -3.0))
    assert torch.isfinite(mask).all()
    assert float(mask.max()) < 0.01


def test_soft_mask_has_a_gradient() -> None:
    evidence = torch.tensor([[[[1.0, 2.0, 4.0]]]], requires_grad=True)
    soft_mask(evidence).sum().backward()
    assert evidence.grad is not None
    assert (evidence.grad > 0).all()


def test_erasing_mixes_with_the_images_own_mean() -> None:
    image = torch.tensor([[[[1.0, 3.0], [5.0, 7.0]]]])  # its mean is 4
    soft = torch.tensor([[[[0.0, 1.0], [0.5, 0.25]]]])
    torch.testing.assert_close(erase(image, soft), torch.tensor([[[[1.0, 4.0], [4.5, 6.25]]]]))
    black = torch.tensor([[[[1.0, 0.0], [2.5, 5.25]]]])  # I - T I, as in the paper
    torch.testing.assert_close(erase(image, soft, torch.zeros(1)), black)


def test_erasing_a_normalised_image_is_normalising_the_erased_one() -> None:
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    soft = torch.rand(2, 1, 2, 2, generator=torch.Generator().manual_seed(1))
    mean, spread = torch.tensor([0.4, 0.5, 0.6])[:, None, None], 0.3
    first, last = (erase(images, soft) - mean) / spread, erase((images - mean) / spread, soft)
    torch.testing.assert_close(first, last)


def test_resize() -> None:
    assert resize_map(MAP, (2, 2)) is MAP
    assert resize_map(MAP, (6, 8)).shape == (1, 1, 6, 8)
    torch.testing.assert_close(resize_map(MAP, (6, 8)).mean(), MAP.mean())
