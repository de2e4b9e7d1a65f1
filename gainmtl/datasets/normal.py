"""Normal images alone: what an anomaly detector may learn and be calibrated from."""

from __future__ import annotations

import dataclasses
from typing import cast

import numpy as np
from torch.utils.data import Dataset

from gainmtl.datasets.data import Data, Described, counts_of
from gainmtl.types import Sample


class NormalDataset(Dataset[Sample]):
    """The normal images of `dataset`, in its order; see `Described` for the attributes."""

    def __init__(self, dataset: Dataset[Sample]) -> None:
        described = cast(Described, dataset)
        self.dataset = dataset
        self.rows: list[int] = np.flatnonzero(~described.labels).tolist()
        self.labels = described.labels[self.rows]
        self.has_mask = described.has_mask[self.rows]
        self.names = tuple(described.names[row] for row in self.rows)
        self.groups = tuple(described.groups[row] for row in self.rows)
        self.defect_types = tuple(described.defect_types[row] for row in self.rows)
        self.resize = getattr(dataset, "resize", "squash")

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Sample:
        return self.dataset[self.rows[index]]


def normal_only(data: Data) -> Data:
    """`data` whose training and validation parts have lost their defective images.

    The test part stays: a detector and a classifier of the same fold are asked about the same
    images, and normal ones rotate with the folds. Defective images of the other folds are left out
    of the training, not moved to the test, so that every image is tested once.

    Raises:
        ValueError: no normal image to learn from, or none to set the threshold by.
    """
    parts = {name: NormalDataset(getattr(data, name)) for name in ("train", "val")}
    for name, part in parts.items():
        if not len(part):
            raise ValueError(
                f"{data.name}: the {name} part holds no normal image, and an anomaly detector "
                "learns from nothing else; use another split, seed or share for validation"
            )
    return dataclasses.replace(
        data,
        train=parts["train"],
        val=parts["val"],
        fingerprint=f"{data.fingerprint}, normal images only",
        counts={**data.counts, **{name: counts_of(part) for name, part in parts.items()}},
    )
