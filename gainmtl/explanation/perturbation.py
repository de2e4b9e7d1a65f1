"""Score-CAM: each channel masks the image, and the score of the masked image is its weight."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from gainmtl.explanation.gradient import Explanation, Target, weighted_sum

Network = Callable[[Tensor], Tensor]
"""Images (B, 3, H, W), normalised, to logits (B, K)."""
SPAN_EPSILON = 1e-8


def channel_windows(maps: Tensor, size: tuple[int, int], align_corners: bool = False) -> Tensor:
    """Feature maps (M, 1, h, w) resized bilinearly to `size`, each scaled to [0, 1].

    `(U - min U) / (max U - min U + 1e-8)` of the resized map U; a constant map becomes 0.
    """
    resized = functional.interpolate(maps, size, mode="bilinear", align_corners=align_corners)
    low, high = resized.amin((1, 2, 3), keepdim=True), resized.amax((1, 2, 3), keepdim=True)
    scaled = (resized - low) / (high - low + SPAN_EPSILON)
    # Resizing a constant map leaves rounding errors, which the scaling would amplify to [0, 1].
    return scaled * (maps.amax((1, 2, 3), True) > maps.amin((1, 2, 3), True))


def score_cam(
    images: Tensor,
    features: Tensor,
    network: Network,
    target: Target | None = None,
    chunk: int = 32,
    align_corners: bool = False,
    create_graph: bool = False,
) -> Explanation:
    """Score-CAM: `sum_k w_k A_k`, `w = softmax_k(z(x * H_k) - z(0))`, H_k the channel's window.

    x is the normalised image, so masked pixels approach the mean colour. There is one forward pass
    for every channel of every image, in chunks over both, and one for the image of zeros. A
    constant channel has an empty window; its masked image is that image of zeros, so it needs no
    pass of its own.

    The softmax runs over the C channels and is shift-invariant, so z(0) does not change the map.
    The scale of z acts as an inverse temperature: with logits a few channels have almost all the
    weight; with probabilities, which differ by at most 1, the weights are almost equal. So the map
    depends on the choice of the target.

    Args:
        images: x (B, 3, H, W), normalised.
        features: A (B, C, h, w) of these images.
        network: images to logits (B, K), in `eval` mode.
        target: the score z; `None` is the evidence of class 1 against class 0.
        chunk: masked images per forward pass; it limits the memory and does not change the map.
        align_corners: of the resize; true in pytorch-grad-cam, false everywhere else here.
        create_graph: makes the map differentiable. The backward pass computes every chunk again, so
            the memory stays that of one chunk.

    Returns:
        `Explanation`; the weights of an image are positive and sum to 1.

    Raises:
        ValueError: shapes that don't fit, or a chunk below 1.

    Source: Wang et al., "Score-CAM", CVPR Workshops 2020, eqs. 4 to 6.
    """
    if features.ndim != 4 or images.ndim != 4 or len(features) != len(images):
        raise ValueError(
            "expected images (B, 3, H, W) and their features (B, C, h, w), got "
            f"{tuple(images.shape)} and {tuple(features.shape)}"
        )
    if chunk < 1:
        raise ValueError(f"chunk: expected at least one image per pass, got {chunk}")
    size = (images.shape[2], images.shape[3])
    score = target or Target()
    last = images.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if last else torch.contiguous_format

    def masked_scores(maps: Tensor, rows: Tensor) -> Tensor:
        masked = images[rows] * channel_windows(maps, size, align_corners)
        return score(network(masked.contiguous(memory_format=layout)), rows)

    with torch.set_grad_enabled(create_graph):
        cells = features.flatten(2)
        rows, channels = (cells.amax(2) > cells.amin(2)).nonzero(as_tuple=True)
        gains = features.new_zeros(features.shape[:2])
        # The logits are the same for every image, but the target's class may differ.
        zero_logits = network(torch.zeros_like(images[:1])).expand(len(images), -1)
        baseline = score(zero_logits)
        scores = []
        for start in range(0, len(rows), chunk):
            row, channel = rows[start : start + chunk], channels[start : start + chunk]
            maps = features[row, channel][:, None]
            if create_graph:
                scores.append(checkpoint(masked_scores, maps, row, use_reentrant=False))
            else:
                scores.append(masked_scores(maps, row))
        if scores:
            differences = (torch.cat(scores) - baseline[rows]).to(gains.dtype)
            gains = gains.index_put((rows, channels), differences)
        weights = gains.softmax(1)
        return Explanation(weighted_sum(weights, features), weights)
