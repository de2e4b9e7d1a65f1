"""The base class of anomaly detectors: a map of distances to normal features, and its scale."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from gainmtl.anomaly import filters
from gainmtl.anomaly.filters import smoothing_matrix
from gainmtl.anomaly.teacher import Teacher

SMOOTHING = 4 / 256
"""Standard deviation of the Gaussian that smooths the map, as a share of the image side: 4 pixels
of 256, as published with reverse distillation."""
KNEE = 4.0
"""Value at which `squash` changes from linear to logarithmic."""

DETECTOR_THRESHOLD = 0.5
"""Of a detector's defect probability, which is 0.5 at the threshold of its score."""


class AnomalyOutputs(NamedTuple):
    """The outputs of a detector for B images."""

    anomaly_map: Tensor
    """(B, 1, H, W): the smoothed distance to normal features; >= 0 up to rounding, unless the
    levels are balanced."""
    anomaly_score: Tensor
    """(B,): the highest value of the map."""
    level_maps: tuple[Tensor, ...]
    """(B, 1, h_i, w_i) each, >= 0: the distances per level, finest first; the map combines them."""
    map_logits: Tensor
    """(B, 1, H, W): the map on the scale of the threshold, `squash((map - threshold) / spread)`;
    NaN before `set_scale`."""
    logits: Tensor
    """(B,): the score on the same scale, the highest value of `map_logits`."""

    @property
    def defect_map(self) -> Tensor:
        """(B, 1, H, W) in [0, 1]: 0.5 at the threshold."""
        return self.map_logits.sigmoid()

    @property
    def defect_probability(self) -> Tensor:
        """(B,) in [0, 1], monotone in the score, but not calibrated: it is no frequency."""
        return self.logits.sigmoid()


def squash(values: Tensor) -> Tensor:
    """KNEE · asinh(values / KNEE): linear near 0, logarithmic for large values; monotone."""
    return KNEE * torch.asinh(values / KNEE)


class Detector(nn.Module):
    """A frozen teacher network and a model of its normal features.

    A subclass implements `level_maps`. `threshold` and `spread` are set by `set_scale` from normal
    validation images, never from defects or test images.

    The map is Σ_i (M_i - c_i) / s_i over the levels' maps M_i, resized and smoothed. As published
    c_i = 0 and s_i = 1, and a level with large distances on normal parts dominates. With
    `balanced`, `balance` sets c_i and s_i to the mean and the standard deviation of M_i over all
    cells of normal validation images, so that all levels contribute equally on normal parts. Source
    of the idea, there with quantiles: Batzner, Heckler and König, "EfficientAD", WACV 2024.
    """

    kind: ClassVar[str]
    """The name in saved descriptions and in result rows, `<kind>-<backbone>`."""

    def __init__(
        self, teacher: Teacher, smoothing: float, levels: int, balanced: bool, flat_field: float,
        config: dict[str, Any],
    ) -> None:  # fmt: skip
        if not 0 <= flat_field <= 1:
            raise ValueError(
                f"flat_field: expected a share of the side in [0, 1], got {flat_field}; divide "
                "pixels by the image size"
            )
        super().__init__()
        self.teacher = teacher
        self.flat_field = flat_field
        self.balanced = balanced
        self.register_buffer("level_center", torch.zeros(levels))
        self.register_buffer("level_spread", torch.ones(levels))
        self.level_center: Tensor
        self.level_spread: Tensor
        self.smoothing = smoothing
        self.config = config
        """The constructor's arguments, without the weights."""
        self.threshold = math.nan
        """Of the score; `set_threshold` limits false alarms on validation images with it."""
        self.spread = math.nan
        """Standard deviation of the scores of normal validation images."""
        self.image_size: int | None = None
        self.resize = "squash"
        self._matrices: dict[tuple[int, int], Tensor] = {}

    @property
    def name(self) -> str:
        """The name in result rows."""
        return f"{self.kind}-{self.teacher.name}"

    def preprocess(self, images: Tensor) -> Tensor:
        """Normalise images (B, 3, H, W) in [0, 1] as the teacher's weights expect.

        If `flat_field` is not 0, apply `filters.flat_field` with this `sigma` before.
        """
        if self.flat_field:
            images = filters.flat_field(images, self.flat_field)
        mean, std = (images.new_tensor(v)[:, None, None] for v in
                     (self.teacher.mean, self.teacher.std))  # fmt: skip
        return (images - mean) / std

    def level_maps(self, images: Tensor) -> list[Tensor]:
        """Distances (B, 1, h_i, w_i), finest first, of normalised images (B, 3, H, W)."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> AnomalyOutputs:
        """Map and score of normalised images (B, 3, H, W)."""
        levels = self.level_maps(images)
        size = (images.shape[2], images.shape[3])
        scales = zip(levels, self.level_center, self.level_spread, strict=True)
        maps = [self._enlarge((level - center) / spread, size) for level, center, spread in scales]
        anomaly_map = torch.stack(maps).sum(0)
        map_logits = squash((anomaly_map - self.threshold) / self.spread)
        score, logits = (values.amax((1, 2, 3)) for values in (anomaly_map, map_logits))
        return AnomalyOutputs(anomaly_map, score, tuple(levels), map_logits, logits)

    def _enlarge(self, level: Tensor, size: tuple[int, int]) -> Tensor:
        """A level's map resized to the image and smoothed."""
        down, across = (
            self._matrix(cells, pixels, level)
            for cells, pixels in zip(level.shape[2:], size, strict=True)
        )
        return down @ level.float() @ across.T

    def _matrix(self, cells: int, pixels: int, like: Tensor) -> Tensor:
        matrix = self._matrices.get((cells, pixels))
        if matrix is None or matrix.device != like.device:
            matrix = smoothing_matrix(cells, pixels, self.smoothing * pixels).to(like.device)
            self._matrices[(cells, pixels)] = matrix
        return matrix

    def prepare(self, images: Iterable[Tensor]) -> None:
        """Measure the teacher's feature statistics on training images (B, 3, H, W) in [0, 1]."""
        device = next(self.teacher.parameters()).device
        self.teacher.fit_statistics(self.preprocess(batch.to(device)) for batch in images)

    @torch.no_grad()
    def balance(self, images: Iterable[Tensor]) -> None:
        """Set the scale of each level on normal validation images (B, 3, H, W) in [0, 1].

        Does nothing unless `balanced`. Call it before `set_scale`, whose scores depend on it.
        """
        if not self.balanced:
            return
        device = next(self.teacher.parameters()).device
        distances: list[list[Tensor]] = [[] for _ in self.level_center]
        for batch in images:
            levels = self.level_maps(self.preprocess(batch.to(device)))
            for batches, level in zip(distances, levels, strict=True):
                batches.append(level.double().flatten())
        for index, batches in enumerate(distances):
            values = torch.cat(batches)
            self.level_center[index] = values.mean()
            # A constant level must not divide by zero.
            self.level_spread[index] = values.std(correction=0).clamp_min(1e-12)

    def set_scale(self, scores: Tensor, threshold: float) -> None:
        """Set threshold and spread from the scores (N,) of normal validation images."""
        self.threshold = threshold
        spread = float(scores.double().std()) if len(scores) > 1 else math.nan
        # Fewer than two scores, or equal scores, have no spread.
        self.spread = spread if spread > 0 else max(abs(threshold), 1e-12)
