"""Heads: logits as pooled maps, the feature pyramid, per-pixel logits."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from gainmtl.cam import POOLINGS, pool_evidence
from gainmtl.heads import FeaturePyramid, LinearHead, LocalizationHead


def head_and_features(
    classes: int, pooling: str, dropout: float = 0.0
) -> tuple[LinearHead, torch.Tensor]:
    torch.manual_seed(0)
    head = LinearHead(16, classes, pooling, dropout)
    with torch.no_grad():
        head.bias.normal_()
    return head, torch.randn(4, 16, 5, 6)


def test_mean_pooling_is_the_usual_linear_classifier() -> None:
    head, features = head_and_features(3, "mean")
    expected = functional.linear(features.mean((2, 3)), head.weight, head.bias)
    torch.testing.assert_close(head(features).logits, expected)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("training", [False, True])
def test_logit_differences_are_pooled_evidence(pooling: str, classes: int, training: bool) -> None:
    head, features = head_and_features(classes, pooling, dropout=0.5)
    verdict = head.train(training)(features)
    evidence = verdict.class_cam[:, 1:] - verdict.class_cam[:, :1]
    expected = pool_evidence(evidence, pooling) + head.bias[1:] - head.bias[0]
    torch.testing.assert_close(verdict.logits[:, 1:] - verdict.logits[:, :1], expected)
    assert torch.equal(head.evidence_bias, head.bias[1] - head.bias[0])


def test_dropout_drops_whole_maps_in_training_only() -> None:
    head, features = head_and_features(2, "mean", dropout=0.5)
    seen = []
    head.dropout.register_forward_hook(lambda _m, _i, output: seen.append(output))
    head.train()(features)
    dropped = (seen[0] == 0).flatten(2)
    assert torch.equal(dropped.any(2), dropped.all(2))
    assert 0 < float(dropped.float().mean()) < 1
    assert torch.equal(head.eval()(features).logits, head(features).logits)


def test_unknown_pooling() -> None:
    with pytest.raises(ValueError, match="expected one of mean, lse, topk, or as .* got 'sum'"):
        LinearHead(4, pooling="sum")


def test_pyramid_is_on_the_finest_grid_and_depends_on_every_level() -> None:
    torch.manual_seed(0)
    pyramid = FeaturePyramid((8, 12, 20), width=16)
    # Odd sizes, as an image of 75 pixels gives them: 19, 10, 5 cells.
    sizes = [(8, 19, 17), (12, 10, 9), (20, 5, 5)]
    levels = [torch.randn(2, *size, requires_grad=True) for size in sizes]
    fused = pyramid(levels)
    assert fused.shape == (2, 16, 19, 17)
    fused[:, :, 10, 10].sum().backward()
    for level in levels:
        assert level.grad is not None
        assert float(level.grad.abs().sum()) > 0


def test_pyramid_of_two_levels_by_its_equation() -> None:
    torch.manual_seed(0)
    pyramid = FeaturePyramid((3, 5), width=4).eval()
    fine, coarse = torch.randn(1, 3, 4, 4), torch.randn(1, 5, 2, 2)
    top = pyramid.laterals[1](coarse).repeat_interleave(2, 2).repeat_interleave(2, 3)
    expected = pyramid.smooth[0](pyramid.laterals[0](fine) + top)
    torch.testing.assert_close(pyramid([fine, coarse]), expected)


def test_localization_has_the_given_size_and_starts_from_its_prior() -> None:
    head = LocalizationHead(16, prior=0.05).eval()
    torch.nn.init.zeros_(head.logits.weight)
    logits = head(torch.randn(2, 16, 8, 8), (30, 34))
    assert logits.shape == (2, 1, 30, 34)
    torch.testing.assert_close(logits.sigmoid(), torch.full_like(logits, 0.05))
