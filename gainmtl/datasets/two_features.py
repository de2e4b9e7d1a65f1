"""Parts with two features that both follow the label: a strong one and a weak one.

A defective part carries a *strong* feature, large and of high contrast, a *weak* one, small and
faint, or both, never touching each other; each has a mask of its own. The same part can be had with
either of them taken away, which is how to ask what a network has learned of each.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from gainmtl.datasets.data import Data, counts_of
from gainmtl.datasets.defects import DEFECTS, Defect
from gainmtl.datasets.rendering import (
    EXPOSURE,
    SURFACE,
    light,
    quantise,
    reflectance_factor,
    stream,
    visible,
)
from gainmtl.datasets.textures import TEXTURES, Array
from gainmtl.types import NORMAL, Sample

FEATURES = ("strong", "weak")
KINDS = {"strong": "chip", "weak": "blowhole"}
"""The defect function of each: of different looks, so that one can't be learned by the other."""
SPLITS = ("train", "val", "test")
VERSION = 1
"""Part of the fingerprint; goes up whenever the same settings would give other pixels."""
GAP = 8
"""At least so many pixels between the two, at 64 pixels per side: two cells of a stride of 4."""
_STRONG, _WEAK, _ORDER, _TEXTURE = range(200, 204)
_TRIES = 40


@dataclasses.dataclass(frozen=True)
class FeatureDials:
    """Settings of the two features; both follow the label in every split."""

    image_size: int = 64
    seed: int = 0
    train: int = 240
    val: int = 80
    test: int = 160
    defect_rate: float = 0.5
    weak_alone: float = 0.0
    """Share of the defective parts that carry the weak feature only: there a verdict needs it."""
    strong_size: float = 1.5
    strong_contrast: float = 1.2
    weak_size: float = 0.9
    weak_contrast: float = 0.6

    def __post_init__(self) -> None:
        rules = {
            "image_size": 32 <= self.image_size <= 1024,
            "seed": self.seed >= 0,
            "train": self.train >= 4,
            "val": self.val >= 4,
            "test": self.test >= 4,
            "defect_rate": 0 < self.defect_rate < 1,
            "weak_alone": 0 <= self.weak_alone <= 1,
            "strong_size": 0.25 <= self.strong_size <= 4,
            "strong_contrast": 0.1 <= self.strong_contrast <= 3,
            "weak_size": 0.25 <= self.weak_size <= 4,
            "weak_contrast": 0.1 <= self.weak_contrast <= 3,
        }
        wrong = [f"{name}={getattr(self, name)!r}" for name, good in rules.items() if not good]
        if wrong:
            raise ValueError(f"two features: impossible value of {', '.join(wrong)}")


class _Scene(NamedTuple):
    """What a part looks like before anything is chosen to be shown."""

    lit: Array
    noise: Array
    factors: dict[str, Array]


