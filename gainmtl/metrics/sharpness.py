"""How sharp is a map? Measures of its shape alone: no mask, no image, and a gradient.

All take `maps` (B, 1, h, w), unbounded, and return (B,) in the map's floating type, float32 at
least. A map is read as a spatial probability,

    `p_i = M_i / sum_j M_j`, `M = relu(map)`, over its n = h w cells,

so a scale of the map changes nothing and a shift does. A map without a positive cell (vanished)
has no probability and scores NaN, with a gradient of 0.

ce and cd are one family: with Rényi's entropies `H_1 = ce` and `H_2 = -ln sum p^2`, cd is
`n exp(-H_2) - 1`. Since `H_2 <= H_1`, `cd >= n exp(-ce) - 1`: a map of low entropy has a high
dispersion, whatever it shows. Neither knows where cells lie; of the four only ca does.

Source: Schöttl, "Improving the Interpretability of GradCAMs in Deep Classification Networks",
Procedia Computer Science, 2022, which gives ce, ca and cd, and of the relative difference only
figures. Deviations are said where they are.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def cam_entropy(maps: Tensor) -> Tensor:
    """ce = `-sum_i p_i ln p_i` with `0 ln 0 = 0`, (B,) in [0, ln n] nats; low is sharp.

    0 for one cell, ln n for even cells; `exp(ce)` is the number of even cells of that entropy.
    """
    p, alive = spatial_probability(maps)
    logarithm = p.where(p > 0, torch.ones_like(p)).log()  # of 1 at 0, or the gradient were NaN
    return _defined(-(p * logarithm).flatten(1).sum(1), alive)


def cam_elliptic_area(maps: Tensor) -> Tensor:
    """ca = `sqrt(l1 l2)`, the eigenvalues of the covariance of the cells' places under p, (B,).

    Places are cell centres in the unit square, so the figure does not depend on the grid; in
    [0, 1/4), about 1/12 for even cells, low is compact. Computed as `sqrt(det)`, which needs no
    eigenvalues. Anything on one straight line scores 0, a long scratch as well as a dot; where the
    root has no slope, at 0, the gradient is 0.

    The paper does not say what weighs the places, nor their unit.
    """
    p, alive = spatial_probability(maps)
    rows, columns = (
        (torch.arange(size, dtype=p.dtype, device=p.device) + 0.5) / size for size in p.shape[2:]
    )
    by_row, by_column = p.sum((1, 3)), p.sum((1, 2))
    y = rows - (by_row * rows).sum(1, keepdim=True)
    x = columns - (by_column * columns).sum(1, keepdim=True)
    shared = torch.einsum("bhw,bh,bw->b", p[:, 0], y, x)
    apart = (by_row * y.square()).sum(1) * (by_column * x.square()).sum(1)
    determinant = apart - shared.square()
    # Rounding leaves a determinant of that size where the true one, of a line, is 0.
    steep = determinant > 16 * torch.finfo(p.dtype).eps * apart
    root = determinant.where(steep, torch.ones_like(determinant)).sqrt()
    return _defined(root.where(steep, torch.zeros_like(root)), alive)


def cam_dispersion(maps: Tensor) -> Tensor:
    """cd = `var(M) / mean(M)^2` over the cells, (B,) in [0, n - 1]; high is sharp.

    With the population variance this is `n sum p^2 - 1`: 0 for even cells, n - 1 for one cell. It
    grows with the grid: only figures of one grid compare. The paper adds an unstated epsilon to
    the denominator; a map without mass is NaN here instead.
    """
    p, alive = spatial_probability(maps)
    cells = p[0].numel()
    return _defined(cells * p.square().flatten(1).sum(1) - 1, alive)


def cam_relative_difference(maps: Tensor) -> Tensor:
    """`(a - b) / b`, a and b the mean of M over the cells above, and not above, its mean; (B,).

    In [0, inf]: 0 for even cells, infinite where everything outside the active region is 0, which
    maps after a ReLU often have; medians and `cam_contrast` can be told of such maps, means not.

    The paper gives 33 % and 114 % without a formula; the mean as threshold is our reading.
    """
    a, b, alive = _active_and_rest(maps)
    safe = b.where(b > 0, torch.ones_like(b))
    ratio = ((a - b) / safe).where(b > 0, torch.full_like(b, math.inf))
    return _defined(ratio.where(a > b, torch.zeros_like(b)), alive)


def cam_contrast(maps: Tensor) -> Tensor:
    """`(a - b) / (a + b)` of the same means, (B,) in [0, 1]: the relative difference r, bounded.

    It is `r / (2 + r)`, 1 where r is infinite.
    """
    a, b, alive = _active_and_rest(maps)
    total = (a + b).where(alive, torch.ones_like(a))
    return _defined((a - b) / total, alive)


SPREADS = ("ce", "ca", "cd")
"""What `relative_spread` can measure."""


def relative_spread(maps: Tensor, measure: str = "ce") -> Tensor:
    """How spread out a map is, (B,): 0 for one cell, 1 for even cells, on every grid.

    - `"ce"`: `H_1 / ln n = ce / ln n`, in [0, 1].
    - `"cd"`: `H_2 / ln n = 1 - ln(1 + cd) / ln n`, in [0, 1]: the dispersion turned over and
      brought to the scale of the entropy.
    - `"ca"`: ca over that of even cells, in [0, 3).

    The paper's loss is `beta ce`; with `beta' ce / ln n` its beta is `beta' / ln n`.

    Raises:
        ValueError: an unknown measure, or a grid of fewer than 2 x 2 cells.
    """
    if measure not in SPREADS:
        raise ValueError(f"measure: expected one of {', '.join(SPREADS)}, got {measure!r}")
    height, width = maps.shape[-2:]
    if min(height, width) < 2:
        raise ValueError(
            f"maps: expected at least 2 x 2 cells, got {height} x {width}; use larger images or a "
            "finer output_stride"
        )
    if measure == "ce":
        return cam_entropy(maps) / math.log(height * width)
    if measure == "cd":
        return 1 - cam_dispersion(maps).log1p() / math.log(height * width)
    even = math.sqrt((1 - 1 / height**2) * (1 - 1 / width**2)) / 12
    return cam_elliptic_area(maps) / even


def vanished(maps: Tensor) -> Tensor:
    """(B,) bool: maps without a positive cell, of which no measure here says anything."""
    return ~(maps > 0).flatten(1).any(1)


def spatial_probability(maps: Tensor) -> tuple[Tensor, Tensor]:
    """p (B, 1, h, w) in [0, 1] with sum 1, all zero where the map vanished; and (B,) where not."""
    if maps.ndim != 4 or maps.shape[1] != 1:
        raise ValueError(f"maps must be (B, 1, h, w), found {tuple(maps.shape)}")
    # Sums over a thousand cells in half precision would be off in the third figure.
    positive = (maps if maps.dtype == torch.float64 else maps.float()).relu()
    # Over the maximum first, so that a sum of tiny or huge values is neither 0 nor infinite.
    highest = positive.detach().amax((1, 2, 3), keepdim=True)
    positive = positive / highest.where(highest > 0, torch.ones_like(highest))
    total = positive.sum((1, 2, 3), keepdim=True)
    alive = total > 0
    return positive / total.where(alive, torch.ones_like(total)), alive[:, 0, 0, 0]


def _active_and_rest(maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean of p over the cells above its mean and over the others, (B,); even cells: both equal."""
    p, alive = spatial_probability(maps)
    cells = p.flatten(1)
    middle = cells.mean(1, keepdim=True)
    # Cells that differ by rounding alone are even.
    active = (cells > middle * (1 + 1e-5)).to(cells.dtype)
    count = active.sum(1)
    rest = (cells * (1 - active)).sum(1) / (cells.shape[1] - count).clamp_min(1)
    above = (cells * active).sum(1) / count.clamp_min(1)
    return above.where(count > 0, rest), rest, alive


def _defined(values: Tensor, alive: Tensor) -> Tensor:
    return values.where(alive, torch.full_like(values, torch.nan))
