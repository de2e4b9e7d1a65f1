"""Localization measures of maps against masks, one value per image.

They take `maps` (B, 1, h, w), unbounded unless stated, and `masks` (B, 1, H, W), defect where
> 0.5, and return (B,) float64 on the CPU. Maps are resized to the masks bilinearly (half-pixel
centres). The value is NaN for an empty mask. `false_activation` is for normal images; defective
images without a mask must be left out.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor


def map_iou(maps: Tensor, masks: Tensor, threshold: float = 0.5) -> Tensor:
    """|P ∩ M| / |P ∪ M| in [0, 1], with P = min-max scaled map > threshold.

    For a constant map P is empty and the IoU is 0.
    """
    pixels, inside = aligned(maps, masks)
    return _iou(_min_max(pixels) > threshold, inside)


def fixed_iou(maps: Tensor, masks: Tensor, threshold: float = 0.5) -> Tensor:
    """|P ∩ M| / |P ∪ M| in [0, 1], with P = map > threshold, for maps on a fixed scale."""
    pixels, inside = aligned(maps, masks)
    return _iou(pixels > threshold, inside)


def dice(maps: Tensor, masks: Tensor, threshold: float = 0.5) -> Tensor:
    """2 |P ∩ M| / (|P| + |M|) in [0, 1], with P = map > threshold, without min-max scaling."""
    pixels, inside = aligned(maps, masks)
    predicted = pixels > threshold
    return _ratio(2 * _count(predicted & inside), _count(predicted) + _count(inside), inside)


def point_game(maps: Tensor, masks: Tensor, tolerance: float = 0.0) -> Tensor:
    """1 if the highest pixel is in the mask, or at most `tolerance` pixels from it; else 0.

    If several pixels share the maximum, it is the share of them that hit, which is the expectation
    for a random one of them. So for a constant map it is the share of the image that the mask
    covers. Source: the pointing game of Zhang et al., "Top-down Neural Attention by Excitation
    Backprop", ECCV 2016, with a tolerance of 15 pixels.
    """
    pixels, inside = aligned(maps, masks)
    target = inside if tolerance <= 0 else _dilated(inside, tolerance)
    highest = pixels == pixels.amax(dim=(1, 2, 3), keepdim=True)
    return _ratio(_count(highest & target), _count(highest), inside)


def energy_inside(maps: Tensor, masks: Tensor) -> Tensor:
    """Σ_mask m / Σ m in [0, 1], with m the min-max scaled map.

    Min-max scaling maps the lowest value to zero, so regions of negative values count as energy;
    `positive_energy` does not scale. A constant map scores the share of the image that the mask
    covers.
    """
    pixels, inside = aligned(maps, masks)
    scaled = _min_max(pixels)
    flat = scaled.sum(dim=(1, 2, 3), keepdim=True) == 0
    return _energy(torch.where(flat, torch.ones_like(scaled), scaled), inside)


def positive_energy(maps: Tensor, masks: Tensor) -> Tensor:
    """Σ_mask relu(map) / Σ relu(map) in [0, 1]: the share of the evidence *for* a defect.

    0 for a map without a positive value, not NaN: it fails to show the defect, and NaN would
    remove this failure from the mean.
    """
    pixels, inside = aligned(maps, masks)
    return _energy(pixels.clamp(min=0), inside)


def false_activation(maps: Tensor, threshold: float = 0.5) -> Tensor:
    """(B,) share of cells > threshold, for maps in [0, 1] of normal images; no resizing."""
    pixels = _checked_maps(maps)
    return (pixels > threshold).double().mean(dim=(1, 2, 3))


def oracle_map(masks: Tensor, grid: tuple[int, int]) -> Tensor:
    """(B, 1, h, w) in [0, 1]: the share of each cell that is defect.

    Its scores show the loss that is due to the grid alone. They are not upper bounds: a map that
    marks only the inner cells of a defect has a higher positive energy. If the grid does not
    divide the mask evenly, cells overlap by up to one pixel.
    """
    return F.adaptive_avg_pool2d((masks > 0.5).float(), grid)


def aligned(maps: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Maps (B, 1, H, W) float32 resized to the masks, and the masks as bool, on the CPU."""
    pixels = _checked_maps(maps)
    _check_tensor("masks", masks)
    if masks.ndim != 4 or masks.shape[1] != 1 or len(masks) != len(maps):
        raise ValueError(
            f"masks must be ({len(maps)}, 1, H, W), one for each map, found {tuple(masks.shape)}"
        )
    inside = masks.detach().to("cpu") > 0.5
    size = (inside.shape[-2], inside.shape[-1])
    if pixels.shape[-2:] != inside.shape[-2:]:
        # In float64 and back, because rounding of the weights breaks ties between equal cells and
        # turns a constant map into noise.
        resized = F.interpolate(pixels.double(), size, mode="bilinear", align_corners=False)
        pixels = resized.float()
    return pixels, inside


def _check_tensor(name: str, values: object) -> None:
    if not isinstance(values, Tensor):
        raise TypeError(
            f"{name} must be a torch tensor, found {type(values).__name__}; an array is converted "
            "by torch.from_numpy"
        )


def _checked_maps(maps: Tensor) -> Tensor:
    _check_tensor("maps", maps)
    if maps.ndim != 4 or maps.shape[1] != 1:
        raise ValueError(f"maps must be (B, 1, h, w), found {tuple(maps.shape)}")
    pixels = maps.detach().to("cpu", torch.float32)
    if not np.isfinite(pixels.numpy()).all():  # several times faster than torch's
        raise ValueError("maps must be finite, found NaN or infinity; look for a diverged training")
    return pixels


def _min_max(pixels: Tensor) -> Tensor:
    """Each map min-max scaled to [0, 1], float64; a constant map becomes 0."""
    values = pixels.double()
    low = values.amin(dim=(1, 2, 3), keepdim=True)
    span = values.amax(dim=(1, 2, 3), keepdim=True) - low
    return (values - low) / torch.where(span > 0, span, torch.ones_like(span))


def _count(pixels: Tensor) -> Tensor:
    return pixels.sum(dim=(1, 2, 3)).double()


def _ratio(part: Tensor, whole: Tensor, inside: Tensor) -> Tensor:
    """part / whole, 0 if whole is 0, NaN if the mask is empty; all (B,)."""
    value = torch.where(whole > 0, part / whole.where(whole > 0, torch.ones_like(whole)), 0.0)
    return value.masked_fill(~inside.flatten(1).any(dim=1), torch.nan)


def _iou(predicted: Tensor, inside: Tensor) -> Tensor:
    return _ratio(_count(predicted & inside), _count(predicted | inside), inside)


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
