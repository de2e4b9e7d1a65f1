"""Parts with two features that both follow the label: a strong one and a weak one.

A defective part has a *strong* feature, large and of high contrast, and a *weak* one, small and
faint, or only the weak one. The features do not touch, and each has its own mask. Each part can be
rendered with any of the two features, which shows what a network has learned of each.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.utils.data import Dataset

from gainmtl.datasets.checks import check_values, checked_index
from gainmtl.datasets.data import Data, counts_of
from gainmtl.datasets.synthetic.defects import DEFECTS, Defect
from gainmtl.datasets.synthetic.plan import SPLITS
from gainmtl.datasets.synthetic.rendering import (
    EXPOSURE,
    SURFACE,
    light,
    quantise,
    reflectance_factor,
    stream,
    visible,
)
from gainmtl.datasets.synthetic.textures import TEXTURES, Array
from gainmtl.types import NORMAL, Sample

FEATURES = ("strong", "weak")
KINDS = {"strong": "chip", "weak": "blowhole"}
"""The defect function of each. They look different: learning one does not teach the other."""
VERSION = 1
"""Part of the fingerprint; increase it if equal settings give different pixels."""
GAP = 8
"""Smallest distance of the two features in pixels of a 64-pixel image: two cells at stride 4."""
_STRONG, _WEAK, _ORDER, _TEXTURE = range(200, 204)
_TRIES = 40


@dataclasses.dataclass(frozen=True)
class TwoFeaturesSettings:
    """Settings of the two features; both follow the label in every split."""

    image_size: int = 64
    seed: int = 0
    train: int = 240
    val: int = 80
    test: int = 160
    defect_rate: float = 0.5
    weak_alone: float = 0.0
    """Share of the defective parts that have only the weak feature."""
    strong_size: float = 1.5
    strong_contrast: float = 1.2
    weak_size: float = 0.9
    weak_contrast: float = 0.6

    def __post_init__(self) -> None:
        limits = {
            "image_size": (32, 1024), "seed": (0, math.inf), "train": (4, math.inf),
            "val": (4, math.inf), "test": (4, math.inf), "weak_alone": (0, 1),
            "strong_size": (0.25, 4), "strong_contrast": (0.1, 3), "weak_size": (0.25, 4),
            "weak_contrast": (0.1, 3),
        }  # fmt: skip
        rules = {
            name: (
                f"a number from {low} to {high}" if high < math.inf else f"at least {low}",
                low <= getattr(self, name) <= high,
            )
            for name, (low, high) in limits.items()
        }
        rules["defect_rate"] = ("a number in (0, 1)", 0 < self.defect_rate < 1)
        check_values("two features", self, rules)


class _Scene(NamedTuple):
    """A part before its features are applied: light (3, H, W), noise, and factors per feature."""

    lit: Array
    noise: Array
    factors: dict[str, Array]


class TwoFeatures(Dataset[Sample]):
    """One split with `labels` and `has_mask` (N,) bool, `groups` and `names`.

    `defect_types` are "both", "weak" or normal. A sample's mask is the union of its features'.
    """

    def __init__(self, settings: TwoFeaturesSettings, split: str) -> None:
        self.settings, self.split = settings, split
        count, code = int(getattr(settings, split)), SPLITS.index(split)
        self._code = code
        bad = max(1, min(count - 1, round(count * settings.defect_rate)))
        order = stream(settings.seed, code, _ORDER).permutation(count)
        weak_only = round(bad * settings.weak_alone)
        self.labels: NDArray[np.bool_] = order < bad
        self.shows: dict[str, NDArray[np.bool_]] = {
            "strong": (order < bad) & (order >= weak_only),
            "weak": self.labels.copy(),
        }
        """By feature: whether each part has it."""
        self.has_mask: NDArray[np.bool_] = np.ones(count, dtype=bool)
        kinds = np.where(self.shows["strong"], "both", np.where(self.labels, "weak", NORMAL))
        self.defect_types: list[str] = kinds.tolist()
        self.names = [f"{split}/{i:05d}" for i in range(count)]
        self.groups = list(self.names)
        self._scenes: dict[int, _Scene] = {}
        self._samples: dict[int, Sample] = {}

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        i = checked_index(index, len(self))
        if i not in self._samples:
            shown = [name for name in FEATURES if self.shows[name][i]]
            mask = torch.zeros(1, self.settings.image_size, self.settings.image_size)
            for name in shown:
                mask = torch.maximum(mask, self.feature_mask(i, name))
            self._samples[i] = Sample(
                self.picture(i, *shown), bool(self.labels[i]), mask, True, self.defect_types[i],
                self.groups[i], self.names[i],
            )  # fmt: skip
        return self._samples[i]

    def picture(self, index: int, *features: str) -> Tensor:
        """(3, H, W) in [0, 1]: the part rendered with exactly these features.

        Surface, light and noise are the same for every choice of features.
        """
        scene = self._scene(checked_index(index, len(self)))
        lit = scene.lit
        for name in features:
            lit = lit * scene.factors[name]
        return torch.from_numpy(quantise(np.clip(lit + scene.noise, 0, 1))).float().div_(255)

    def feature_mask(self, index: int, feature: str) -> Tensor:
        """(1, H, W), 0 or 1: where a feature, rendered alone, changes the image visibly."""
        scene = self._scene(checked_index(index, len(self)))
        clean = np.clip(scene.lit + scene.noise, 0, 1)
        image = np.clip(scene.lit * scene.factors[feature] + scene.noise, 0, 1)
        return torch.from_numpy(visible(image, clean, scene.lit)).float()[None]

    def fingerprint(self) -> str:
        """A string that changes when the split's content does."""
        text = json.dumps([VERSION, self.split, dataclasses.asdict(self.settings)], sort_keys=True)
        return f"two-features-{self.split}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    def _scene(self, i: int) -> _Scene:
        if i not in self._scenes:
            self._scenes[i] = self._make_scene(i)
        return self._scenes[i]

    def _make_scene(self, i: int) -> _Scene:
        settings = self.settings
        size = settings.image_size

        def rng(purpose: int, *key: int) -> np.random.Generator:
            return stream(settings.seed, self._code, purpose, i, *key)

        name = list(TEXTURES)[int(rng(_TEXTURE).integers(len(TEXTURES)))]
        surface = TEXTURES[name](rng(SURFACE), size)
        exposure = rng(EXPOSURE, 0)
        lit = surface.reflectance[None] * surface.tint[:, None, None] * light(exposure, size)
        sigma = np.float32(exposure.uniform(0.004, 0.016))
        noise = sigma * exposure.standard_normal((size, size), dtype=np.float32)
        strong = DEFECTS[KINDS["strong"]](rng(_STRONG), size, settings.strong_size)
        # Grown by the gap in every direction.
        taken = ndimage.maximum_filter(strong.change != 0, 2 * round(GAP * size / 64) + 1)
        weak: Defect | None = None
        least = -1
        # Draw until it keeps the gap; after `_TRIES` draws the one with the least overlap is taken.
        for attempt in range(_TRIES):
            drawn = DEFECTS[KINDS["weak"]](rng(_WEAK, attempt), size, settings.weak_size)
            if not drawn.change.any():
                continue
            overlap = int((taken & (drawn.change != 0)).sum())
            if weak is None or overlap < least:
                weak, least = drawn, overlap
            if not overlap:
                break
        assert weak is not None
        factors = {
            "strong": reflectance_factor(strong, settings.strong_contrast),
            "weak": reflectance_factor(weak, settings.weak_contrast),
        }
        return _Scene(lit, noise, factors)


def make_two_features(**settings: float) -> Data:
    """The three splits as `Data`; keywords are the fields of `TwoFeaturesSettings`.

    Raises:
        ValueError: an impossible value.
    """
    checked = TwoFeaturesSettings(**settings)  # type: ignore[arg-type]
    train, val, test = (TwoFeatures(checked, split) for split in SPLITS)
    text = json.dumps([part.fingerprint() for part in (train, val, test)])
    return Data(
        name="two features", train=train, val=val, test=test,
        fingerprint=hashlib.sha256(text.encode()).hexdigest(), image_size=checked.image_size,
        fold=0, folds=1, split="drawn",
        counts={"train": counts_of(train), "val": counts_of(val), "test": counts_of(test)},
    )  # fmt: skip
