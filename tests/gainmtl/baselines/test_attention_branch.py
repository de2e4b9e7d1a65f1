"""The attention branch network: where the branch hangs, what it changes, and that it trains."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from gainbook.chapters.ch12_fostering.fostered import ATTENTION_BRANCH

from gainmtl.baselines.attention_branch import AttentionBranch, attending, branch_level
from gainmtl.datasets import load as load_data
from gainmtl.evaluation.scoring import score
from gainmtl.io import load, save
from gainmtl.model import GAINMTL
from gainmtl.types import Batch

MakeBatch = Callable[..., Batch]


def build(backbone: str = "test_efficientnet", **arguments: object) -> GAINMTL:
    torch.manual_seed(0)
    return GAINMTL(backbone, ATTENTION_BRANCH, **arguments)  # type: ignore[arg-type]


def test_shapes_of_the_branch() -> None:
    branch = AttentionBranch(24, 3)
    found = branch(torch.randn(2, 24, 4, 5))
    assert found.logits.shape == (2, 3)
    assert found.attention_logits.shape == (2, 1, 4, 5)


@pytest.mark.parametrize("backbone", ["test_efficientnet", "test_resnet", "mobilenetv2_100"])
def test_what_comes_after_the_level_sees_the_attention(backbone: str) -> None:
    model = build(backbone, output_stride=4).eval()
    images = torch.randn(2, 3, 64, 64)
    assert model.branch is not None
    level = branch_level(model.backbone)
    with torch.no_grad():
        plain = model.backbone(images)
        with attending(model.backbone, model.branch) as said:
            seen = model.backbone(images)
        again = model.backbone(images)
    (told,) = said
    gate = 1 + torch.sigmoid(told.attention_logits)
    torch.testing.assert_close(seen.levels[level], plain.levels[level] * gate)
    for before in range(level):
        assert torch.equal(seen.levels[before], plain.levels[before])
    assert not torch.equal(seen.last, plain.last)
    assert torch.equal(again.last, plain.last)  # nothing is left hanging


def test_the_map_explains_the_verdict_and_the_attention_is_told() -> None:
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
    assert model.branch is not None
    assert all(p.grad is not None for p in model.branch.classify.parameters())
    # The attention itself is taught by the perception.
    assert all(p.grad is None for p in model.branch.attend.parameters())
    model.training_step(make_batch())["classification"].backward()
    assert all(p.grad is not None for p in model.branch.attend.parameters())


def test_it_is_saved_loaded_and_scored(tmp_path: Path) -> None:
    model = build(output_stride=8).eval()
    other = load(save(model, tmp_path / "m"))
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model(images).logits, other(images).logits)
    part = load_data("synthetic", image_size=64, train=4, val=4, test=8).test
    table = score(model, part).images
    assert "attention.positive_energy" in table


def test_a_backbone_without_such_a_level() -> None:
    with pytest.raises(ValueError, match="attention_branch: test_efficientnet has levels"):
        build(create_kwargs={"output_stride": 8})


def test_a_hook_is_removed_after_an_error() -> None:
    model = build(output_stride=4).eval()
    assert model.branch is not None
    wrong = AttentionBranch(7, 2)
    with pytest.raises(RuntimeError), attending(model.backbone, wrong):
        model.backbone(torch.randn(1, 3, 64, 64))
    model.backbone(torch.randn(1, 3, 64, 64))
