"""The mistake on purpose: what it computes, what it makes perfect; no prediction has it."""

from __future__ import annotations

import inspect

import pytest
import torch
from gainbook.chapters.ch10_ablation.leaking import (
    drawn_labels,
    fit_leaking,
    leaking_answers,
    leaking_attention,
)

from gainmtl import metrics
from gainmtl.model import GAINMTL


def test_the_leaking_attention_by_hand() -> None:
    attention = torch.tensor([[[[0.2, 0.8], [0.4, 0.6]]]])
    mask = torch.tensor([[[[1.0, 0.0], [1.0, 0.0]]]])
    found = leaking_attention(attention, mask)
    assert torch.allclose(found, torch.tensor([[[[0.5, 0.0], [1.0, 0.0]]]]))
    assert torch.equal(leaking_attention(attention, torch.zeros_like(mask)), attention)


def test_labels_by_lot_have_a_box_where_they_are_true() -> None:
    labels, masks = drawn_labels(20, 30, seed=3)
    assert labels.sum() == 10
    area = masks.sum((1, 2, 3))
    assert set(area[labels].tolist()) == {25.0}
    assert area[~labels].sum() == 0
    again, _ = drawn_labels(20, 30, seed=3)
    assert torch.equal(labels, again)


def test_noise_becomes_perfect_through_the_mask_and_stays_noise_without() -> None:
    torch.manual_seed(0)
    model = GAINMTL("test_efficientnet", "S6", None, output_stride=4).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    images = torch.rand(32, 3, 32, 32)
    labels, masks = drawn_labels(32, 32, seed=0)
    losses = fit_leaking(model, images, masks, labels, steps=40)
    assert losses[-1] < losses[0]
    changed = {n for n, v in model.state_dict().items() if not torch.equal(v, before[n])}
    assert changed <= {name for name in before if name.startswith("attended_head.")}

    others = torch.rand(32, 3, 32, 32)
    asked, places = drawn_labels(32, 32, seed=1)
    leaked = leaking_answers(model, others, places)
    assert metrics.auroc(leaked.defect_probability.numpy(), asked.numpy()) == 1
    assert metrics.point_game(leaked.attention[asked], places[asked]).mean() > 0.5
    with torch.no_grad():
        honest = model(model.preprocess(others)).defect_probability
    assert 0.2 < metrics.auroc(honest.numpy(), asked.numpy()) < 0.8


def test_a_prediction_takes_images_alone() -> None:
    assert list(inspect.signature(GAINMTL.forward).parameters) == ["self", "images"]
    with pytest.raises(ValueError, match="S3 to S6; got S1"):
        leaking_answers(
            GAINMTL("test_efficientnet", "S1", None, output_stride=4).eval(),
            torch.rand(1, 3, 32, 32),
            torch.zeros(1, 1, 32, 32),
        )
