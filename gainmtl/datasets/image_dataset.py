"""A torch `Dataset` of samples read from image files."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from gainmtl.datasets.checks import checked_index
from gainmtl.datasets.images import boxes_mask, check_readable, check_sizes, read_image
from gainmtl.datasets.masks import MaskRule, checked_facts, marked_share, read_mask, rule_for
from gainmtl.datasets.records import Record
from gainmtl.datasets.transforms import placement, resize_pair
from gainmtl.types import Sample

CACHE_SHARE = 0.25
"""`cache="auto"` caches decoded images if they take at most this share of the free memory."""


class ImageDataset(Dataset[Sample]):
    """The samples of `records`, resized to a square, decoded on first use.

    `labels` (N,) bool, `groups`, `names`, `defect_types` and `has_mask` (N,) bool need no decoded
    image. The constructor reads the headers of the images and the masks of defects, so that
    unreadable files and empty masks are detected before training.

    Args:
        image_size: side of the square in pixels.
        resize: "squash" or "pad" (see `transforms`).
        mask_rule: which pixels of the masks are defect; `None`: decided from all masks of
            `records` (see `masks.mask_rule`).
        cache: keep decoded images as 8-bit arrays in memory. Worker processes of a `DataLoader`
            copy the cache when they start, so call `preload` before.

    Raises:
        ValueError: a mask and its image differ in size, or a file can't be read; names the files.
    """

    def __init__(
        self,
        records: Sequence[Record],
        image_size: int,
        resize: str = "squash",
        mask_rule: MaskRule | None = None,
        cache: bool = True,
    ) -> None:
        placement((1, 1), image_size, resize)
        self.records = list(records)
        self.image_size = image_size
        self.resize = resize
        self.mask_rule = rule_for(records) if mask_rule is None else mask_rule
        self.cache = cache
        self.labels: NDArray[np.bool_] = np.array([r.is_defective for r in records], dtype=bool)
        self.groups = tuple(record.group for record in records)
        self.names = tuple(record.name for record in records)
        self.defect_types = tuple(record.defect_type for record in records)
        for record in records:
            if record.image is not None:
                check_readable(record.image)
        self.empty_masks: NDArray[np.bool_] = np.array(
            [_has_empty_mask(record, self.mask_rule) for record in records], dtype=bool
        )
        missing = np.array(
            [r.is_defective and r.mask is None and r.boxes is None for r in records], dtype=bool
        )
        self.has_mask: NDArray[np.bool_] = ~(missing | self.empty_masks)
        self._decoded: dict[int, tuple[NDArray[np.uint8], NDArray[np.bool_] | None]] = {}

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Sample:
        index = checked_index(index, len(self))
        pixels, marked = self._decoded.get(index) or self._decode(index)
        shape = (1, self.image_size, self.image_size)
        record = self.records[index]
        return Sample(
            image=torch.from_numpy(pixels).float().div_(255),
            is_defective=record.is_defective,
            mask=torch.zeros(shape) if marked is None else torch.from_numpy(marked).float(),
            has_mask=bool(self.has_mask[index]),
            defect_type=record.defect_type,
            group=record.group,
            name=record.name,
        )

    def preload(self) -> None:
        """Decode all images now, if `cache` is on."""
        for index in range(len(self) if self.cache else 0):
            if index not in self._decoded:
                self._decode(index)

    def _decode(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None]:
        record = self.records[index]
        if record.image is None:
            raise ValueError(f"Expected an image file for {record.name}; its record has none.")
        image = read_image(record.image)
        mask: Tensor | None = None
        if record.is_defective and self.has_mask[index] and record.mask is not None:
            mask = read_mask(record.mask, self.mask_rule)
            check_sizes(record.image, (image.shape[1], image.shape[2]),
                        record.mask, (mask.shape[1], mask.shape[2]))  # fmt: skip
        elif record.is_defective and record.boxes is not None:
            mask = boxes_mask(record.boxes, (image.shape[1], image.shape[2]))
        image, mask = resize_pair(image, mask, self.image_size, self.resize)
        decoded = (image.numpy(), None if mask is None else mask.numpy())
        if self.cache:
            self._decoded[index] = decoded
        return decoded


def _has_empty_mask(record: Record, rule: MaskRule) -> bool:
    if record.image is None or record.mask is None or not record.is_defective:
        return False
    return marked_share(checked_facts(record.image, record.mask), rule) == 0


def fits_in_memory(images: int, image_size: int, bytes_per_pixel: float = 4) -> bool:
    """Whether `images` decoded images (three channels and a mask) take at most `CACHE_SHARE`.

    If the system does not report its free memory, 4 GiB are assumed.
    """
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        free = 4 << 30
    return images * bytes_per_pixel * image_size**2 <= CACHE_SHARE * free
