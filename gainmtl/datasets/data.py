"""A data set, split and counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from gainmtl.types import NORMAL, Sample


class Described(Protocol):
    """What is known of a dataset without decoding an image."""

    labels: NDArray[np.bool_]
    has_mask: NDArray[np.bool_]

    @property
    def groups(self) -> Sequence[str]: ...
    @property
    def names(self) -> Sequence[str]: ...
    @property
    def defect_types(self) -> Sequence[str]: ...


def counts_of(part: Described) -> dict[str, int]:
    """One entry of `Data.counts`."""
    unmasked = part.labels & ~part.has_mask
    empty = getattr(part, "empty_masks", np.zeros_like(unmasked))
    return {
        "images": len(part.labels),
        "normal": int((~part.labels).sum()),
        "defective": int(part.labels.sum()),
        "defective_without_mask": int((unmasked & ~empty).sum()),
        "empty_masks": int(empty.sum()),
        "groups": len(set(part.groups)),
    }


@dataclass(frozen=True)
class Data:
    """A data set, split. `counts["train"]["defective"]` and the like describe it."""

    name: str
    train: Dataset[Sample]
    val: Dataset[Sample]
    test: Dataset[Sample]
    fingerprint: str
    """The same for all folds; see `fingerprint`."""
    image_size: int
    fold: int
    folds: int
    """Number of different test sets; 1 for an official split."""
    split: str
    """"official", "folds", "leaking" or, for built-in data, "drawn"."""
    counts: dict[str, dict[str, int]]
    """Per split: images, normal, defective, defective_without_mask, empty_masks, groups."""

    def classes_in_train(self) -> tuple[str, ...]:
        """`("normal", "defective")`, or the one of them that the training part holds.

        An official split for anomaly detection trains on normal images alone, which no
        classifier can.
        """
        return tuple(kind for kind in (NORMAL, "defective") if self.counts["train"][kind])

    def types(self) -> tuple[str, ...]:
        """`"normal"` and every defect type of the three parts, sorted: the classes of a model that
        tells types apart, `GAINMTL(num_classes=len(types), classes=types)`.

        Of all parts, so that every fold has the same classes.
        """
        parts: list[Any] = [self.train, self.val, self.test]
        found = {kind for part in parts for kind in part.defect_types}
        return (NORMAL, *sorted(found - {NORMAL}))

    def report(self) -> str:
        """The set in one short paragraph, missing and empty masks included."""
        parts = [
            f"{part} {c['images']} ({c['defective']} defective, {c['groups']} groups)"
            for part, c in self.counts.items()
        ]
        which = f", fold {self.fold} of {self.folds}" if self.folds > 1 else ""
        text = f"{self.name}{which}, {self.split} split: {'; '.join(parts)}."
        for key, meaning in (
            ("defective_without_mask", "Defective images without a mask file"),
            ("empty_masks", "Defective images whose mask marks nothing"),
        ):
            total = sum(c[key] for c in self.counts.values())
            if total:
                text += f" {meaning}: {total} (they teach and measure the verdict only)."
        if self.split == "leaking":
            text += " This split ignores groups: the test figures are too good."
        return text
