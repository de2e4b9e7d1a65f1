"""The terms of the training loss, one pure function each, and their weights.

All take logits. Masks are area-pooled to the resolution of the map, so a target cell is the share
of its area that is defective: a defect smaller than a cell gives a small target, not 0. A term
without any sample returns 0 with a gradient of 0.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor
from torch.nn import functional

from gainmtl.metrics.sharpness import relative_spread, vanished


@dataclasses.dataclass(frozen=True)
class LossWeights:
    """One non-negative weight per term; a term of weight 0 is neither built nor computed."""

    classification: float = 0.0
    cam_guidance: float = 0.0
    attended_classification: float = 0.0
    guidance: float = 0.0
    mining: float = 0.0
    localization: float = 0.0
    consistency: float = 0.0
    counterfactual: float = 0.0
    fostering: float = 0.0
    attention_branch: float = 0.0

    def __post_init__(self) -> None:
        for name, value in self.asdict().items():
            if not (isinstance(value, int | float) and 0 <= value < float("inf")):
                raise ValueError(f"loss weight {name}: expected a number >= 0, got {value!r}")

    def asdict(self) -> dict[str, float]:
        """Term name to weight."""
        return dataclasses.asdict(self)

    def active(self) -> tuple[str, ...]:
        """The names of the terms with a positive weight."""
        return tuple(name for name, value in self.asdict().items() if value > 0)


def focal_loss(logits: Tensor, targets: Tensor, gamma: float = 1.0, alpha: float = 0.5) -> Tensor:
    """`mean_i 2 alpha_i (1 - p_i)^gamma (-log p_i)`, p_i the probability of the true class; scalar.

    logits (B, K), targets (B,) integer classes. `alpha_i` is `alpha` for the defective classes
    (targets > 0) and `1 - alpha` for normal; the factor 2 makes alpha = 0.5, gamma = 0 the plain
    cross-entropy. With alpha above 0.5 defects weigh more.

    Source: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017. Deviations: the factor
    2, and for K > 2 alpha applies to all defective classes alike.
    """
    log_p = functional.log_softmax(logits, dim=1).gather(1, targets[:, None])[:, 0]
    balance = torch.where(targets > 0, 2 * alpha, 2 * (1 - alpha))
    return -(balance * (1 - log_p.exp()).pow(gamma) * log_p).mean()


def pooled_mask(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Area-pool masks (B, 1, H, W) to (B, 1, *size): each cell's defective share, in [0, 1]."""
    return functional.adaptive_avg_pool2d(masks, size)


def dice_loss(logits: Tensor, targets: Tensor, smooth: float = 1.0) -> Tensor:
    """`1 - (2 sum p t + s) / (sum p + sum t + s)` per sample: (B, 1, h, w) twice to (B,).

    p is the sigmoid of the logits, t the target, s `smooth`, in cells: without it a defect of a
    fraction of a cell would cost as much as a large one.
    """
    p, t = torch.sigmoid(logits).flatten(1), targets.flatten(1)
    return 1 - (2 * (p * t).sum(1) + smooth) / (p.sum(1) + t.sum(1) + smooth)


def soft_iou_loss(logits: Tensor, targets: Tensor, smooth: float = 1.0) -> Tensor:
    """`1 - (I + s) / (U + s)`, `I = sum p t`, `U = sum p + sum t - I`; shapes as `dice_loss`."""
    p, t = torch.sigmoid(logits).flatten(1), targets.flatten(1)
    shared = (p * t).sum(1)
    return 1 - (shared + smooth) / (p.sum(1) + t.sum(1) - shared + smooth)


def _gated_mean(values: Tensor, gate: Tensor) -> Tensor:
    """Mean of (B,) values over the samples whose gate is true, 0 if there are none."""
    gate = gate.to(values.dtype)
    return (values * gate).sum() / gate.sum().clamp_min(1)


