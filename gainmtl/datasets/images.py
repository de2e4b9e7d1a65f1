"""Reading of image files of any depth, colour mode or orientation, as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gainmtl.runner import frame_count, open_image, read_pixels, upright

EXIF_ORIENTATION = 0x0112

Stamp = tuple[str, int, int]


def read_image(path: str | Path) -> Tensor:
    """(3, H, W) uint8: the pixels and the errors of `gainmtl.runner.read_pixels`."""
    return torch.from_numpy(read_pixels(path)).permute(2, 0, 1).contiguous()


def boxes_mask(boxes: Sequence[tuple[int, int, int, int]], size: tuple[int, int]) -> Tensor:
    """(1, H, W) bool: the union of boxes (top, left, bottom, right), clipped to the image."""
    mask = torch.zeros(1, *size, dtype=torch.bool)
    for top, left, bottom, right in boxes:
        mask[:, max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = True
    return mask


class Header(NamedTuple):
    """What is known of an image without its pixels."""

    size: tuple[int, int]
    """(H, W) of the upright image."""
    frames: int
    """Frames or pages of the file, of which the first is read."""
    is_deep: bool
    """Whether a channel has more than 8 bits."""


def read_size(path: str | Path) -> tuple[int, int]:
    """(H, W) of the upright image."""
    return _read_header(path).size


def _read_header(path: str | Path) -> Header:
    with open_image(path) as image:
        frames = frame_count(image)
        # Of each tile of the file: decoder, area, offset, and a description of the stored pixels.
        deep = image.mode.startswith("I") or ";16" in str(getattr(image, "tile", ""))
        width, height = image.size
        if image.getexif().get(EXIF_ORIENTATION, 1) >= 5:
            if image.format == "TIFF":
                # Releases of Pillow differ in whether the size before decoding is the upright one.
                width, height = upright(image).size
            else:
                width, height = height, width
    return Header((height, width), frames, deep)


def file_stamp(path: Path) -> Stamp:
    """Path, size and time of modification: they change if the file changes.

    Raises:
        FileNotFoundError: no such file, or a link to nothing; names it.
    """
    try:
        stat = path.stat()
    except FileNotFoundError:
        raise FileNotFoundError(f"Expected a file at {path}; there is no such file.") from None
    return str(path), stat.st_size, stat.st_mtime_ns


def header_of(image: Path) -> Header:
    """The image's header; read once per version of the file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is not an image; names it.
    """
    return _header_of(file_stamp(image))


def check_readable(image: Path) -> tuple[int, int]:
    """(H, W) of the image; reads the header once per version of the file.

    Raises:
        FileNotFoundError, ValueError: as `header_of`.
    """
    return header_of(image).size


# Cached by file stamp: a replaced file is read again.
@lru_cache(maxsize=1 << 18)
def _header_of(image: Stamp) -> Header:
    return _read_header(image[0])


@lru_cache(maxsize=1 << 18)
def largest_value(image: Stamp) -> int:
    """Of an image with more than 8 bits: its largest grey value, for RGB on the scale of 16 bits.

    Pillow reads RGB with 16 bits as 8 bits.
    """
    with open_image(image[0]) as opened:
        pixels = np.asarray(upright(opened))
        return int(pixels.max(initial=0)) * (257 if pixels.dtype == np.uint8 else 1)


def check_sizes(
    image: str | Path, image_size: tuple[int, int], mask: str | Path, mask_size: tuple[int, int]
) -> None:
    """Raise `ValueError` unless the two (H, W) are equal."""
    if image_size != mask_size:
        raise ValueError(
            f"Expected a mask of its image's size; {mask} is {mask_size[1]} x {mask_size[0]} and "
            f"{image} is {image_size[1]} x {image_size[0]} (width x height). Export the mask at "
            "the image's size, or remove it: a defect without a mask is allowed."
        )
