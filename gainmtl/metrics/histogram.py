"""Pixel scores as one histogram per image: small enough to store, add and resample."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from gainmtl.metrics.pixels import chunks, region_weights
from gainmtl.metrics.ranking import (
    Array,
    RankingCurve,
    curve_auroc,
    curve_average_precision,
    curve_partial_area,
)


@dataclass(frozen=True, eq=False)
class PixelHistogram:
    """Counts of pixel scores in equal bins over [low, high], one row per image.

    Its measures are those of scores rounded down to their bin; scores outside the range count in
    the first or last bin. For maps whose values crowd at 0 or 1, such as a steep sigmoid, use the
    logits and their range.
    """

    positives: Array
    """(N, bins) int32, defect pixels."""
    negatives: Array
    """(N, bins) int32, defect-free pixels."""
    low: float
    high: float
    regions: Array | None = None
    """(N, bins) float32, defect pixels weighted by 1 / (size of their region), for `aupro`."""

    @classmethod
    def of(
        cls,
        maps: Tensor,
        masks: Tensor,
        bins: int = 2048,
        low: float = 0.0,
        high: float = 1.0,
        by_region: bool = False,
    ) -> PixelHistogram:
        """Histograms of maps (B, 1, h, w), resized to masks (B, 1, H, W).

        `by_region` also counts regions, for `aupro`.

        Raises:
            ValueError: not low < high, no bins, or masks that don't fit the maps.
        """
        if not (low < high and bins >= 1):
            raise ValueError(f"expected low < high and bins >= 1, found {low}, {high}, {bins}")
        rows = np.zeros((2, len(maps), bins), dtype=np.int32)
        regions = np.zeros((len(maps), bins), dtype=np.float32) if by_region else None
        image = 0
        for pixels, inside in chunks(maps, masks):
            place = ((pixels - np.float32(low)) * np.float32(bins / (high - low))).clip(0, bins - 1)
            for index, defect in zip(place.astype(np.int32), inside, strict=True):
                rows[0, image] = np.bincount(index[defect], minlength=bins)
                rows[1, image] = np.bincount(index[~defect], minlength=bins)
                if regions is not None:
                    regions[image] = np.bincount(index[defect], region_weights(defect), bins)
                image += 1
        return cls(rows[0], rows[1], low, high, regions)

    def __add__(self, other: PixelHistogram) -> PixelHistogram:
        """The images of both, in order.

        Raises:
            ValueError: other low, high or bins.
        """
        here = (self.low, self.high, self.positives.shape[1])
        there = (other.low, other.high, other.positives.shape[1])
        if here != there:
            raise ValueError(
                f"histograms must share low, high and bins, found {here} and {there}; "
                "count both with the same range"
            )
        return PixelHistogram(
            np.concatenate([self.positives, other.positives]),
            np.concatenate([self.negatives, other.negatives]),
            self.low,
            self.high,
            None
            if self.regions is None or other.regions is None
            else np.concatenate([self.regions, other.regions]),
        )

    def __len__(self) -> int:
        """The number of images."""
        return len(self.positives)

    def average_precision(self, weights: ArrayLike | None = None) -> Array:
        """Pooled pixel AP, (...); image n counts `weights` (..., N) times, by default once."""
        return curve_average_precision(self._curve(weights))

    def auroc(self, weights: ArrayLike | None = None) -> Array:
        """Pooled pixel AUROC, (...), weighted as in `average_precision`."""
        return curve_auroc(self._curve(weights))

    def aupro(self, weights: ArrayLike | None = None, max_fpr: float = 0.3) -> Array:
        """Pooled AUPRO, (...), as `metrics.aupro`, weighted as in `average_precision`.

        Raises:
            ValueError: the histogram was made without `by_region`.
        """
        if self.regions is None:
            raise ValueError(
                "aupro: expected a histogram with regions, found none; count the histogram with "
                "by_region=True"
            )
        curve = self._curve(weights, self.regions)
        shape = curve.true.shape[:-1]
        flat = (a.reshape(-1, a.shape[-1]) for a in (curve.true, curve.false, curve.false_above))
        totals = np.broadcast_to(curve.negatives, shape).reshape(-1)
        areas = [
            curve_partial_area(RankingCurve(*counts), max_fpr)
            for counts in zip(*flat, totals, strict=True)
        ]
        return np.array(areas).reshape(shape)

    def _curve(self, weights: ArrayLike | None, positives: Array | None = None) -> RankingCurve:
        w = np.ones(len(self)) if weights is None else np.asarray(weights, dtype=np.float64)
        if w.shape[-1:] != (len(self),):
            raise ValueError(f"weights must be (..., {len(self)}), found {w.shape}")
        # float64 counts are exact up to 2^53 pixels.
        true = np.cumsum((w @ (self.positives if positives is None else positives))[..., ::-1], -1)
        counts = (w @ self.negatives)[..., ::-1]
        false = np.cumsum(counts, axis=-1)
        return RankingCurve(true, false, false - counts, false[..., -1])
