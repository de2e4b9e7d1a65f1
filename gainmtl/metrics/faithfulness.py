"""Does the score hang on what the map marks? Delete it, insert it, and ask again.

`ask` gives a score (B,) for images (B, 3, H, W), most often the probability of the verdict.
`maps` (B, 1, h, w) are resized to the images bilinearly and used as an order of the pixels only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.transforms.functional import gaussian_blur

Ask = Callable[[Tensor], Tensor]
BLUR = 5 / 224
"""Standard deviation of the insertion's blur over the image's side, as in RISE."""


class Curve(NamedTuple):
    """Scores along the way."""

    share: Tensor
    """(S + 1,) share of the pixels changed, from 0 to 1."""
    scores: Tensor
    """(B, S + 1) float64."""

    @property
    def area(self) -> Tensor:
        """(B,) area under the curve by trapezoids, in the units of the score."""
        return torch.trapezoid(self.scores, self.share, dim=1)


def pixel_ranks(maps: Tensor, size: tuple[int, int], seed: int = 0) -> Tensor:
    """(B, 1, H, W) int64: 0 for the pixel that the map marks most, and so on.

    Equal pixels come in a random order, the same for every map of that size: a map that is 0 over
    half of the image has said nothing about it, and reading order would.
    """
    if maps.ndim != 4 or maps.shape[1] != 1:
        raise ValueError(f"maps must be (B, 1, h, w), found {tuple(maps.shape)}")
    if not bool(torch.isfinite(maps).all()):
        raise ValueError("maps must be finite, found NaN or infinity; look for a diverged training")
    values = maps.detach().float()
    if tuple(maps.shape[2:]) != tuple(size):
        # On the CPU in float64: rounding of the weights would break ties between equal cells.
        exact = functional.interpolate(values.cpu().double(), size, mode="bilinear")
        values = exact.float().to(maps.device)
    flat = values.flatten(1)
    shuffle = torch.randperm(flat.shape[1], generator=torch.Generator().manual_seed(seed))
    shuffle = shuffle.to(flat.device)
    order = shuffle[flat[:, shuffle].argsort(dim=1, descending=True, stable=True)]
    ranks = torch.empty_like(order)
    places = torch.arange(flat.shape[1], device=flat.device).expand_as(order)
    return ranks.scatter_(1, order, places).view(len(maps), 1, *size)


def deletion_curve(ask: Ask, images: Tensor, maps: Tensor, steps: int = 20) -> Curve:
    """Scores while the marked pixels are painted in the image's mean colour, most marked first.

    A small area says that the score hung on them. Images that nobody would take for a part are
    asked about on the way, and what the network says of those is part of the figure.

    Source: Petsiuk, Das and Saenko, "RISE", BMVC 2018. Deviation: the mean colour instead of
    black, and ties in random order.
    """
    empty = images.mean((2, 3), keepdim=True).expand_as(images)
    return _curve(ask, empty, images, maps, steps)


def insertion_curve(ask: Ask, images: Tensor, maps: Tensor, steps: int = 20) -> Curve:
    """Scores while a blurred image gets its pixels back, most marked first.

    A large area says that they suffice. A defect that survives the blur is there from the start.
    Source and deviation as in `deletion_curve`; the blur is RISE's, relative to the side.
    """
    sigma = BLUR * min(images.shape[2:])
    reach = max(1, round(2 * sigma))
    blurred = gaussian_blur(images, [2 * reach + 1] * 2, [sigma, sigma])
    return _curve(ask, images, blurred, maps, steps)


@torch.no_grad()
def _curve(ask: Ask, new: Tensor, old: Tensor, maps: Tensor, steps: int) -> Curve:
    """Scores of `old` while its pixels are replaced by `new`, most marked first."""
    if len(maps) != len(old) or steps < 1:
        raise ValueError(
            f"expected a map for each of {len(old)} images and at least one step, found "
            f"{len(maps)} maps and {steps} steps"
        )
    size = (old.shape[2], old.shape[3])
    ranks = pixel_ranks(maps, size).to(old.device)
    share = torch.arange(steps + 1, dtype=torch.float64) / steps
    scores = [
        ask(torch.where(ranks < round(float(s) * size[0] * size[1]), new, old)).cpu().double()
        for s in share
    ]
    return Curve(share, torch.stack(scores, dim=1))
