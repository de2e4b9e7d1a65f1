"""Parts of a data set: normal images only, or some exposures only."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection
from typing import cast

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from gainmtl.datasets.data import Data, Described, counts_of
from gainmtl.types import Sample

EXPOSURE = re.compile(r"(?:^|/)exp(\d+)_num_\d+(?:\.\w+)?(?:, seed \d+)?$")
"""The exposure in a magnetic tile's file name, `exp1_num_2345.jpg`; a higher number is a brighter
photograph of the tile. Result rows pooled over seeds append the seed to the name."""


class SelectedDataset(Dataset[Sample]):
    """The samples of `dataset` at `indices` (N,), in their order; see `Described`."""

    def __init__(self, dataset: Dataset[Sample], indices: NDArray[np.int64]) -> None:
        described = cast(Described, dataset)
        self.dataset, self.indices = dataset, indices
        self.labels, self.has_mask = described.labels[indices], described.has_mask[indices]
        self.names = tuple(described.names[i] for i in indices)
        self.groups = tuple(described.groups[i] for i in indices)
        self.defect_types = tuple(described.defect_types[i] for i in indices)
        empty = getattr(dataset, "empty_masks", np.zeros_like(described.labels))
        self.empty_masks = empty[indices]
        self.resize = getattr(dataset, "resize", "squash")

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        return self.dataset[int(self.indices[range(len(self))[index]])]


def normal_only(data: Data) -> Data:
    """`data` without the defective images of its training and validation parts.

    An anomaly detector is trained and its threshold is set on normal images. The test part is
    unchanged, so a detector and a classifier of the same fold are tested on the same images.

    Raises:
        ValueError: no normal image in the training or the validation part.
    """
    parts = {}
    for name in ("train", "val"):
        dataset = getattr(data, name)
        parts[name] = SelectedDataset(dataset, np.flatnonzero(~cast(Described, dataset).labels))
        if not len(parts[name]):
            raise ValueError(
                f"{data.name}: expected normal images in the {name} part, found none; an anomaly "
                "detector learns only from normal images. Use another split, seed or validation "
                "share"
            )
    return _replace_parts(data, parts, "normal images only")


def exposure_of(name: str) -> int:
    """The number of the exposure in a magnetic tile's name.

    Raises:
        ValueError: a name without an exposure.
    """
    match = EXPOSURE.search(name)
    if match is None:
        raise ValueError(f"Expected a name with its exposure, like exp1_num_2345.jpg; found {name}")
    return int(match[1])


def limit_exposures(data: Data, exposures: Collection[int]) -> Data:
    """`data` with only these exposures in its training and validation parts.

    The test part is unchanged, so the same parts are tested in every exposure, while the model and
    its threshold come from the given ones. Without exposures: `data` itself.

    Raises:
        ValueError: a name without an exposure, or a part of `data` without any of `exposures`.
    """
    if not exposures:
        return data
    parts = {}
    for name in ("train", "val"):
        dataset = getattr(data, name)
        numbers = [exposure_of(image) for image in cast(Described, dataset).names]
        kept = [number in exposures for number in numbers]
        if not any(kept):
            raise ValueError(
                f"exposures: expected some among {name}'s {sorted(set(numbers))}, "
                f"got {sorted(exposures)}"
            )
        parts[name] = SelectedDataset(dataset, np.flatnonzero(kept))
    return _replace_parts(data, parts, f"exposures {' '.join(map(str, sorted(exposures)))}")


def _replace_parts(data: Data, parts: dict[str, SelectedDataset], rule: str) -> Data:
    """`data` with other training and validation parts; `rule` enters the fingerprint."""
    return dataclasses.replace(
        data,
        train=parts["train"],
        val=parts["val"],
        fingerprint=f"{data.fingerprint}, {rule}",
        counts={**data.counts, **{name: counts_of(part) for name, part in parts.items()}},
    )
