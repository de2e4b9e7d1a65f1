"""Joint augmentation of image, twin and mask: geometry for all, brightness for image and twin.

The random numbers of a sample depend only on (seed, epoch, index). Global random states are
neither read nor changed, so a resumed run, or one with another number of workers, gets the same
images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as nn_functional
from torch.utils.data import Dataset

from gainmtl.datasets.data import Described
from gainmtl.datasets.transforms import most_covered
from gainmtl.types import Sample


@dataclass(frozen=True)
class Strength:
    """Ranges of the random changes. Factors are log-uniform, so 2 and 1/2 are equally likely."""

    flips: bool = False
    """Mirror horizontally and vertically, each with probability 1/2."""
    rotation: float = 0.0
    """Largest angle to either side, in degrees."""
    scale: float = 1.0
    """Magnification from 1/scale to scale."""
    shift: float = 0.0
    """Largest shift in x and y, as a share of the side."""
    gain: tuple[float, float] = (1.0, 1.0)
    """Exposure: factor on all values."""
    gamma: tuple[float, float] = (1.0, 1.0)
    contrast: tuple[float, float] = (1.0, 1.0)
    """Factor on the distance from the mean grey level."""
    noise: float = 0.0
    """Largest standard deviation of Gaussian noise, the same in all channels."""


PRESETS: dict[str, Strength] = {
    "none": Strength(),
    "light": Strength(flips=True, gain=(0.8, 1.25), contrast=(0.9, 1.1)),
    "medium": Strength(
        flips=True,
        rotation=5.0,
        scale=1.1,
        shift=0.04,
        gain=(0.67, 1.5),
        gamma=(0.8, 1.25),
        contrast=(0.8, 1.25),
        noise=0.01,
    ),
    "standard": Strength(
        flips=True,
        rotation=10.0,
        scale=1.15,
        shift=0.06,
        gain=(0.5, 1.6),
        gamma=(0.7, 1.4),
        contrast=(0.7, 1.4),
        noise=0.02,
    ),
}


class Augment:
    """Random change of a sample; the image stays in [0, 1], the mask binary and aligned with it.

    Flips, one affine map (rotation, magnification, shift), then gain, gamma, contrast and noise.
    A twin gets the same change, noise included: the two pictures differ where they did before.
    Pixels from outside the image repeat its border: black would make a frame, and a reflected dark
    rim looks like a crack on a normal part. The mask is warped bilinearly in the same way and made
    binary by `most_covered`, so that small defects survive. The affine map is skipped if it moves
    more than half of an annotated defect out of the image, because the label would then be wrong.

    Args:
        preset: "none", "light" (flips and small changes of brightness), "medium", "standard", or
            a `Strength`.

    Raises:
        ValueError: an unknown preset.
    """

    def __init__(self, preset: str | Strength = "standard") -> None:
        if isinstance(preset, str) and preset not in PRESETS:
            raise ValueError(
                f"Expected the augmentation to be one of {', '.join(PRESETS)}; found {preset!r}."
            )
        self.strength = PRESETS[preset] if isinstance(preset, str) else preset

    def __call__(self, sample: Sample, generator: torch.Generator) -> Sample:
        """The augmented sample; all random numbers come from the CPU `generator`."""
        from torchvision.transforms.v2 import functional as F  # on demand: it takes a second

        s = self.strength
        flip_x, flip_y, *draws = torch.rand(10, generator=generator).tolist()
        mask = sample.mask
        photos = torch.stack([p for p in (sample.image, sample.twin) if p is not None])
        axes = [axis for axis, u in ((-1, flip_x), (-2, flip_y)) if s.flips and u < 0.5]
        if axes:
            photos, mask = photos.flip(axes), mask.flip(axes)
        if s.rotation or s.shift or s.scale != 1:
            photos, mask = self._warp(photos, mask, draws[:4])
        gain, gamma, contrast = (
            _log_uniform(u, *bounds)
            for u, bounds in zip(draws[4:7], (s.gain, s.gamma, s.contrast), strict=True)
        )
        if gain != 1:
            photos = F.adjust_brightness(photos, gain)
        if gamma != 1:
            photos = F.adjust_gamma(photos, gamma)
        if contrast != 1:
            # The image's mean for both: with its own mean the twin would differ everywhere.
            mean = F.rgb_to_grayscale(photos[:1]).mean()
            photos = photos.mul(contrast).add_(mean, alpha=1 - contrast).clamp_(0, 1)
        if s.noise:
            grain = torch.randn(1, *photos.shape[2:], generator=generator)
            photos = (photos + grain * (draws[7] * s.noise)).clamp_(0, 1)
        twin = None if sample.twin is None else photos[1]
        return sample._replace(image=photos[0], mask=mask, twin=twin)

    def _warp(self, photos: Tensor, mask: Tensor, draws: Sequence[float]) -> tuple[Tensor, Tensor]:
        """Photos (n, 3, H, W) and mask (1, H, W), moved alike."""
        s = self.strength
        angle = math.radians(s.rotation * (2 * draws[0] - 1))
        magnification = _log_uniform(draws[1], 1 / s.scale, s.scale)
        dx, dy = (2 * s.shift * (2 * u - 1) for u in draws[2:4])
        cos, sin = math.cos(angle) / magnification, math.sin(angle) / magnification
        # From output to input, both in [-1, 1]: undo the shift, then rotation and scale.
        theta = torch.tensor([[[cos, sin, -cos * dx - sin * dy], [-sin, cos, sin * dx - cos * dy]]])
        marked = bool(mask.any())
        planes = torch.cat([*photos, mask] if marked else [*photos])[None]
        grid = nn_functional.affine_grid(theta, list(planes.shape), align_corners=False)
        warped = nn_functional.grid_sample(
            planes, grid, padding_mode="border", align_corners=False
        )[0]
        moved = warped[: 3 * len(photos)].clamp(0, 1).view_as(photos)
        if not marked:
            return moved, mask
        coverage = warped[3 * len(photos) :].clamp(0, 1)
        if coverage.sum() < 0.5 * magnification**2 * mask.sum():
            return photos, mask
        return moved, most_covered(coverage).to(mask.dtype)


class AugmentedDataset(Dataset[Sample]):
    """`dataset` with `augment` applied; call `set_epoch` before each epoch.

    The changes of a sample are a function of (seed, epoch, index).
    """

    def __init__(self, dataset: Dataset[Sample], augment: Augment, seed: int) -> None:
        described = cast(Described, dataset)
        self.dataset, self.augment, self.seed = dataset, augment, seed
        self.labels, self.names = described.labels, described.names
        self.groups, self.defect_types = described.groups, described.defect_types
        # In shared memory, so that persistent workers see the next epoch.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Use the random numbers of this epoch, also in running `DataLoader` workers."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        index = range(len(self))[index]
        entropy = np.random.SeedSequence([self.seed, int(self._epoch), index])
        generator = torch.Generator().manual_seed(int(entropy.generate_state(1, np.uint64)[0] >> 1))
        return self.augment(self.dataset[index], generator)


def _log_uniform(u: float, low: float, high: float) -> float:
    return math.exp(math.log(low) + u * (math.log(high) - math.log(low)))
