"""What anomaly detectors have in common: a map of distances from what is normal, and its scale."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from gainmtl.anomaly import shading
from gainmtl.anomaly.smoothing import smoothing_matrix
from gainmtl.anomaly.teacher import Teacher

SMOOTHING = 4 / 256
"""Standard deviation of the Gaussian over the map, as a share of the image side: 4 pixels of 256,
as published with reverse distillation."""
KNEE = 4.0
"""Where `squash` goes over from a line to a logarithm."""


class AnomalyOutputs(NamedTuple):
    """What a detector says about a batch of B images."""

    anomaly_map: Tensor
    """(B, 1, H, W): the distance from what is normal, smoothed; >= 0 up to rounding, unless the
    levels are balanced."""
    anomaly_score: Tensor
    """(B,): the highest value of the map."""
    level_maps: tuple[Tensor, ...]
    """(B, 1, h_i, w_i) each, >= 0: the distances that the map is made of, finest first."""
    map_logits: Tensor
    """(B, 1, H, W): the map on the scale of the verdict, 0 at the threshold; NaN before there is
    one."""
    logits: Tensor
    """(B,): the same of the score, so also the highest value of `map_logits`."""

    @property
    def defect_map(self) -> Tensor:
        """(B, 1, H, W) in [0, 1]: 0.5 at the threshold, so that a normal part is dark."""
        return self.map_logits.sigmoid()

    @property
    def defect_probability(self) -> Tensor:
        """(B,) in [0, 1]. Monotone in the score; no frequency of anything stands behind it."""
        return self.logits.sigmoid()


def squash(values: Tensor) -> Tensor:
    """KNEE · asinh(values / KNEE): near 0 the identity, far out a logarithm. Keeps every order."""
    return KNEE * torch.asinh(values / KNEE)


class Detector(nn.Module):
    """A frozen teacher and something that knows its normal features.

    A subclass makes `level_maps`. `threshold` and `spread` are set from normal validation images
    by `calibrate`, never from a defect and never from the test.

    The map is Σ (M_i - c_i) / s_i over the levels' maps M_i, enlarged and smoothed. As published
    c_i is 0 and s_i is 1, and a level whose distances are large on normal parts drowns the others.
    With `balanced`, `balance` makes them the mean and the standard deviation of M_i over the places
    of normal validation images, so that each level speaks as loudly on what is normal. Source of
    the idea, there with quantiles: Batzner, Heckler and König, "EfficientAD", WACV 2024.
    """

    kind: ClassVar[str]
    """Its name in result rows: `<kind>-<backbone>`."""

    def __init__(
        self, teacher: Teacher, smoothing: float, levels: int, balanced: bool, flat_field: float,
        config: dict[str, Any],
    ) -> None:  # fmt: skip
        if not 0 <= flat_field <= 1:
            raise ValueError(
                f"flat_field: expected a share of the side in [0, 1], got {flat_field}"
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
        """What builds it again, without the weights."""
        self.threshold = math.nan
        """Of the score: the smallest with few enough false alarms on validation."""
        self.spread = math.nan
        """Standard deviation of the scores of normal validation images."""
        self.image_size: int | None = None
        self.resize = "squash"
        self._matrices: dict[tuple[int, int], Tensor] = {}

    @property
    def name(self) -> str:
        """For result rows."""
        return f"{self.kind}-{self.teacher.name}"

    def preprocess(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] to what the teacher was trained with.

        With `flat_field`, the standard deviation of a Gaussian as a share of the side, through
        `shading.flat_field` first.
        """
        if self.flat_field:
            images = shading.flat_field(images, self.flat_field)
        mean, std = (images.new_tensor(v)[:, None, None] for v in
                     (self.teacher.mean, self.teacher.std))  # fmt: skip
        return (images - mean) / std

    def level_maps(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised images to distances (B, 1, h_i, w_i), finest first."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> AnomalyOutputs:
        """Normalised images to map and score; no mask enters."""
        levels = self.level_maps(images)
        size = (images.shape[2], images.shape[3])
        on_one_scale = [
            (level - center) / spread
            for level, center, spread in zip(
                levels, self.level_center, self.level_spread, strict=True
            )
        ]
        whole = torch.stack([self._enlarge(level, size) for level in on_one_scale]).sum(0)
        score = whole.amax((1, 2, 3))
        on_scale = squash((whole - self.threshold) / self.spread)
        return AnomalyOutputs(whole, score, tuple(levels), on_scale, on_scale.amax((1, 2, 3)))

    def _enlarge(self, level: Tensor, size: tuple[int, int]) -> Tensor:
        down, across = (
            self._matrix(cells, pixels, level)
            for cells, pixels in zip(level.shape[2:], size, strict=True)
        )
        return down @ level.float() @ across.T

    def _matrix(self, cells: int, pixels: int, like: Tensor) -> Tensor:
        found = self._matrices.get((cells, pixels))
        if found is None or found.device != like.device:
            found = smoothing_matrix(cells, pixels, self.smoothing * pixels).to(like.device)
            self._matrices[(cells, pixels)] = found
        return found

    def prepare(self, images: Iterable[Tensor]) -> None:
        """Look at the training images, (B, 3, H, W) in [0, 1], once before anything is learned."""
        device = next(self.teacher.parameters()).device
        self.teacher.fit_statistics(self.preprocess(batch.to(device)) for batch in images)

    @torch.no_grad()
    def balance(self, images: Iterable[Tensor]) -> None:
        """Put the levels on one scale by normal validation images, (B, 3, H, W) in [0, 1].

        Without `balanced` it does nothing. To be called before `calibrate`, whose scores depend on
        it.
        """
        if not self.balanced:
            return
        device = next(self.teacher.parameters()).device
        found: list[list[Tensor]] = [[] for _ in self.level_center]
        for batch in images:
            for kept, level in zip(
                found, self.level_maps(self.preprocess(batch.to(device))), strict=True
            ):
                kept.append(level.double().flatten())
        for place, kept in enumerate(found):
            values = torch.cat(kept)
            self.level_center[place] = values.mean()
            # A level that is the same everywhere says nothing; it must not divide by zero.
            self.level_spread[place] = values.std(correction=0).clamp_min(1e-12)

    def calibrate(self, scores: Tensor, threshold: float) -> None:
        """Set the scale from the scores (N,) of normal validation images and a threshold."""
        self.threshold = threshold
        spread = float(scores.double().std()) if len(scores) > 1 else math.nan
        # Fewer than two images, or all alike, have no spread; the threshold stays what it is.
        self.spread = spread if spread > 0 else max(abs(threshold), 1e-12)
