"""Agreement of maps, and baseline maps."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import spearmanr

from gainmtl import metrics


def test_rank_correlation_by_hand() -> None:
    a = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    b = torch.tensor([[[[1.0, 2.0], [4.0, 3.0]]]])  # one swap of four: 1 - 6 * 2 / (4 * 15)
    assert float(metrics.rank_correlation(a, b)) == pytest.approx(0.8)
    assert float(metrics.rank_correlation(a, a.exp() * 3 - 7)) == pytest.approx(1.0)
    assert float(metrics.rank_correlation(a, -a)) == pytest.approx(-1.0)
    assert math.isnan(float(metrics.rank_correlation(a, torch.zeros_like(a))))


def test_rank_correlation_against_scipy_with_ties() -> None:
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(5, 1, 6, 7, generator=generator).relu()
    b = torch.randn(5, 1, 6, 7, generator=generator).round()
    expected = [spearmanr(x.flatten(), y.flatten())[0] for x, y in zip(a, b, strict=True)]
    found = metrics.rank_correlation(a, b)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_maps_of_two_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="two maps of one shape"):
        metrics.rank_correlation(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 3, 3))


def test_maps_that_know_nothing() -> None:
    centre = metrics.centre_map(2, (4, 6))
    assert centre.shape == (2, 1, 4, 6)
    torch.testing.assert_close(centre, centre.flip(2).flip(3))
    assert float(centre[0, 0, 1, 2]) == pytest.approx(float(centre.max()))
    assert float(centre[0, 0, 1, 2]) == pytest.approx(
        math.exp(-((1 / 8) ** 2 + (1 / 12) ** 2) / (2 * 0.25**2))
    )
    assert torch.equal(metrics.uniform_map(1, (2, 3)), torch.ones(1, 1, 2, 3))
    drawn = [metrics.random_map(1, (8, 8), torch.Generator().manual_seed(s)) for s in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_soft_overlap_by_hand() -> None:
    a = torch.tensor([[[[0.2, 0.8]]], [[[1.0, 0.0]]], [[[0.0, 0.0]]]])
    b = torch.tensor([[[[0.4, 0.4]]], [[[1.0, 1.0]]], [[[0.0, 0.0]]]])
    found = metrics.soft_overlap(a, b)
    assert found[0].item() == pytest.approx((0.2 + 0.4) / (0.4 + 0.8))
    assert found[1].item() == 0.5  # of binary maps, the IoU
    assert found[2].isnan()
    with pytest.raises(ValueError, match="one shape"):
        metrics.soft_overlap(a, b[:1])
