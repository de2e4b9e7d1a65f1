"""Threshold-free ranking measures of pixels: per image, or pooled over a test set.

`maps` (B, 1, h, w), unbounded, are resized bilinearly to `masks` (B, 1, H, W) in chunks, so
that a thousand images of 192 x 192 (37 million pixels) need little more memory than their
defect pixels. Pooled measures use all pixels of all images: include normal images with an all-zero
mask, and leave out defective images without a mask.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from gainmtl.metrics.maps import aligned
from gainmtl.metrics.ranking import (
    Array,
    RankingCurve,
    curve_auroc,
    curve_average_precision,
    curve_partial_area,
    ranking_curve,
)

CHUNK_PIXELS = 4_000_000


def pixel_ap(maps: Tensor, masks: Tensor) -> Tensor:
    """(B,) average precision of the pixels of each image; NaN if the mask is empty."""
    _check_counts(maps, masks)
    values = []
    for index in range(len(maps)):
        pixels, inside = aligned(maps[index : index + 1], masks[index : index + 1])
        scores, defect = pixels.numpy(), inside.numpy()
        curve = ranking_curve(scores[defect], [scores[~defect]])
        values.append(float(curve_average_precision(curve)))
    return torch.tensor(values, dtype=torch.float64)


def pooled_pixel_ap(maps: Tensor, masks: Tensor) -> float:
    """Average precision over all pixels of all images together; NaN without a defect pixel."""
    return float(curve_average_precision(_pooled_curve(maps, masks)))


def pixel_auroc(maps: Tensor, masks: Tensor) -> float:
    """AUROC over all pixels of all images together; NaN if they are of one class."""
    return float(curve_auroc(_pooled_curve(maps, masks)))


def aupro(maps: Tensor, masks: Tensor, max_fpr: float = 0.3) -> float:
    """Area under the per-region overlap for false positive rates up to max_fpr, in [0, 1].

    At a threshold, the overlap of a defect region (8-connected component) is the share of its
    pixels above the threshold, averaged over the regions of all images. The false positive rate is
    the share of defect-free pixels above it. The area is divided by max_fpr. It is exact: all
    thresholds, interpolated at max_fpr. NaN without regions.

    With each pixel weighted by 1 / (size of its region) the overlap is a recall, so this is a
    partial area under a weighted ROC curve.

    Source: Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 2021.
    """
    return curve_partial_area(_pooled_curve(maps, masks, by_region=True), max_fpr)


def aupro_per_image(maps: Tensor, masks: Tensor, steps: int = 200, max_fpr: float = 0.3) -> Tensor:
    """(B,) AUPRO as in the published code of reverse distillation; NaN without a defect.

    NaN, too, for a map that separates the defect from the rest, since its rates are all 0.

    Only for comparison with papers. Each defective image is measured on its own and normal images
    are not. There are `steps` equidistant thresholds from the lowest to the highest score, with
    `>` instead of `>=`. Points with a false positive rate below max_fpr are kept, the curve is not
    interpolated at max_fpr, and rates are divided by the largest kept rate. `aupro` may be lower
    or higher.
    """
    _check_counts(maps, masks)
    values = []
    for index in range(len(maps)):
        pixels, inside = aligned(maps[index : index + 1], masks[index : index + 1])
        scores, mask = pixels[0, 0].numpy(), inside[0, 0].numpy()
        if not mask.any() or mask.all():
            values.append(float("nan"))
            continue
        low, high = float(scores.min()), float(scores.max())
        weights, count = region_weights(mask), ndimage.label(mask, np.ones((3, 3)))[1]
        thresholds = [low + (high - low) / steps * k for k in range(steps)]
        overlap = np.array([(weights * (scores[mask] > t)).sum() / count for t in thresholds])
        rate = np.array([(scores[~mask] > t).mean() for t in thresholds])
        kept = rate < max_fpr
        x, y = rate[kept], overlap[kept]
        if not kept.any() or x.max() == 0:
            values.append(float("nan"))
            continue
        order = np.argsort(x, kind="stable")
        values.append(float(np.trapezoid(y[order], x[order]) / x.max()))
    return torch.tensor(values, dtype=torch.float64)


def region_weights(mask: Array) -> Array:
    """(P,) 1 / (size of the pixel's 8-connected region), for the P true pixels of mask (H, W)."""
    regions, _ = ndimage.label(mask, structure=np.ones((3, 3)))
    names = regions[mask]
    return np.asarray(1.0 / np.bincount(names)[names])


def chunks(maps: Tensor, masks: Tensor) -> Iterator[tuple[Array, Array]]:
    """Resized maps and boolean masks (b, H, W), at most about `CHUNK_PIXELS` pixels at a time."""
    _check_counts(maps, masks)
    step = max(1, CHUNK_PIXELS // max(1, masks.shape[-1] * masks.shape[-2]))
    for start in range(0, len(maps), step):
        pixels, inside = aligned(maps[start : start + step], masks[start : start + step])
        yield pixels[:, 0].numpy(), inside[:, 0].numpy()


def _check_counts(maps: Tensor, masks: Tensor) -> None:
    if len(maps) != len(masks):
        raise ValueError(
            f"expected one mask for each map, found {len(maps)} maps and {len(masks)} masks"
        )


def _pooled_curve(maps: Tensor, masks: Tensor, by_region: bool = False) -> RankingCurve:
    scores, weights = [np.empty(0, np.float32)], [np.empty(0)]
    for pixels, inside in chunks(maps, masks):
        scores.append(pixels[inside])
        if by_region:
            weights += [region_weights(mask) for mask in inside if mask.any()]
    # The maps are resized a second time, because keeping all negatives takes too much memory.
    negatives = (pixels[~inside] for pixels, inside in chunks(maps, masks))
    return ranking_curve(
        np.concatenate(scores), negatives, np.concatenate(weights) if by_region else None
    )
