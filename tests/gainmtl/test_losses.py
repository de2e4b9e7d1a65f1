"""Every loss term against hand-computed values, and which samples enter it."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from gainmtl import losses
from gainmtl.losses import LossWeights


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def maps(*rows: list[float]) -> torch.Tensor:
    """One (1, 1, 1, n) map per row, stacked to a batch."""
    return torch.tensor(rows)[:, None, None, :]


YES, NO = torch.tensor([True]), torch.tensor([False])


def test_focal_loss_by_hand() -> None:
    logits = torch.tensor([[0.0, logit(0.9)], [0.0, logit(0.3)]])
    # p of the true class: 0.9 (defective) and 0.7 (normal); balance 1 at alpha 0.5
    expected = (0.1**2 * -math.log(0.9) + 0.3**2 * -math.log(0.7)) / 2
    value = losses.focal_loss(logits, torch.tensor([1, 0]), gamma=2.0)
    assert float(value) == pytest.approx(expected)


def test_focal_loss_alpha_increases_the_weight_of_defects() -> None:
    logits = torch.zeros(1, 2)
    defective = losses.focal_loss(logits, torch.tensor([1]), gamma=2.0, alpha=0.75)
    normal = losses.focal_loss(logits, torch.tensor([0]), gamma=2.0, alpha=0.75)
    assert float(defective) == pytest.approx(1.5 * 0.25 * math.log(2))
    assert float(normal) == pytest.approx(0.5 * 0.25 * math.log(2))


@pytest.mark.parametrize("classes", [2, 4])
def test_focal_loss_at_gamma_zero_is_cross_entropy(classes: int) -> None:
    logits = torch.randn(20, classes, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(20) % classes
    torch.testing.assert_close(
        losses.focal_loss(logits, targets, gamma=0.0), functional.cross_entropy(logits, targets)
    )


def test_focal_loss_of_an_easy_sample_is_a_hundredth() -> None:
    logits, target = torch.tensor([[0.0, logit(0.9)]]), torch.tensor([1])
    ratio = losses.focal_loss(logits, target, gamma=2.0) / losses.focal_loss(
        logits, target, gamma=0.0
    )
    assert float(ratio) == pytest.approx(0.01)


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0])
def test_focal_loss_of_a_saturated_logit_has_a_finite_gradient(gamma: float) -> None:
    logits = torch.tensor([[0.0, 200.0], [200.0, 0.0]], requires_grad=True)
    losses.focal_loss(logits, torch.tensor([1, 1]), gamma).backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_pooled_mask_keeps_the_share_of_a_cell() -> None:
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., 0, 0] = 1
    pooled = losses.pooled_mask(mask, (2, 2))
    assert pooled.flatten().tolist() == [1 / 16, 0, 0, 0]


def test_dice_and_iou_by_hand() -> None:
    logits, targets = maps([logit(0.8), logit(0.4)]), maps([1.0, 0.0])
    # sum p t = 0.8, sum p = 1.2, sum t = 1
    assert float(losses.dice_loss(logits, targets)) == pytest.approx(1 - 2.6 / 3.2)
    assert float(losses.soft_iou_loss(logits, targets)) == pytest.approx(1 - 1.8 / 2.4)
    assert float(losses.dice_loss(logits, targets, smooth=0.0)) == pytest.approx(1 - 1.6 / 2.2)
    assert float(losses.soft_iou_loss(logits, targets, smooth=0.0)) == pytest.approx(1 - 0.8 / 1.4)


def test_dice_and_iou_of_a_perfect_map_are_zero() -> None:
    logits, targets = maps([100.0, -100.0, -100.0]), maps([1.0, 0.0, 0.0])
    assert float(losses.dice_loss(logits, targets)) == pytest.approx(0, abs=1e-6)
    assert float(losses.soft_iou_loss(logits, targets)) == pytest.approx(0, abs=1e-6)


def test_guidance_by_hand() -> None:
    logits, masks = maps([logit(0.8), logit(0.4)]), maps([1.0, 0.0])
    bce = -(math.log(0.8) + math.log(0.6)) / 2
    dice, iou = 1 - 2.6 / 3.2, 1 - 1.8 / 2.4
    value = losses.map_guidance_loss(logits, masks, YES, YES)
    assert float(value) == pytest.approx(bce + dice, rel=1e-5)
    value = losses.map_guidance_loss(logits, masks, YES, YES, iou=True)
    assert float(value) == pytest.approx(bce + dice + iou, rel=1e-5)


def test_guidance_of_a_normal_sample_is_bce_to_zero() -> None:
    """The term lowers the whole map instead of only making it flat."""
    logits = maps([logit(0.8), logit(0.4)]).requires_grad_()
    value = losses.map_guidance_loss(logits, torch.zeros(1, 1, 1, 2), NO, YES, iou=True)
    assert float(value.detach()) == pytest.approx(-(math.log(0.2) + math.log(0.6)) / 2, rel=1e-5)
    value.backward()
    assert logits.grad is not None
    assert (logits.grad > 0).all()


def test_guidance_pools_the_mask_to_the_map() -> None:
    masks = torch.zeros(1, 1, 4, 4)
    masks[..., :2, :2] = 1
    fine = losses.map_guidance_loss(torch.zeros(1, 1, 2, 2), masks, YES, YES)
    coarse = losses.map_guidance_loss(
        torch.zeros(1, 1, 2, 2), losses.pooled_mask(masks, (2, 2)), YES, YES
    )
    torch.testing.assert_close(fine, coarse)


DEFECTIVE = torch.tensor([False, True, True])
HAS_MASK = torch.tensor([True, True, False])
MASKS = maps([0.0, 0.0], [1.0, 0.0], [0.0, 0.0])


@pytest.mark.parametrize("iou", [False, True])
def test_an_unmasked_defective_enters_no_mask_loss(iou: bool) -> None:
    """The third sample has a zero mask because its mask is missing: its map has no effect."""
    logits = torch.randn(3, 1, 1, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    value = losses.map_guidance_loss(logits, MASKS, DEFECTIVE, HAS_MASK, iou)
    value.backward()
    assert logits.grad is not None
    assert float(logits.grad[2].abs().max()) == 0
    assert float(logits.grad[:2].abs().min()) > 0
    alone = losses.map_guidance_loss(logits[:2], MASKS[:2], DEFECTIVE[:2], HAS_MASK[:2], iou)
    torch.testing.assert_close(value, alone)


def test_a_batch_without_masks_has_loss_zero_and_a_gradient() -> None:
    logits = torch.ones(1, 1, 1, 2, requires_grad=True)
    value = losses.map_guidance_loss(logits, torch.zeros(1, 1, 1, 2), YES, NO, iou=True)
    value.backward()
    assert float(value.detach()) == 0
    assert logits.grad is not None
    assert float(logits.grad.abs().max()) == 0


def test_consistency_by_hand() -> None:
    attention, localization = maps([logit(0.8), logit(0.4)]), maps([logit(0.5), logit(0.6)])
    value = losses.consistency_loss(attention, localization, YES)
    assert float(value) == pytest.approx((0.3**2 + 0.2**2) / 2, rel=1e-5)
    assert float(losses.consistency_loss(attention, localization, NO)) == 0


def test_consistency_pools_the_finer_target_and_has_no_gradient_for_it() -> None:
    attention = torch.zeros(1, 1, 1, 1, requires_grad=True)
    teacher = torch.full((1, 1, 2, 2), logit(0.9)).requires_grad_()
    value = losses.consistency_loss(attention, teacher, YES)
    assert float(value.detach()) == pytest.approx(0.4**2, rel=1e-5)
    value.backward()
    assert attention.grad is not None
    assert float(attention.grad) < 0
    assert teacher.grad is None


def test_consistency_of_two_equal_saturated_maps_is_zero() -> None:
    assert float(losses.consistency_loss(maps([50.0]), maps([90.0]), YES)) == pytest.approx(0)


def test_mining_is_the_mean_defect_probability() -> None:
    logits = torch.tensor([[0.0, logit(0.9)], [0.0, logit(0.3)]])
    assert float(losses.mining_loss(logits)) == pytest.approx(0.6)
    three = torch.tensor([[0.0, 0.0, 0.0]])
    assert float(losses.mining_loss(three)) == pytest.approx(2 / 3)
    assert float(losses.mining_loss(logits[:0])) == 0


def test_counterfactual_by_hand() -> None:
    removed, kept = torch.tensor([[logit(0.8), 0.0]]), torch.tensor([[0.0, logit(0.6)]])
    value = losses.counterfactual_loss(removed, kept, torch.tensor([1]))
    assert float(value) == pytest.approx(-(math.log(0.8) + math.log(0.6)) / 2)
    nobody = torch.zeros(0, dtype=torch.long)
    assert float(losses.counterfactual_loss(removed[:0], kept[:0], nobody)) == 0


def test_counterfactual_penalises_a_constant_normal_output() -> None:
    logits = torch.tensor([[20.0, 0.0]])
    assert float(losses.counterfactual_loss(logits, logits, torch.tensor([1]))) > 5


def test_loss_weights() -> None:
    weights = LossWeights(classification=1, mining=0.5)
    assert weights.active() == ("classification", "mining")
    assert weights.asdict()["guidance"] == 0
    for value in (-0.1, math.nan, math.inf, "1"):
        with pytest.raises(ValueError, match="loss weight mining: expected a number >= 0"):
            LossWeights(mining=value)  # type: ignore[arg-type]
