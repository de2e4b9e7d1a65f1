"""Attention layers against their equations in plain tensor operations."""

from __future__ import annotations

import math

import pytest
import torch
from timm.layers.cbam import CbamModule
from timm.layers.squeeze_excite import SEModule
from torch.nn import functional

from gainmtl.attention import (
    CBAM,
    MIN_TEMPERATURE,
    GuidedAttention,
    SqueezeExcitation,
    channel_summary,
)

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


def test_squeeze_excitation_does_not_depend_on_positions(features: torch.Tensor) -> None:
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


def test_cbam_gates_do_not_depend_on_the_order_of_pooled_values(features: torch.Tensor) -> None:
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


def test_gates_are_the_factors_of_the_layers(features: torch.Tensor) -> None:
    squeeze, cbam = SqueezeExcitation(CHANNELS), CBAM(CHANNELS)
    torch.testing.assert_close(squeeze(features), features * squeeze.gate(features))
    gates = cbam.gates(features)
    assert (gates.channel.shape, gates.spatial.shape) == ((2, CHANNELS, 1, 1), (2, 1, 5, 7))
    torch.testing.assert_close(gates.channel, channel_gate(cbam, features))
    torch.testing.assert_close(cbam(features), features * gates.channel * gates.spatial)


def test_cbam_agrees_with_timm(features: torch.Tensor) -> None:
    theirs, ours = CbamModule(CHANNELS, rd_channels=8).eval(), CBAM(CHANNELS).eval()
    convolution, norm = theirs.spatial.conv.conv, theirs.spatial.conv.bn
    with torch.no_grad():
        norm.running_mean.fill_(0.3)
        norm.running_var.fill_(1.7)
        norm.bias.fill_(-0.2)
        # A batch norm at prediction is a factor and a shift: the bias that ours has instead.
        factor = norm.weight / (norm.running_var + norm.eps).sqrt()
        ours.channel.load_state_dict(theirs.channel.state_dict())
        ours.spatial.weight.copy_(convolution.weight * factor)
        assert ours.spatial.bias is not None
        ours.spatial.bias.copy_(norm.bias - norm.running_mean * factor)
        torch.testing.assert_close(ours(features), theirs(features))


def test_squeeze_excitation_agrees_with_timm(features: torch.Tensor) -> None:
    theirs, ours = SEModule(CHANNELS, rd_channels=8), SqueezeExcitation(CHANNELS)
    ours.layer.load_state_dict(theirs.state_dict())
    torch.testing.assert_close(features * ours.gate(features), theirs(features))


def test_the_summary_does_not_depend_on_the_order_of_channels(features: torch.Tensor) -> None:
    summary = channel_summary(features)
    assert summary.shape == (2, 2, 5, 7)
    torch.testing.assert_close(summary, channel_summary(features.flip(1)))
    assert channel_summary(torch.tensor([[[[3.0]], [[1.0]]]])).flatten().tolist() == [2, 3]


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


def test_temperature_has_a_gradient(features: torch.Tensor) -> None:
    attention = GuidedAttention(CHANNELS)
    attention(features).square().mean().backward()
    gradient = attention.raw_temperature.grad
    assert gradient is not None
    assert float(gradient) != 0


def test_a_convolution_can_compensate_the_temperature(features: torch.Tensor) -> None:
    attention = GuidedAttention(CHANNELS).eval()
    loss = attention(features).sigmoid().square().mean()
    assert attention.logits.bias is not None
    weights = [attention.logits.weight, attention.logits.bias, attention.raw_temperature]
    to_w, to_b, to_raw = torch.autograd.grad(loss, weights)
    to_t = to_raw / torch.sigmoid(attention.raw_temperature)  # dT / draw
    along = (attention.logits.weight * to_w).sum() + (attention.logits.bias * to_b).sum()
    torch.testing.assert_close(along, -attention.temperature * to_t, rtol=1e-4, atol=1e-7)
