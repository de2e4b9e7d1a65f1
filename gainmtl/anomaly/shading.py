"""Even light: what a lamp, an exposure and a tile's own tone add to a picture, taken out."""

from __future__ import annotations

from torch import Tensor

from gainmtl.anomaly.smoothing import smoothing_matrix
from gainmtl.precision import exact, full

FLOOR = 0.05
"""Added to the local mean, so that a black border is not divided by nothing, and to the spread, so
that a picture without contrast does not become one of noise."""
MIDDLE, SPREAD = 0.45, 0.18
"""Mean that pictures are given, and the standard deviation that theirs comes near to; it stays
below, the more so the fainter the picture, since FLOOR is added to what divides."""


def flat_field(images: Tensor, sigma: float) -> Tensor:
    """Images (B, 3, H, W) in [0, 1] under even light, in [0, 1].

    r = x / (G x̄ + FLOOR) with x̄ the mean over the channels and G a Gaussian of `sigma` times the
    side, reflected at the border; then (r - mean r) / (std r + FLOOR), per image, is brought to
    MIDDLE and SPREAD and cut at 0 and 1. An exposure, x to a x, changes nothing but what FLOOR
    holds back. At each pixel the channels keep their order. Half precision comes back as single.

    It is the shading correction of microscopy with the picture as its own reference, so what is
    larger than the Gaussian is taken out too, defects included.
    """
    with exact(images):
        images = full(images)
        down, across = (smoothing_matrix(n, n, sigma * n).to(images) for n in images.shape[2:])
        light = down @ images.mean(1, keepdim=True) @ across.T
        ratio = images / (light + FLOOR)
        middle = ratio.mean((1, 2, 3), keepdim=True)
        spread = ratio.std((1, 2, 3), correction=0, keepdim=True)
        return (MIDDLE + SPREAD * (ratio - middle) / (spread + FLOOR)).clamp(0, 1)
