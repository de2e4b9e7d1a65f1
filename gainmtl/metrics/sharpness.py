"""Sharpness of a map: differentiable measures of its shape, without a mask or an image.

All take `maps` (B, 1, h, w), unbounded, and return (B,) in the map's floating type, at least
float32. A map is treated as a spatial probability,

    `p_i = M_i / sum_j M_j`, `M = relu(map)`, over its n = h w cells,

so the measures are invariant to scale but not to shift. For a map without a positive cell
("vanished") they are NaN, with a gradient of 0.

ce and cd are one family: with Rényi's entropies `H_1 = ce` and `H_2 = -ln sum p^2`, cd is
`n exp(-H_2) - 1`. Since `H_2 <= H_1`, `cd >= n exp(-ce) - 1`: a map of low entropy has a high
dispersion. Both are independent of the cells' positions; of the four measures only ca uses them.

Source: Schöttl, "Improving the Interpretability of GradCAMs in Deep Classification Networks",
Procedia Computer Science, 2022. It defines ce, ca and cd, and gives only values of the relative
difference. Deviations are noted at each measure.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def cam_entropy(maps: Tensor) -> Tensor:
    """ce = `-sum_i p_i ln p_i` with `0 ln 0 = 0`, (B,) in [0, ln n] nats; low is sharp.

    0 for one cell, ln n for equal cells; `exp(ce)` is the number of equal cells of that entropy.
    """
    p, has_mass = spatial_probability(maps)
    # The logarithm of 1 where p is 0, because the gradient of ln 0 is not finite.
    logarithm = p.where(p > 0, torch.ones_like(p)).log()
    return _defined(-(p * logarithm).flatten(1).sum(1), has_mass)


def cam_elliptic_area(maps: Tensor) -> Tensor:
    """ca = `sqrt(l1 l2)`, eigenvalues of the covariance of the cells' positions under p, (B,).

    Positions are cell centres in the unit square, so ca does not depend on the grid. In [0, 1/4),
    about 1/12 for equal cells; low is compact. Computed as `sqrt(det)`, without eigenvalues. It is
    0 for cells on one straight line, for a long scratch as for a dot. The gradient at 0, where the
    root has none, is 0.

    The paper does not define the weights of the positions, nor their unit.
    """
    p, has_mass = spatial_probability(maps)
    rows, columns = (
        (torch.arange(size, dtype=p.dtype, device=p.device) + 0.5) / size for size in p.shape[2:]
    )
    by_row, by_column = p.sum((1, 3)), p.sum((1, 2))
    y = rows - (by_row * rows).sum(1, keepdim=True)
    x = columns - (by_column * columns).sum(1, keepdim=True)
    covariance = torch.einsum("bhw,bh,bw->b", p[:, 0], y, x)
    variances = (by_row * y.square()).sum(1) * (by_column * x.square()).sum(1)
    determinant = variances - covariance.square()
    # For cells on a line the determinant is 0 up to rounding errors of this size.
    positive = determinant > 16 * torch.finfo(p.dtype).eps * variances
    root = determinant.where(positive, torch.ones_like(determinant)).sqrt()
    return _defined(root.where(positive, torch.zeros_like(root)), has_mass)


def cam_dispersion(maps: Tensor) -> Tensor:
    """cd = `var(M) / mean(M)^2` over the cells, (B,) in [0, n - 1]; high is sharp.

    With the population variance this is `n sum p^2 - 1`: 0 for equal cells, n - 1 for one cell. It
    grows with the number of cells, so compare only maps of one grid. The paper adds an unstated
    epsilon to the denominator; here a map without mass is NaN instead.
    """
    p, has_mass = spatial_probability(maps)
    cells = p.shape[1:].numel()
    return _defined(cells * p.square().flatten(1).sum(1) - 1, has_mass)


def cam_relative_difference(maps: Tensor) -> Tensor:
    """`(a - b) / b`, a and b the means of M over the cells above, and not above, its mean; (B,).

    In [0, inf]: 0 for equal cells, infinite if all cells not above the mean are 0, as often after
    a ReLU. For such maps use medians or `cam_contrast`, not means.

    The paper gives 33 % and 114 % without a formula; the mean as threshold is our interpretation.
    """
    a, b, has_mass = _active_and_rest(maps)
    safe = b.where(b > 0, torch.ones_like(b))
    ratio = ((a - b) / safe).where(b > 0, torch.full_like(b, math.inf))
    return _defined(ratio.where(a > b, torch.zeros_like(b)), has_mass)


def cam_contrast(maps: Tensor) -> Tensor:
    """`(a - b) / (a + b)` of the same means, (B,) in [0, 1]: bounded, unlike the difference r.

    It is `r / (2 + r)`, and 1 if r is infinite.
    """
    a, b, has_mass = _active_and_rest(maps)
    total = (a + b).where(has_mass, torch.ones_like(a))
    return _defined((a - b) / total, has_mass)


SPREADS = ("ce", "ca", "cd")
"""The measures of `relative_spread`."""


def relative_spread(maps: Tensor, measure: str = "ce") -> Tensor:
    """Spread of a map, (B,): 0 for one cell, 1 for equal cells, on every grid.

    - `"ce"`: `H_1 / ln n = ce / ln n`, in [0, 1].
    - `"cd"`: `H_2 / ln n = 1 - ln(1 + cd) / ln n`, in [0, 1]: the dispersion on the scale of the
      entropy, with the opposite sign.
    - `"ca"`: ca divided by that of equal cells, in [0, 3).

    The paper's loss is `beta ce`; a weight `w` of `ce / ln n` here is its `beta = w / ln n`.

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
    """(B,) bool: maps without a positive cell, for which all measures here are NaN."""
    return ~(maps > 0).flatten(1).any(1)


def spatial_probability(maps: Tensor) -> tuple[Tensor, Tensor]:
    """p (B, 1, h, w) in [0, 1] with sum 1, all 0 if the map vanished; and (B,) bool: has mass."""
    if maps.ndim != 4 or maps.shape[1] != 1:
        raise ValueError(f"maps must be (B, 1, h, w), found {tuple(maps.shape)}")
    # In half precision sums over a thousand cells are wrong in the third digit.
    positive = (maps if maps.dtype == torch.float64 else maps.float()).relu()
    # Divide by the maximum first, so that the sum of tiny or huge values is neither 0 nor infinite.
    highest = positive.detach().amax((1, 2, 3), keepdim=True)
    positive = positive / highest.where(highest > 0, torch.ones_like(highest))
    total = positive.sum((1, 2, 3), keepdim=True)
    has_mass = total > 0
    return positive / total.where(has_mass, torch.ones_like(total)), has_mass[:, 0, 0, 0]


def _active_and_rest(maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Means of p over the cells above its mean and over the others, (B,); and (B,) has mass."""
    p, has_mass = spatial_probability(maps)
    cells = p.flatten(1)
    middle = cells.mean(1, keepdim=True)
    # With the tolerance, cells that differ only by rounding are equal.
    active = (cells > middle * (1 + 1e-5)).to(cells.dtype)
    count = active.sum(1)
    rest = (cells * (1 - active)).sum(1) / (cells.shape[1] - count).clamp_min(1)
    above = (cells * active).sum(1) / count.clamp_min(1)
    return above.where(count > 0, rest), rest, has_mass


def _defined(values: Tensor, has_mass: Tensor) -> Tensor:
    return values.where(has_mass, torch.full_like(values, torch.nan))
