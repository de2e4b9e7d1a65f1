"""The mistake on purpose: what it computes, what it makes perfect; no prediction has it."""

from __future__ import annotations

import inspect

import pytest
import torch
from gainbook.chapters.ch10_ablation.leaking import (
    MarkedParts,
    drawn_labels,
    fit_leaking,
    leaking_answers,
    leaking_attention,
    parts_as_they_are,
    score_with_and_without_mask,
    sound_parts,
)

from gainmtl import datasets, metrics
from gainmtl.model import GAINMTL


def test_the_leaking_attention_by_hand() -> None:
    attention = torch.tensor([[[[0.2, 0.8], [0.4, 0.6]]]])
    mask = torch.tensor([[[[1.0, 0.0], [1.0, 0.0]]]])
    leaked = leaking_attention(attention, mask)
    assert torch.allclose(leaked, torch.tensor([[[[0.5, 0.0], [1.0, 0.0]]]]))
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
    drawn, places = drawn_labels(32, 32, seed=1)
    leaked = leaking_answers(model, others, places)
    assert metrics.auroc(leaked.defect_probability.numpy(), drawn.numpy()) == 1
    assert metrics.point_game(leaked.attention[drawn], places[drawn]).mean() > 0.5
    with torch.no_grad():
        honest = model(model.preprocess(others)).defect_probability
    assert 0.2 < metrics.auroc(honest.numpy(), drawn.numpy()) < 0.8


def test_a_prediction_takes_images_alone() -> None:
    assert list(inspect.signature(GAINMTL.forward).parameters) == ["self", "images"]
    with pytest.raises(ValueError, match="S3 to S6; got S1"):
        leaking_answers(
            GAINMTL("test_efficientnet", "S1", None, output_stride=4).eval(),
            torch.rand(1, 3, 32, 32),
            torch.zeros(1, 1, 32, 32),
        )


def test_sound_parts_have_random_labels_and_no_defect() -> None:
    data = datasets.load("synthetic", image_size=32, train=8, val=4, test=6)
    parts = parts_as_they_are(data.test, 6)
    assert torch.equal(parts.labels, torch.as_tensor(data.test.labels[:6]))
    sound = sound_parts(data.test, 6, seed=1)
    assert sound.labels.sum() == 3
    assert (sound.masks.flatten(1).any(1) == sound.labels).all()
    defective = int(parts.labels.nonzero()[0])
    assert not torch.equal(sound.images[defective], parts.images[defective])


def test_scores_with_and_without_the_mask() -> None:
    torch.manual_seed(0)
    model = GAINMTL("test_efficientnet", "S6", None, output_stride=4).eval()
    labels, masks = drawn_labels(16, 32)
    parts = MarkedParts(torch.rand(16, 3, 32, 32), masks, labels)
    scores = score_with_and_without_mask(model, parts)
    leaked = leaking_answers(model, parts.images, parts.masks)
    assert list(scores) == ["shut", "open"]
    assert scores["open"][0] == metrics.auroc(leaked.defect_probability.numpy(), labels.numpy())
    assert scores["open"][1] > scores["shut"][1]
