"""Synthetic disturbances of normal images, for a student that learns to undo them.

They contain no real defects: patches and streaks of random size and angle, cut out of smooth noise
and filled with another normal image, a change of brightness, or grain. After the shapes from noise
of Zavrtanik, Kristan and Skočaj, "DRAEM", ICCV 2021.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

CELLS = (2, 3, 4, 6, 8, 12, 16, 24)
"""Numbers of cells of the noise grid, along 1.5 image sides; fewer cells give larger patches."""
STRETCHES = (0.25, 0.5, 1.0, 1.0, 2.0)
"""Factors on the number of cells of the other axis: 1 gives patches, other values streaks."""
AREA = 0.15
"""Largest share of the image that is disturbed."""
OPACITY = (0.1, 1.0)
"""Smallest and largest opacity of the content."""
LIGHT = 0.7
"""Largest relative change of the image's own brightness."""
OFFSET = 0.3
"""Largest offset of the brightness of another image's content."""
GRAIN = 0.2
"""Standard deviation of the grain."""


def noise_region(size: int, generator: torch.Generator | None = None) -> Tensor:
    """(1, size, size), 0 or 1: where smooth noise is highest, up to `AREA` of the image.

    Noise on a coarse grid is enlarged and rotated by a random angle. Noise on a 5 x 5 grid is
    added, so that the highest values lie close together.
    """
    draw = torch.rand(4, generator=generator).tolist()
    across = CELLS[int(draw[0] * len(CELLS))]
    down = min(max(CELLS), max(2, round(across * STRETCHES[int(draw[1] * len(STRETCHES))])))
    fine = torch.randn(1, 1, across + 2, down + 2, generator=generator)
    broad = torch.randn(1, 1, 5, 5, generator=generator)
    # 1.5 times the size, so that the rotated window lies inside the noise.
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
    """Images (B, 3, H, H) in [0, 1], each disturbed in one region with probability `share`.

    x' = (1 - a m) x + a m c, with the region m averaged over 3 x 3 pixels, an opacity a and a
    content c. The content is the previous image of the batch, rotated by 90 degrees and with an
    offset of its brightness, or x itself with another brightness; one in four also has grain. In a
    batch of one, the image itself is the other image. All random numbers come from the CPU
    `generator`, or from torch's global one.

    Raises:
        ValueError: images that are not square.
    """
    count, _, height, width = images.shape
    if height != width:
        raise ValueError(
            f"disturb: expected square images, found {height} x {width}; load with a square "
            "image_size"
        )

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
