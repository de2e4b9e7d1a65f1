"""Joint augmentation of image and mask: one geometry for both, light for the image alone.

What is drawn for a sample depends on (seed, epoch, index) only. Global random states are
neither read nor changed, so a resumed run, or one with another number of workers, sees the
same pictures.
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
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from gainmtl.datasets.data import Described
from gainmtl.datasets.transforms import most_covered
from gainmtl.types import Sample


@dataclass(frozen=True)
class Strength:
    """Ranges to draw from; factors are drawn log-uniformly, so 2 and 1/2 are alike likely."""

    flips: bool = False
    """Mirror horizontally and vertically, each with probability 1/2."""
    rotation: float = 0.0
    """Degrees to either side."""
    scale: float = 1.0
    """Magnification from 1/scale to scale."""
    shift: float = 0.0
    """Share of the side, in both directions."""
    gain: tuple[float, float] = (1.0, 1.0)
    """Exposure: factor of all values."""
    gamma: tuple[float, float] = (1.0, 1.0)
    contrast: tuple[float, float] = (1.0, 1.0)
    """Factor of the distance from the mean grey."""
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
    """Change a sample at random; image stays in [0, 1], mask 0 or 1 and aligned with it.

    Flips, one affine map (rotation, magnification, shift), then gain, gamma, contrast and
    noise. What comes in from outside repeats the border pixels: black would be a frame, and a
    reflected dark rim looks like a crack on a normal part. The mask is carried along
    bilinearly, its border repeated likewise, and made binary by `most_covered`, so that small
    defects survive. If the map would push more than half of an annotated defect out of the
    picture it is left out: the label would otherwise speak of something that is not to be seen.

    Args:
        preset: "none", "light" (flips and little light), "medium", "standard", or a `Strength`.

    Raises:
        ValueError: no preset of that name.
    """

    def __init__(self, preset: str | Strength = "standard") -> None:
        if isinstance(preset, str) and preset not in PRESETS:
            raise ValueError(
                f"Expected the augmentation to be one of {', '.join(PRESETS)}; found {preset!r}."
            )
        self.strength = PRESETS[preset] if isinstance(preset, str) else preset

    def __call__(self, sample: Sample, generator: torch.Generator) -> Sample:
        """The augmented sample; all that is random comes from the CPU `generator`."""
        s = self.strength
        flip_x, flip_y, *draws = torch.rand(10, generator=generator).tolist()
        image: Tensor = tv_tensors.Image(sample.image)
        mask: Tensor = tv_tensors.Mask(sample.mask)
        if s.flips and flip_x < 0.5:
            image, mask = F.horizontal_flip(image), F.horizontal_flip(mask)
        if s.flips and flip_y < 0.5:
            image, mask = F.vertical_flip(image), F.vertical_flip(mask)
        image, mask = image.as_subclass(Tensor), mask.as_subclass(Tensor)
        if s.rotation or s.shift or s.scale != 1:
            image, mask = self._warp(image, mask, draws[:4])
        gain, gamma, contrast = (
            _log_uniform(u, *bounds)
            for u, bounds in zip(draws[4:7], (s.gain, s.gamma, s.contrast), strict=True)
        )
        if gain != 1:
            image = F.adjust_brightness(image, gain)
        if gamma != 1:
            image = F.adjust_gamma(image, gamma)
        if contrast != 1:
            image = F.adjust_contrast(image, contrast)
        if s.noise:
            grain = torch.randn(1, *image.shape[1:], generator=generator)
            image = (image + grain * (draws[7] * s.noise)).clamp_(0, 1)
        return sample._replace(image=image, mask=mask)

    def _warp(self, image: Tensor, mask: Tensor, draws: Sequence[float]) -> tuple[Tensor, Tensor]:
        s = self.strength
        angle = math.radians(s.rotation * (2 * draws[0] - 1))
        magnification = _log_uniform(draws[1], 1 / s.scale, s.scale)
        dx, dy = (2 * s.shift * (2 * u - 1) for u in draws[2:4])
        cos, sin = math.cos(angle) / magnification, math.sin(angle) / magnification
        # From output to input, both in [-1, 1]: undo the shift, then rotation and scale.
        theta = torch.tensor([[[cos, sin, -cos * dx - sin * dy], [-sin, cos, sin * dx - cos * dy]]])
        marked = bool(mask.any())
        planes = torch.cat([image, mask] if marked else [image])[None]
        grid = nn_functional.affine_grid(theta, list(planes.shape), align_corners=False)
        warped = nn_functional.grid_sample(
            planes, grid, padding_mode="border", align_corners=False
        )[0]
        moved = warped[:3].clamp(0, 1)
        if not marked:
            return moved, mask
        coverage = warped[3:].clamp(0, 1)
        if coverage.sum() < 0.5 * magnification**2 * mask.sum():
            return image, mask
        return moved, most_covered(coverage).to(mask.dtype)


class AugmentedDataset(Dataset[Sample]):
    """`dataset` seen through `augment`; call `set_epoch` before each epoch.

    Sample `index` of an epoch is a function of (seed, epoch, index).
    """

    def __init__(self, dataset: Dataset[Sample], augment: Augment, seed: int) -> None:
        described = cast(Described, dataset)
        self.dataset = dataset
        self.augment = augment
        self.seed = seed
        self.labels = described.labels
        self.groups = described.groups
        self.names = described.names
        self.defect_types = described.defect_types
        # Shared, so that workers that outlive an epoch learn of the next one.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Draw anew for this epoch; seen by running `DataLoader` workers too."""
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
