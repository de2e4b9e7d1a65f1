"""Synthetic parts: procedural surfaces and defects with exact masks, and dials to turn.

Nothing is read or stored: sample i of a split is a function of the seed, the split and i.
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
from gainmtl.datasets.dials import Dials
from gainmtl.datasets.plan import SPLITS, Plan, make_plan
from gainmtl.datasets.rendering import Rendering, Scene, render
from gainmtl.types import Sample

VERSION = 1
"""Part of the fingerprint; goes up whenever the same dials would give other pixels."""

CACHE_BYTES = 2**30
"""A split is kept in memory as uint8 when all of it fits into this."""


class SyntheticDataset(Dataset[Sample]):
    """One split. Everything but the pixels is known without rendering.

    `labels` (N,) bool, `defect_types`, `has_mask` (N,) bool: what the dataset claims, with the
    label noise and contamination that the dials ask for. `true_labels`, `true_defect_types`:
    what the part really is. `marked` (N,) bool: whether it carries the printed mark.
    """

    def __init__(self, dials: Dials, split: str) -> None:
        self.dials = dials
        self.split = split
        plan = make_plan(dials, split)
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
        self._caches = 4 * dials.image_size**2 * len(self.names) <= CACHE_BYTES

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        i = self._index(index)
        pixels, exact = self._pixels(i)
        defective, has_mask = bool(self.labels[i]), bool(self.has_mask[i])
        mask = torch.zeros(1, *pixels.shape[1:])
        if defective and has_mask:
            mask = torch.from_numpy(exact).float()
            if self.split == "train":
                mask = coarsen(mask, self.dials.mask_quality)
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
        # A worker process renders anew faster than it would unpickle a full cache.
        return self.__dict__ | {"_cache": {}}

    def render(self, index: int, marked: bool | None = None) -> Rendering:
        """Image, clean counterpart, exact mask and mark of sample `index`, as uint8 arrays.

        `marked` true or false prints or removes the mark and leaves all else as it is: the
        intervention that tells whether a verdict hangs on it.
        """
        i = self._index(index)
        plan, dials = self._plan, self.dials
        return render(
            Scene(
                seed=dials.seed,
                split=SPLITS.index(self.split),
                part=int(plan.part[i]),
                view=int(plan.view[i]),
                size=dials.image_size,
                texture=plan.texture[i],
                defect=plan.true_types[i] if plan.true_labels[i] else None,
                defect_size=dials.defect_size,
                defect_contrast=dials.defect_contrast,
                marked=bool(plan.marked[i] if marked is None else marked),
            )
        )

    def clean_image(self, index: int) -> Tensor:
        """(3, H, W) in [0, 1]: the same part, light, noise and mark without the defect."""
        return _unit(self.render(index).clean)

    def exact_mask(self, index: int) -> Tensor:
        """(1, H, W), 0 or 1: where the defect really is, whatever the labels claim."""
        return torch.from_numpy(self._pixels(self._index(index))[1]).float()

    def mark_mask(self, index: int) -> Tensor:
        """(1, H, W), 0 or 1: where the printed mark is; all zero on an unmarked part."""
        return torch.from_numpy(self.render(index).mark_mask).float()

    def fingerprint(self) -> str:
        """A string that changes when the split's content does."""
        text = json.dumps([VERSION, self.split, asdict(self.dials)], sort_keys=True)
        return f"synthetic-{self.split}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    def _index(self, index: int) -> int:
        if not -len(self) <= index < len(self):
            raise IndexError(f"expected an index below {len(self)}, got {index}")
        return int(index) % len(self)

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


def make(**dials: Any) -> tuple[SyntheticDataset, SyntheticDataset, SyntheticDataset]:
    """The training, validation and test splits; the keywords are the fields of `Dials`.

    Raises: ValueError for an unknown dial or an impossible value.
    """
    Dials.check_names(dials)
    chosen = Dials(**dials)
    return (
        SyntheticDataset(chosen, "train"),
        SyntheticDataset(chosen, "val"),
        SyntheticDataset(chosen, "test"),
    )