class TwoFeatures(Dataset[Sample]):
    """One split. `labels`, `has_mask` (N,) bool, `groups`, `names`; `defect_types` is "both",
    "weak" or normal; a sample's mask is the union of the masks of what it shows."""

    def __init__(self, dials: FeatureDials, split: str) -> None:
        self.dials, self.split = dials, split
        count, code = int(getattr(dials, split)), SPLITS.index(split)
        self._code = code
        bad = max(1, min(count - 1, round(count * dials.defect_rate)))
        order = stream(dials.seed, code, _ORDER).permutation(count)
        weak_only = round(bad * dials.weak_alone)
        self.labels: NDArray[np.bool_] = order < bad
        self.shows: dict[str, NDArray[np.bool_]] = {
            "strong": (order < bad) & (order >= weak_only),
            "weak": self.labels.copy(),
        }
        """By feature, whether a part carries it."""
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
        i = self._index(index)
        if i not in self._samples:
            shown = [name for name in FEATURES if self.shows[name][i]]
            mask = torch.zeros(1, self.dials.image_size, self.dials.image_size)
            for name in shown:
                mask = torch.maximum(mask, self.feature_mask(i, name))
            self._samples[i] = Sample(
                self.picture(i, *shown), bool(self.labels[i]), mask, True, self.defect_types[i],
                self.groups[i], self.names[i],
            )  # fmt: skip
        return self._samples[i]

    def picture(self, index: int, *features: str) -> Tensor:
        """(3, H, W) in [0, 1]: the part with exactly these features, whatever it carries.

        Surface, light and noise are the same for every choice.
        """
        scene = self._scene(self._index(index))
        lit = scene.lit
        for name in features:
            lit = lit * scene.factors[name]
        return torch.from_numpy(quantise(np.clip(lit + scene.noise, 0, 1))).float().div_(255)

    def feature_mask(self, index: int, feature: str) -> Tensor:
        """(1, H, W), 0 or 1: where a feature changes the picture visibly, or would if shown."""
        scene = self._scene(self._index(index))
        clean = np.clip(scene.lit + scene.noise, 0, 1)
        image = np.clip(scene.lit * scene.factors[feature] + scene.noise, 0, 1)
        return torch.from_numpy(visible(image, clean, scene.lit)).float()[None]

    def fingerprint(self) -> str:
        """A string that changes when the split's content does."""
        text = json.dumps([VERSION, self.split, dataclasses.asdict(self.dials)], sort_keys=True)
        return f"two-features-{self.split}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    def _index(self, index: int) -> int:
        if not -len(self) <= index < len(self):
            raise IndexError(f"expected an index below {len(self)}, got {index}")
        return int(index) % len(self)

    def _scene(self, i: int) -> _Scene:
        if i not in self._scenes:
            self._scenes[i] = self._make_scene(i)
        return self._scenes[i]

    def _make_scene(self, i: int) -> _Scene:
        dials = self.dials
        size = dials.image_size

        def rng(purpose: int, *key: int) -> np.random.Generator:
            return stream(dials.seed, self._code, purpose, i, *key)

        name = list(TEXTURES)[int(rng(_TEXTURE).integers(len(TEXTURES)))]
        surface = TEXTURES[name](rng(SURFACE), size)
        exposure = rng(EXPOSURE, 0)
        lit = surface.reflectance[None] * surface.tint[:, None, None] * light(exposure, size)
        sigma = np.float32(exposure.uniform(0.004, 0.016))
        noise = sigma * exposure.standard_normal((size, size), dtype=np.float32)
        strong = DEFECTS[KINDS["strong"]](rng(_STRONG), size, dials.strong_size)
        taken = _grown(strong.change != 0, round(GAP * size / 64))
        weak: Defect | None = None
        least = -1
        for attempt in range(_TRIES):
            tried = DEFECTS[KINDS["weak"]](rng(_WEAK, attempt), size, dials.weak_size)
            if not tried.change.any():
                continue
            touching = int((taken & (tried.change != 0)).sum())
            if weak is None or touching < least:
                weak, least = tried, touching
            if not touching:
                break
        assert weak is not None
        factors = {
            "strong": reflectance_factor(strong, dials.strong_contrast),
            "weak": reflectance_factor(weak, dials.weak_contrast),
        }
        return _Scene(lit, noise, factors)


def _grown(mask: NDArray[np.bool_], reach: int) -> NDArray[np.bool_]:
    """All pixels of (H, W) at most `reach` away, by the larger of both distances."""
    grown = torch.from_numpy(mask.astype(np.float32))[None, None]
    kernel = 2 * reach + 1
    found = torch.nn.functional.max_pool2d(grown, kernel, stride=1, padding=reach)
    return np.asarray(found[0, 0].numpy() > 0)


def two_features(**dials: float) -> Data:
    """The three splits as `Data`; the keywords are the fields of `FeatureDials`.

    Raises: ValueError for an impossible value.
    """
    chosen = FeatureDials(**dials)  # type: ignore[arg-type]
    train, val, test = (TwoFeatures(chosen, split) for split in SPLITS)
    text = json.dumps([part.fingerprint() for part in (train, val, test)])
    return Data(
        name="two features", train=train, val=val, test=test,
        fingerprint=hashlib.sha256(text.encode()).hexdigest(), image_size=chosen.image_size,
        fold=0, folds=1, split="drawn",
        counts={"train": counts_of(train), "val": counts_of(val), "test": counts_of(test)},
    )  # fmt: skip
