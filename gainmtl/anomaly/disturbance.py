"""Pictures disturbed on purpose, for a student that is to give back the undisturbed ones.

Nothing of a real defect is in it: patches and streaks of any size and angle, cut out of smooth
noise, whose content comes from other normal pictures, from the picture's own light, or from grain.
After the idea of Zavrtanik, Kristan and Skočaj, "DRAEM", ICCV 2021, that noise makes shapes enough.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

CELLS = (2, 3, 4, 6, 8, 12, 16, 24)
"""Cells, in either direction of one and a half sides, that smooth noise is drawn on: the fewer, the
larger its patches."""
STRETCHES = (0.25, 0.5, 1.0, 1.0, 2.0)
"""How many times as many cells the other direction has: 1 gives patches, the others streaks."""
AREA = 0.15
"""Largest share of the picture that is disturbed."""
OPACITY = (0.1, 1.0)
"""Least and largest share of the content that shows."""
LIGHT = 0.7
"""Largest relative change of the picture's own light."""
OFFSET = 0.3
"""Largest change of the brightness of another picture's content."""
GRAIN = 0.2
"""Standard deviation of added grain."""


def noise_region(size: int, generator: torch.Generator | None = None) -> Tensor:
    """(1, size, size), 0 or 1: where smooth noise is highest, up to `AREA` of the picture.

    Noise on a coarse grid, enlarged, turned by any angle, plus a broader one, so that what is
    highest tends to lie together.
    """
    draw = torch.rand(4, generator=generator).tolist()
    across = CELLS[int(draw[0] * len(CELLS))]
    down = min(max(CELLS), max(2, round(across * STRETCHES[int(draw[1] * len(STRETCHES))])))
    fine = torch.randn(1, 1, across + 2, down + 2, generator=generator)
    broad = torch.randn(1, 1, 5, 5, generator=generator)
    # Half as large again, so that a turned window has noise in every corner.
    fine = F.interpolate(fine, (size * 3 // 2,) * 2, mode="bicubic", align_corners=True)
    angle = draw[2] * math.pi
    cos, sin = (2 / 3 * value for value in (math.cos(angle), math.sin(angle)))
    turn = torch.tensor([[[cos, -sin, 0.0], [sin, cos, 0.0]]])
    places = F.affine_grid(turn, [1, 1, size, size], align_corners=False)
    fine = F.grid_sample(fine, places, padding_mode="reflection", align_corners=False)
    broad = F.interpolate(broad, (size, size), mode="bicubic", align_corners=True)
    height = (fine + 0.8 * broad)[0]
    return (height > height.flatten().quantile(1 - AREA * draw[3])).float()


def disturb(images: Tensor, share: float, generator: torch.Generator | None = None) -> Tensor:
    """Images (B, 3, H, H) in [0, 1], each with probability `share` disturbed in one region.

    x' = (1 - a m) x + a m c, with the region m averaged over 3 x 3 pixels, an opacity a and a
    content c: the next image of the batch, turned by a right angle, brighter or darker; or x
    itself, brighter or darker; one in four of them with grain. Alone in its batch an image lends
    itself its content. All that is random comes from the CPU `generator`, or from torch's own.

    Raises:
        ValueError: images that are not square.
    """
    count, _, height, width = images.shape
    if height != width:
        raise ValueError(f"disturb: expected square images, found {height} x {width}")

    def rand() -> Tensor:
        return torch.rand(count, 1, 1, 1, generator=generator).to(images)

    regions = torch.stack([noise_region(height, generator) for _ in range(count)]).to(images)
    regions = F.avg_pool2d(regions, 3, 1, 1, count_include_pad=False) * (rand() < share)
    other = images.roll(1, 0).rot90(1, (2, 3))
    shift = 2 * rand() - 1
    content = torch.where(rand() < 0.5, other + OFFSET * shift, images * (1 + LIGHT * shift))
    grain = torch.randn(count, 1, height, width, generator=generator).to(images)
    content = content + GRAIN * grain * (rand() < 0.25)
    low, high = OPACITY
    opacity = (low + (high - low) * rand()) * regions
    return (1 - opacity) * images + opacity * content.clamp(0, 1)
