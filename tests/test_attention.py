"""Attention layers against their equations, written out again with plain tensor operations."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from gainmtl.attention import CBAM, MIN_TEMPERATURE, GuidedAttention, SqueezeExcitation

CHANNELS = 32


@pytest.fixture
def features() -> torch.Tensor:
    return torch.randn(2, CHANNELS, 5, 7, generator=torch.Generator().manual_seed(0))


def shuffled_cells(features: torch.Tensor) -> torch.Tensor:
    order = torch.randperm(35, generator=torch.Generator().manual_seed(1))
    return features.flatten(2)[:, :, order].view_as(features)


def test_squeeze_excitation_is_its_equation(features: torch.Tensor) -> None:
    layer = SqueezeExcitation(CHANNELS).eval()
    fc1, fc2 = layer.layer.fc1, layer.layer.fc2
    hidden = functional.conv2d(features.mean((2, 3), keepdim=True), fc1.weight, fc1.bias).relu()
    gate = functional.conv2d(hidden, fc2.weight, fc2.bias).sigmoid()
    assert gate.shape == (2, CHANNELS, 1, 1)
    torch.testing.assert_close(layer(features), features * gate)


def test_squeeze_excitation_ignores_where(features: torch.Tensor) -> None:
    layer = SqueezeExcitation(CHANNELS).eval()
    torch.testing.assert_close(layer(shuffled_cells(features)), shuffled_cells(layer(features)))


@pytest.mark.parametrize(("channels", "hidden"), [(8, 8), (64, 8), (256, 16)])
def test_parameter_counts(channels: int, hidden: int) -> None:
    squeeze = sum(p.numel() for p in SqueezeExcitation(channels).parameters())
    assert squeeze == 2 * channels * hidden + channels + hidden
    cbam = sum(p.numel() for p in CBAM(channels).parameters())
    assert cbam == 2 * channels * hidden + 2 * 7 * 7 + 1


def channel_gate(cbam: CBAM, features: torch.Tensor) -> torch.Tensor:
    fc1, fc2 = cbam.channel.fc1.weight, cbam.channel.fc2.weight
    pooled = (features.mean((2, 3), keepdim=True), features.amax((2, 3), keepdim=True))
    both = [functional.conv2d(functional.conv2d(x, fc1).relu(), fc2) for x in pooled]
    return (both[0] + both[1]).sigmoid()


def spatial_gate(cbam: CBAM, features: torch.Tensor) -> torch.Tensor:
    pooled = torch.cat([features.mean(1, keepdim=True), features.amax(1, keepdim=True)], 1)
    x = functional.conv2d(pooled, cbam.spatial.weight, cbam.spatial.bias, padding=3)
    return x.sigmoid()


def test_cbam_is_its_equations(features: torch.Tensor) -> None:
    cbam = CBAM(CHANNELS).eval()
    channel = channel_gate(cbam, features)
    spatial = spatial_gate(cbam, features * channel)
    assert channel.shape == (2, CHANNELS, 1, 1)
    assert spatial.shape == (2, 1, 5, 7)
    torch.testing.assert_close(cbam(features), features * channel * spatial)


def test_cbam_gates_ignore_what_they_pool_over(features: torch.Tensor) -> None:
    cbam = CBAM(CHANNELS).eval()
    # Divide the other gate out: what is left is the layer's own gate, not the one written here.
    own_channel = (
        cbam(features) / features / spatial_gate(cbam, features * channel_gate(cbam, features))
    )
    moved = shuffled_cells(features)
    moved_channel = cbam(moved) / moved / spatial_gate(cbam, moved * channel_gate(cbam, moved))
    torch.testing.assert_close(
        own_channel.mean((2, 3)), moved_channel.mean((2, 3)), rtol=1e-4, atol=1e-5
    )
    assert 0 < own_channel.min()
    assert own_channel.max() < 1


def test_guided_attention_starts_from_its_prior(features: torch.Tensor) -> None:
    attention = GuidedAttention(CHANNELS, prior=0.05).eval()
    torch.nn.init.zeros_(attention.logits.weight)
    logits = attention(features)
    assert logits.shape == (2, 1, 5, 7)
    torch.testing.assert_close(logits.sigmoid(), torch.full_like(logits, 0.05))


def test_temperature_starts_at_one_and_stays_positive() -> None:
    attention = GuidedAttention(CHANNELS)
    assert float(attention.temperature.detach()) == pytest.approx(1.0, abs=1e-6)
    with torch.no_grad():
        attention.raw_temperature.fill_(-1e4)
    assert float(attention.temperature.detach()) == pytest.approx(MIN_TEMPERATURE)
    assert float(attention.temperature.detach()) > 0


def test_temperature_divides_the_logits(features: torch.Tensor) -> None:
    attention = GuidedAttention(CHANNELS).eval()
    before = attention(features)
    with torch.no_grad():
        attention.raw_temperature.fill_(math.log(math.expm1(0.5 - MIN_TEMPERATURE)))
    torch.testing.assert_close(attention(features), 2 * before)


def test_temperature_learns(features: torch.Tensor) -> None:
    attention = GuidedAttention(CHANNELS)
    attention(features).square().mean().backward()
    gradient = attention.raw_temperature.grad
    assert gradient is not None
    assert float(gradient) != 0
