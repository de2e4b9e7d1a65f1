"""Synthetic parts: rendered surfaces and defects with exact masks.

Nothing is read or stored: sample i of a split is a function of the settings, the split and i.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from gainmtl.datasets.annotation import coarsen
from gainmtl.datasets.checks import check_settings, checked_index
from gainmtl.datasets.synthetic.plan import SPLITS, Plan, make_plan
from gainmtl.datasets.synthetic.rendering import Rendering, Scene, render
from gainmtl.datasets.synthetic.settings import SyntheticSettings
from gainmtl.types import Sample

VERSION = 1
"""Part of the fingerprint; increase it if equal settings give different pixels."""

CACHE_BYTES = 2**30
"""A split is cached in memory as uint8 if all of it takes at most this."""


class SyntheticDataset(Dataset[Sample]):
    """One split. All attributes are available without rendering.

    `labels` (N,) bool, `defect_types` and `has_mask` (N,) bool include the label noise and the
    contamination of the settings; `true_labels` and `true_defect_types` do not. `marked` (N,)
    bool: whether the part has the printed mark.
    """

    def __init__(self, settings: SyntheticSettings, split: str) -> None:
        self.settings = settings
        self.split = split
        plan = make_plan(settings, split)
        self._plan: Plan = plan
        self.labels: NDArray[np.bool_] = plan.labels
        self.true_labels: NDArray[np.bool_] = plan.true_labels
        self.has_mask: NDArray[np.bool_] = plan.has_mask
        self.marked: NDArray[np.bool_] = plan.marked
        self.defect_types: list[str] = plan.types
        self.true_defect_types: list[str] = plan.true_types
        self.textures: list[str] = plan.texture
        self.groups: list[str] = [f"{split}/part-{part:05d}" for part in plan.part]
        self.names: list[str] = [f"{split}/{i:05d}" for i in range(len(plan.part))]
        self._cache: dict[int, tuple[NDArray[np.uint8], NDArray[np.uint8]]] = {}
        self._caches = 4 * settings.image_size**2 * len(self.names) <= CACHE_BYTES

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        i = checked_index(index, len(self))
        pixels, exact = self._pixels(i)
        defective, has_mask = bool(self.labels[i]), bool(self.has_mask[i])
        mask = torch.zeros(1, *pixels.shape[1:])
        if defective and has_mask:
            mask = torch.from_numpy(exact).float()
            if self.split == "train":
                mask = coarsen(mask, self.settings.mask_quality)
        return Sample(
            image=_unit(pixels),
            is_defective=defective,
            mask=mask,
            has_mask=has_mask,
            defect_type=self.defect_types[i],
            group=self.groups[i],
            name=self.names[i],
        )

    def __getstate__(self) -> dict[str, Any]:
        # A worker process renders the images faster than it unpickles a full cache.
        return self.__dict__ | {"_cache": {}}

    def render(self, index: int, marked: bool | None = None) -> Rendering:
        """Image, clean counterpart, exact mask and mark of sample `index`, as uint8 arrays.

        `marked` true or false prints or removes the mark and changes nothing else: an intervention
        that shows whether a prediction depends on the mark.
        """
        i = checked_index(index, len(self))
        plan, settings = self._plan, self.settings
        return render(
            Scene(
                seed=settings.seed,
                split=SPLITS.index(self.split),
                part=int(plan.part[i]),
                view=int(plan.view[i]),
                size=settings.image_size,
                texture=plan.texture[i],
                defect=plan.true_types[i] if plan.true_labels[i] else None,
                defect_size=settings.defect_size,
                defect_contrast=settings.defect_contrast,
                marked=bool(plan.marked[i] if marked is None else marked),
            )
        )

    def clean_image(self, index: int) -> Tensor:
        """(3, H, W) in [0, 1]: the same part, light, noise and mark, without the defect."""
        return _unit(self.render(index).clean)

    def exact_mask(self, index: int) -> Tensor:
        """(1, H, W), 0 or 1: the mask of the true defect, whatever the label is."""
        return torch.from_numpy(self._pixels(checked_index(index, len(self)))[1]).float()

    def mark_mask(self, index: int) -> Tensor:
        """(1, H, W), 0 or 1: where the printed mark is; all zero on a part without one."""
        return torch.from_numpy(self.render(index).mark_mask).float()

    def fingerprint(self) -> str:
        """A string that changes when the split's content does."""
        text = json.dumps([VERSION, self.split, asdict(self.settings)], sort_keys=True)
        return f"synthetic-{self.split}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    def _pixels(self, i: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        if i in self._cache:
            return self._cache[i]
        rendering = self.render(i)
        result = rendering.image, rendering.mask
        if self._caches:
            self._cache[i] = result
        return result


def _unit(pixels: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(pixels).float().div_(255)


def make(**settings: Any) -> tuple[SyntheticDataset, SyntheticDataset, SyntheticDataset]:
    """The training, validation and test splits; keywords are the fields of `SyntheticSettings`.

    Raises:
        ValueError: an unknown setting or an impossible value.
    """
    check_settings(SyntheticSettings, settings, "synthetic data")
    checked = SyntheticSettings(**settings)
    train, val, test = (SyntheticDataset(checked, split) for split in SPLITS)
    return train, val, test