def map_guidance_loss(
    logits: Tensor,
    masks: Tensor,
    is_defective: Tensor,
    has_mask: Tensor,
    iou: bool = False,
    bce: bool = True,
    dice: bool = True,
) -> Tensor:
    """The sum of the chosen terms, BCE, Dice and soft IoU, of a map against the masks; scalar.

    logits (B, 1, h, w); masks (B, 1, H, W) are area-pooled to (h, w). BCE is the mean over all
    samples with a mask, which include the normal ones: their zero mask suppresses the map. Dice and
    IoU are means over the defective samples with a mask. A defective sample without a mask enters
    none of them.
    """
    targets = pooled_mask(masks, (logits.shape[2], logits.shape[3]))
    marked = is_defective & has_mask
    loss = logits.sum() * 0
    if bce:
        cells = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        loss = loss + _gated_mean(cells.flatten(1).mean(1), has_mask)
    if dice:
        loss = loss + _gated_mean(dice_loss(logits, targets), marked)
    if iou:
        loss = loss + _gated_mean(soft_iou_loss(logits, targets), marked)
    return loss


def consistency_loss(attention: Tensor, localization: Tensor, is_defective: Tensor) -> Tensor:
    """Mean squared difference of the two maps as probabilities, on defective samples; scalar.

    Both (B, 1, h, w) logits; a finer localization is area-pooled to the attention's grid.
    Probabilities and not logits are compared, so that two saturated maps that agree cost nothing.
    The localization is the target, so the gradient does not reach it.
    """
    size = (attention.shape[2], attention.shape[3])
    target = functional.adaptive_avg_pool2d(torch.sigmoid(localization), size).detach()
    squared = (torch.sigmoid(attention) - target).square().flatten(1).mean(1)
    return _gated_mean(squared, is_defective)


def mining_loss(erased_logits: Tensor) -> Tensor:
    """GAIN's attention mining: mean defect probability after erasing the map's soft mask; scalar.

    erased_logits (b, K), of defective images only; the loss is in [0, 1].

    Source: Li et al., CVPR 2018, eq. 5. Deviation: the probability instead of the logit, which has
    no lower bound.
    """
    if not len(erased_logits):
        return erased_logits.sum()
    return (1 - erased_logits.softmax(1)[:, 0]).mean()


def counterfactual_loss(removed_logits: Tensor, kept_logits: Tensor, targets: Tensor) -> Tensor:
    """`(CE(removed, normal) + CE(kept, y)) / 2`; scalar.

    The logits (b, K) are those of the deciding head for features without the defect and for
    features with the defect alone; targets y (b,) are the true classes of these defective samples.
    """
    if not len(removed_logits):
        return removed_logits.sum() + kept_logits.sum()
    removed = functional.cross_entropy(removed_logits, torch.zeros_like(targets))
    return 0.5 * (removed + functional.cross_entropy(kept_logits, targets))


def fostering_loss(
    maps: Tensor, fostered: Tensor, measure: str = "ce", certainty: Tensor | None = None
) -> Tensor:
    """Mean weighted `relative_spread` of the maps of the samples `fostered` (B,) bool; scalar.

    `mean_i min(h_i, 1) c_i spread(M_i)` over fostered maps M_i (B, 1, h, w), in logits, with a
    positive cell. h_i is the mean of the map's positive cells and c_i its `certainty` (B,) in
    [0, 1], see `gainmtl.fostering.certainty`; both are constants in the gradient. The spread does
    not change with the scale of a map, so without h_i its gradient would grow without bound as a
    map approaches 0. A map without a positive cell has no spread and no gradient here; only other
    terms can raise it again.

    Source: Schöttl, Procedia Computer Science, 2022. Deviations: the factors h_i and c_i, and the
    spread relative to that of a uniform map, so that a weight has the same effect on every grid.
    """
    alive = fostered & ~vanished(maps)
    spread = relative_spread(maps, measure)
    positive = maps.detach().relu().flatten(1).to(spread.dtype)
    height = positive.sum(1) / (positive > 0).sum(1).clamp_min(1)
    counted = spread * height.clamp(max=1)
    if certainty is not None:
        counted = counted * certainty.detach().to(spread.dtype)
    return _gated_mean(counted.where(alive, torch.zeros_like(counted)), alive)
