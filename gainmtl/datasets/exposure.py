"""Which light a part was photographed in: train on some exposures, ask about others."""

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
"""The magnetic tiles' file names say it, `exp1_num_2345.jpg`: a higher number is a brighter
photograph of the tile. Pooled over seeds, an image carries its seed after the name."""


def exposure_of(name: str) -> int:
    """The number of the exposure in a magnetic tile's name.

    Raises:
        ValueError: a name that says none.
    """
    found = EXPOSURE.search(name)
    if found is None:
        raise ValueError(f"Expected a name like exp1_num_2345.jpg, which says the exposure: {name}")
    return int(found[1])


class ChosenDataset(Dataset[Sample]):
    """The samples of `dataset` at `indices`, in their order."""

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


def limit_exposures(data: Data, exposures: Collection[int]) -> Data:
    """`data` with training and validation images of these exposures alone; the test is whole.

    So a model and its threshold know nothing of the other light, and one test fold holds the same
    parts in both. No exposures: `data` as it is.

    Raises:
        ValueError: a name that says no exposure, or a part of `data` that none of them is in.
    """
    if not exposures:
        return data
    chosen = {}
    for part in ("train", "val"):
        dataset = getattr(data, part)
        kept = [exposure_of(name) in exposures for name in cast(Described, dataset).names]
        if not any(kept):
            raise ValueError(f"exposures: expected some among {part}'s, got {sorted(exposures)}")
        chosen[part] = ChosenDataset(dataset, np.flatnonzero(kept))
    rule = f"exposures {' '.join(map(str, sorted(exposures)))}"
    return dataclasses.replace(
        data,
        train=chosen["train"],
        val=chosen["val"],
        fingerprint=f"{data.fingerprint}, {rule}",
        counts={**data.counts, **{part: counts_of(one) for part, one in chosen.items()}},
    )
