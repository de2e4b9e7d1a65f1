"""A data set with its splits and counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from gainmtl.types import NORMAL, Sample


class Described(Protocol):
    """The attributes of a dataset that need no decoded image; one entry per sample."""

    labels: NDArray[np.bool_]
    has_mask: NDArray[np.bool_]

    @property
    def groups(self) -> Sequence[str]: ...
    @property
    def names(self) -> Sequence[str]: ...
    @property
    def defect_types(self) -> Sequence[str]: ...


def counts_of(part: Described) -> dict[str, int]:
    """The counts of one split, an entry of `Data.counts`."""
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
    """A data set with its splits."""

    name: str
    train: Dataset[Sample]
    val: Dataset[Sample]
    test: Dataset[Sample]
    fingerprint: str
    """Hash of contents, labels, groups and split rule; the same for all folds."""
    image_size: int
    fold: int
    folds: int
    """Number of different test sets; 1 for an official split."""
    split: str
    """"official", "folds", "designs", "leaking" or, for built-in data, "drawn"."""
    counts: dict[str, dict[str, int]]
    """Per split the numbers of images, normal, defective, defective_without_mask, empty_masks and
    groups, as in `counts["train"]["defective"]`."""
    mask_rule: str = ""
    """Which pixels of the mask files are defect, as a sentence; empty without mask files."""
    findings: tuple[str, ...] = ()
    """Sentences on files that may be a mistake: not read, matching nothing, marking nothing."""

    @property
    def resize(self) -> str:
        """How the images were made square; "squash" for built-in data, which is square."""
        return str(getattr(self.train, "resize", "squash"))

    def classes_in_train(self) -> tuple[str, ...]:
        """`("normal", "defective")`, or only one of them if the training part has one class.

        Official splits for anomaly detection have only normal training images; a classifier can't
        be trained on them.
        """
        return tuple(kind for kind in (NORMAL, "defective") if self.counts["train"][kind])

    def types(self) -> tuple[str, ...]:
        """`"normal"` and the sorted defect types: the classes of a model that classifies types,
        `GAINMTL(num_classes=len(types), classes=types)`.

        Taken from all three parts, so that every fold has the same classes.
        """
        parts: list[Any] = [self.train, self.val, self.test]
        types = {kind for part in parts for kind in part.defect_types}
        return (NORMAL, *sorted(types - {NORMAL}))

    def report(self) -> str:
        """One paragraph: sizes, split, missing or empty masks, the rule for masks, and findings."""
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
                text += f" {meaning}: {total} (used only for the classification)."
        text = " ".join(filter(None, (text, self.mask_rule, *self.findings)))
        if self.split == "leaking":
            text += " This split ignores groups, so the test results are too good."
        return text
