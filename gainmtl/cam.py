"""Class activation maps: the map whose pooled value decides, and GAIN's soft mask.

The decision is a function of the map alone. With features F (B, C, h, w) and a linear head (W, b),
the class activation map is `A_k = sum_c W[k, c] F_c` and the evidence of class k against class 0
(normal) is `E_k = A_k - A_0`. A pooling P turns evidence into the logit difference,
`logit_k - logit_0 = P(E_k) + b_k - b_0`. With P the mean this is the usual linear classifier on
globally averaged features (Zhou et al., CVPR 2016); with the other poolings a single cell can
decide.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

Pooling = Literal["mean", "lse", "topk"]
POOLINGS: tuple[str, ...] = get_args(Pooling)
LSE_SHARPNESS = 4.0
TOPK_SHARE = 0.01


def check_pooling(pooling: str) -> None:
    """Raise `ValueError` unless `pooling` is one of `POOLINGS`, or `lse:` and its r."""
    if pooling not in POOLINGS and _sharpness(pooling) is None:
        raise ValueError(
            f"pooling: expected one of {', '.join(POOLINGS)}, or as lse:1 with another r > 0, got "
            f"{pooling!r}"
        )


def _sharpness(pooling: str) -> float | None:
    """The r of log-sum-exp pooling; `None` for another pooling."""
    name, _, r = str(pooling).partition(":")
    if name != "lse":
        return None
    if pooling == "lse":
        return LSE_SHARPNESS
    try:
        sharpness = float(r)
    except ValueError:
        return None
    return sharpness if 0 < sharpness < math.inf else None


def class_activation_map(features: Tensor, weight: Tensor) -> Tensor:
    """`A_k = sum_c W[k, c] F_c`: (B, C, h, w) and (K, C) to (B, K, h, w), raw and unbounded.

    Source: Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016.
    """
    return functional.conv2d(features, weight[:, :, None, None])


def pool_evidence(evidence: Tensor, pooling: str = "mean") -> Tensor:
    """Pool maps (B, K, h, w) over their N = h w cells to (B, K).

    - `"mean"`: `1/N sum_i E_i`, as in the original CAM.
    - `"lse"`: `1/r log(1/N sum_i exp(r E_i))` with r = 4, between mean and maximum (Pinheiro and
      Collobert, CVPR 2015). `"lse:1"` has r = 1: the smaller r, the closer to the mean.
    - `"topk"`: mean of the highest 1 % of cells, at least one.

    All three give c for a constant map c, and `P(E + c) = P(E) + c`.

    Raises:
        ValueError: unknown pooling.
    """
    check_pooling(pooling)
    cells = evidence.flatten(2)
    if pooling == "mean":
        return cells.mean(2)
    r = _sharpness(pooling)
    if r is not None:
        return (torch.logsumexp(r * cells, dim=2) - math.log(cells.shape[2])) / r
    count = max(1, round(TOPK_SHARE * cells.shape[2]))
    return cells.topk(count, dim=2).values.mean(2)


def soft_mask(evidence: Tensor, threshold: float = 0.5, sharpness: float = 10.0) -> Tensor:
    """GAIN's soft mask `T(A) = sigmoid(sharpness (A - threshold))`, (B, 1, h, w) in (0, 1).

    A is the positive evidence divided by its own maximum, so A is in [0, 1]; the maximum is a
    constant in the gradient. An image without positive evidence has A = 0 everywhere. The paper
    gives no values of the two parameters; with 0.5 and 10 the gradient is not negligible on either
    side of the threshold.

    Source: Li et al., "Tell Me Where to Look: Guided Attention Inference Network", CVPR 2018,
    eq. 4.
    """
    positive = evidence.relu()
    highest = positive.detach().amax(dim=(2, 3), keepdim=True).clamp_min(1e-6)
    return torch.sigmoid(sharpness * (positive / highest - threshold))


def erase(images: Tensor, soft: Tensor, fill: Tensor | None = None) -> Tensor:
    """GAIN's erased image `I* = (1 - T) I + T fill`, (B, C, H, W).

    The paper's `I - T I` is `fill = 0`: black, or the mean colour if the image is normalised. A
    black hole in a bright part looks like a defect. The default fill is each image's own mean per
    channel, which gives the same image before and after normalisation.

    Args:
        images: (B, C, H, W), normalised or not.
        soft: the soft mask T (B, 1, h, w) in [0, 1], resized bilinearly to the images.
        fill: a tensor that broadcasts to `images`.

    Source: Li et al., CVPR 2018, eq. 3. Deviation: the fill.
    """
    if fill is None:
        fill = images.mean((2, 3), keepdim=True)
    covered = resize_map(soft, (images.shape[2], images.shape[3]))
    return torch.lerp(images, fill.expand_as(images), covered)


def resize_map(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize maps (B, K, h, w) bilinearly to (B, K, *size)."""
    if tuple(maps.shape[2:]) == tuple(size):
        return maps
    return functional.interpolate(maps, size=size, mode="bilinear", align_corners=False)
