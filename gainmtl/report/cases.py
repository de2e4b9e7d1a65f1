"""Cases: the images of a report, with or without labels, read at the size of their files."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gainmtl.datasets import ImageDataset, list_images
from gainmtl.datasets.images import boxes_mask, check_readable, read_image
from gainmtl.datasets.masks import read_mask
from gainmtl.types import NORMAL

NEW = "new"
"""The split of unlabelled images."""


class Case(NamedTuple):
    """One image of a report and its labels; `None` if unknown."""

    name: str
    split: str
    fold: int
    """Index of the model that predicts it."""
    is_defective: bool | None
    defect_type: str | None
    group: str | None
    read: Callable[[], Tensor]
    """The image, (3, H, W) uint8 of its own size."""
    read_mask: Callable[[], Tensor | None]
    """The mask, (1, H, W) bool of the image's size; `None` without a mask and for normal images."""

    @property
    def true_label(self) -> str | None:
        """`"normal"`, `"defective"`, or `None` if unknown."""
        return {None: None, True: "defective", False: NORMAL}[self.is_defective]


def cases_of(dataset: Any, split: str, fold: int = 0) -> list[Case]:
    """The images of one part of `Data`, at the size of their files; synthetic ones as rendered."""
    cases = []
    for index, name in enumerate(dataset.names):
        if isinstance(dataset, ImageDataset):
            path = dataset.records[index].image
            assert path is not None
            read: Callable[[], Tensor] = partial(read_image, path)
        else:
            read = partial(_sample_pixels, dataset, index)
        cases.append(
            Case(
                name=name,
                split=split,
                fold=fold,
                is_defective=bool(dataset.labels[index]),
                defect_type=dataset.defect_types[index],
                group=dataset.groups[index],
                read=read,
                read_mask=partial(_mask, dataset, index),
            )
        )
    return cases


def cases_in(folder: str | Path) -> list[Case]:
    """The unlabelled images of a folder and its sub-folders.

    All headers are read here, so that an unreadable file is reported before any prediction.

    Raises:
        FileNotFoundError: no such folder, or no image in it.
        ValueError: a file that can't be read as an image; names it.
    """
    paths = list_images(folder)
    for path in paths:
        check_readable(path)
    return [
        Case(
            name=path.relative_to(folder).as_posix(),
            split=NEW,
            fold=0,
            is_defective=None,
            defect_type=None,
            group=None,
            read=partial(read_image, path),
            read_mask=lambda: None,
        )
        for path in paths
    ]


def _sample_pixels(dataset: Any, index: int) -> Tensor:
    return (dataset[index].image * 255).round().to(torch.uint8)


def _mask(dataset: Any, index: int) -> Tensor | None:
    if not dataset.labels[index] or not dataset.has_mask[index]:
        return None
    if isinstance(dataset, ImageDataset):
        record = dataset.records[index]
        if record.mask is None and record.boxes is not None:
            assert record.image is not None
            return boxes_mask(record.boxes, check_readable(record.image))
        assert record.mask is not None
        return read_mask(record.mask, dataset.mask_rule)
    return dataset[index].mask > 0.5
