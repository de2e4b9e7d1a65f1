"""Does the map point at the defect? One figure per image.

Measures take `maps` (B, 1, h, w), unbounded unless stated, and `masks` (B, 1, H, W), a defect
where > 0.5, and return (B,) float64 on the CPU. Maps are resized to the mask bilinearly (half
pixel centres). An image with an empty mask has no answer and scores NaN: normal images are
what `false_activation` is for, and defective images without a mask must be left out.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor


def map_iou(maps: Tensor, masks: Tensor, threshold: float = 0.5) -> Tensor:
    """|P and M| / |P or M|, P where the map, scaled by its own minimum and maximum, > threshold.

    In [0, 1]. A constant map singles nothing out: P is empty and the IoU 0.
    """
    pixels, inside = aligned(maps, masks)
    return _iou(_min_max(pixels) > threshold, inside)


def fixed_iou(maps: Tensor, masks: Tensor, threshold: float = 0.5) -> Tensor:
    """|P and M| / |P or M| with P = map > threshold, for maps whose level has a meaning."""
    pixels, inside = aligned(maps, masks)
    return _iou(pixels > threshold, inside)


def dice(maps: Tensor, masks: Tensor, threshold: float = 0.5) -> Tensor:
    """2 |P and M| / (|P| + |M|) with P = map > threshold, in [0, 1]; no min-max."""
    pixels, inside = aligned(maps, masks)
    found = pixels > threshold
    return _ratio(2 * _count(found & inside), _count(found) + _count(inside), inside)


def point_game(maps: Tensor, masks: Tensor, tolerance: float = 0.0) -> Tensor:
    """1 if the highest pixel is in the mask, or at most `tolerance` pixels from it; else 0.

    Zhang et al. 2016. Where several pixels share the maximum it is the share of them that hits,
    the expectation of drawing one at random; so a constant map scores the share of the image
    that the mask covers. The paper allows 15 pixels on photographs; the default here is none.
    """
    pixels, inside = aligned(maps, masks)
    target = inside if tolerance <= 0 else _dilated(inside, tolerance)
    highest = pixels == pixels.amax(dim=(1, 2, 3), keepdim=True)
    return _ratio(_count(highest & target), _count(highest), inside)


def energy_inside(maps: Tensor, masks: Tensor) -> Tensor:
    """Σ_mask m / Σ m, m the map scaled to [0, 1] by its own minimum and maximum.

    In [0, 1]. Min-max turns the map's lowest level into zero, whatever it was, so a map that is
    negative almost everywhere gets energy there: `positive_energy` has no such step. A
    constant map scores the share of the image that the mask covers, like even energy.
    """
    pixels, inside = aligned(maps, masks)
    scaled = _min_max(pixels)
    flat = scaled.sum(dim=(1, 2, 3), keepdim=True) == 0
    return _energy(torch.where(flat, torch.ones_like(scaled), scaled), inside)


def positive_energy(maps: Tensor, masks: Tensor) -> Tensor:
    """Σ_mask relu(map) / Σ relu(map): where the evidence *for* a defect lies. In [0, 1].

    A map without any positive value scores 0, not NaN: it does not show the defect, and NaN
    would take the failure out of the mean.
    """
    pixels, inside = aligned(maps, masks)
    return _energy(pixels.clamp(min=0), inside)


def false_activation(maps: Tensor, threshold: float = 0.5) -> Tensor:
    """(B,) share of cells > threshold, for maps in [0, 1] of normal images, on their own grid."""
    pixels = _checked_maps(maps)
    return (pixels > threshold).double().mean(dim=(1, 2, 3))


def oracle_map(masks: Tensor, grid: tuple[int, int]) -> Tensor:
    """(B, 1, h, w) in [0, 1]: the share of each cell that is defect.

    Scored like a map, it shows what the grid alone costs a map that is right. No upper bound: on a
    defect whose rim shares cells with sound surface, a map that keeps to the inner cells has more
    positive energy. Cells that do not divide the mask evenly overlap by up to a pixel.
    """
    return F.adaptive_avg_pool2d((masks > 0.5).float(), grid)


def aligned(maps: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Maps (B, 1, H, W) float32 resized to the masks, and the masks as booleans, on the CPU."""
    pixels = _checked_maps(maps)
    if masks.ndim != 4 or masks.shape[1] != 1 or len(masks) != len(maps):
        raise ValueError(
            f"masks must be ({len(maps)}, 1, H, W), one for each map, found {tuple(masks.shape)}"
        )
    inside = masks.detach().to("cpu") > 0.5
    size = (inside.shape[-2], inside.shape[-1])
    if pixels.shape[-2:] != inside.shape[-2:]:
        # In float64 and back: rounding of the weights would otherwise break ties between equal
        # cells, and a constant map would come out as noise.
        resized = F.interpolate(pixels.double(), size, mode="bilinear", align_corners=False)
        pixels = resized.float()
    return pixels, inside


def _checked_maps(maps: Tensor) -> Tensor:
    if maps.ndim != 4 or maps.shape[1] != 1:
        raise ValueError(f"maps must be (B, 1, h, w), found {tuple(maps.shape)}")
    pixels = maps.detach().to("cpu", torch.float32)
    if not bool(torch.isfinite(pixels).all()):
        raise ValueError("maps must be finite, found NaN or infinity; look for a diverged training")
    return pixels


def _min_max(pixels: Tensor) -> Tensor:
    """Each image scaled to [0, 1], float64; a constant image becomes zero."""
    values = pixels.double()
    low = values.amin(dim=(1, 2, 3), keepdim=True)
    span = values.amax(dim=(1, 2, 3), keepdim=True) - low
    return (values - low) / torch.where(span > 0, span, torch.ones_like(span))


def _count(pixels: Tensor) -> Tensor:
    return pixels.sum(dim=(1, 2, 3)).double()


def _ratio(part: Tensor, whole: Tensor, inside: Tensor) -> Tensor:
    """part / whole, 0 where the whole is 0, NaN where the mask is empty; all (B,)."""
    value = torch.where(whole > 0, part / whole.where(whole > 0, torch.ones_like(whole)), 0.0)
    return value.masked_fill(~inside.flatten(1).any(dim=1), torch.nan)


def _iou(found: Tensor, inside: Tensor) -> Tensor:
    return _ratio(_count(found & inside), _count(found | inside), inside)


def _energy(energy: Tensor, inside: Tensor) -> Tensor:
    values = energy.double()
    return _ratio((values * inside).sum(dim=(1, 2, 3)), values.sum(dim=(1, 2, 3)), inside)


def _dilated(inside: Tensor, tolerance: float) -> Tensor:
    """Pixels at most `tolerance` (Euclidean) from the mask; an empty mask stays empty."""
    grown = [
        ndimage.distance_transform_edt(~image) <= tolerance if image.any() else image
        for image in inside[:, 0].numpy()
    ]
    return torch.from_numpy(np.stack(grown))[:, None]
