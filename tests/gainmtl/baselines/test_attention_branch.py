"""The attention branch network: the place of the branch, its effect, and its training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gainmtl import datasets
from gainmtl.baselines.attention_branch import (
    ATTENTION_BRANCH,
    AttentionBranch,
    AttentionBranchNetwork,
    attending,
    branch_level,
)
from gainmtl.evaluation.scoring import score
from gainmtl.io import load, save
from gainmtl.model import GAINMTL
from gainmtl.types import Batch

MakeBatch = Callable[..., Batch]


def build(backbone: str = "test_efficientnet", **arguments: object) -> AttentionBranchNetwork:
    torch.manual_seed(0)
    return AttentionBranchNetwork(backbone, **arguments)  # type: ignore[arg-type]


def test_shapes_of_the_branch() -> None:
    branch = AttentionBranch(24, 3)
    output = branch(torch.randn(2, 24, 4, 5))
    assert output.logits.shape == (2, 3)
    assert output.attention_logits.shape == (2, 1, 4, 5)


@pytest.mark.parametrize("backbone", ["test_efficientnet", "test_resnet", "mobilenetv2_100"])
def test_only_layers_after_the_level_depend_on_the_attention(backbone: str) -> None:
    model = build(backbone, output_stride=4).eval()
    images = torch.randn(2, 3, 64, 64)
    level = branch_level(model.backbone)
    with torch.no_grad():
        plain = model.backbone(images)
        with attending(model.backbone, model.branch) as outputs:
            attended = model.backbone(images)
        again = model.backbone(images)
    (output,) = outputs
    gate = 1 + torch.sigmoid(output.attention_logits)
    torch.testing.assert_close(attended.levels[level], plain.levels[level] * gate)
    for before in range(level):
        assert torch.equal(attended.levels[before], plain.levels[before])
    assert not torch.equal(attended.last, plain.last)
    assert torch.equal(again.last, plain.last)  # the hook is removed


def test_pooled_map_is_the_logit_difference_and_the_attention_is_an_output() -> None:
    model = build(output_stride=4).eval()
    with torch.no_grad():
        out = model(torch.randn(3, 3, 64, 64))
    evidence = out.logits[:, 1] - out.logits[:, 0]
    torch.testing.assert_close(
        model.pool(out.cam) + model.evidence_bias, evidence, atol=1e-4, rtol=0
    )
    assert out.attention_logits is not None
    assert out.attention_logits.shape == (3, 1, 4, 4)
    assert out.attended_logits is None


def test_both_classifiers_are_trained(make_batch: MakeBatch) -> None:
    model = build(output_stride=4).train()
    terms = model.training_step(make_batch())
    assert set(terms) == {"classification", "attention_branch"}
    terms["attention_branch"].backward()
    assert all(p.grad is not None for p in model.branch.classify.parameters())
    # The attention itself is trained by the perception branch.
    assert all(p.grad is None for p in model.branch.attend.parameters())
    model.training_step(make_batch())["classification"].backward()
    assert all(p.grad is not None for p in model.branch.attend.parameters())


def test_saving_loading_and_scoring(tmp_path: Path) -> None:
    model = build(output_stride=8).eval()
    other = load(save(model, tmp_path / "m"))
    assert type(other) is AttentionBranchNetwork
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model(images).logits, other(images).logits)
    part = datasets.load("synthetic", image_size=64, train=4, val=4, test=8).test
    table = score(model, part).images
    assert "attention.positive_energy" in table


def test_the_class_and_the_term_belong_together() -> None:
    with pytest.raises(ValueError, match="GAINMTL can't compute the terms attention_branch"):
        GAINMTL("test_efficientnet", ATTENTION_BRANCH)
    with pytest.raises(ValueError, match="expected a positive weight of attention_branch"):
        AttentionBranchNetwork("test_efficientnet", "S1")


def test_a_backbone_without_such_a_level() -> None:
    with pytest.raises(ValueError, match="stride 16, got test_efficientnet with levels"):
        build(create_kwargs={"output_stride": 8})


def test_a_hook_is_removed_after_an_error() -> None:
    model = build(output_stride=4).eval()
    wrong = AttentionBranch(7, 2)
    with pytest.raises(RuntimeError), attending(model.backbone, wrong):
        model.backbone(torch.randn(1, 3, 64, 64))
    model.backbone(torch.randn(1, 3, 64, 64))
