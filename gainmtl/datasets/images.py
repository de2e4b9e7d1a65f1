"""Reading of image and mask files of any depth, colour mode or orientation, as tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

EXIF_ORIENTATION = 0x0112
LARGEST_CLASS_ID = 15

Stamp = tuple[str, int, int]


def read_image(path: str | Path) -> Tensor:
    """(3, H, W) uint8 of an 8- or 16-bit grey, palette, RGB or RGBA file, rotated upright.

    16-bit grey is scaled from 65535 to 255; transparent pixels become black.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a damaged file or floating-point pixels; names the file.
    """
    with _opened(path) as image:
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I"):
            image = Image.fromarray(_eight_bits(image))
        elif image.mode == "F":
            raise ValueError("floating-point pixels; save it with 8 or 16 bits")
        elif "A" in image.mode or "transparency" in image.info:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
        pixels = np.array(image.convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def read_mask(path: str | Path, above: int | None = 127) -> Tensor:
    """(1, H, W) bool: True where the largest colour channel, scaled to 0 … 255, is > `above`.

    `above=None` is for masks of unknown origin. In a palette image every colour except black is
    defect. In an image with a largest value of 1 to 15 the values are class ids (0/1 masks
    included), and all except 0 are defect. In all other images it is what exceeds 127, because
    resampled masks have faint borders.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a damaged file or floating-point pixels; names the file.
    """
    with _opened(path) as image:
        image = ImageOps.exif_transpose(image)
        palette = image.mode == "P"
        if image.mode.startswith("I"):
            top = np.asarray(image).max(initial=0)
            pixels = np.asarray(image) if top <= LARGEST_CLASS_ID else _eight_bits(image)
        elif image.mode == "F":
            raise ValueError("floating-point pixels; save it with 8 or 16 bits")
        elif palette and above == 0:
            pixels = np.asarray(image)
        elif image.mode in ("L", "1"):
            pixels = np.asarray(image.convert("L"))
        else:
            rgba = np.asarray(image.convert("RGBA"))
            pixels = np.where(rgba[..., 3] > 127, rgba[..., :3].max(axis=-1), 0)
    if above is None:
        ids = palette or 1 <= pixels.max(initial=0) <= LARGEST_CLASS_ID
        above = 0 if ids else 127
    return torch.from_numpy(pixels > above)[None]


def boxes_mask(boxes: Sequence[tuple[int, int, int, int]], size: tuple[int, int]) -> Tensor:
    """(1, H, W) bool: the union of boxes (top, left, bottom, right), clipped to the image."""
    mask = torch.zeros(1, *size, dtype=torch.bool)
    for top, left, bottom, right in boxes:
        mask[:, max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = True
    return mask


def read_size(path: str | Path) -> tuple[int, int]:
    """(H, W) of the upright image, read from its header."""
    with _opened(path) as image:
        width, height = image.size
        rotated = image.getexif().get(EXIF_ORIENTATION, 1) >= 5
    return (width, height) if rotated else (height, width)


def file_stamp(path: Path) -> Stamp:
    """Path, size and time of modification: they change if the file changes."""
    stat = path.stat()
    return str(path), stat.st_size, stat.st_mtime_ns


def check_readable(image: Path) -> tuple[int, int]:
    """(H, W) of the image; reads the header once per version of the file.

    Raises:
        ValueError: the file is not an image; names it.
    """
    return _size_of(file_stamp(image))


def mask_is_empty(image: Path, mask: Path, above: int | None) -> bool:
    """Whether the mask file marks no pixel. Also checks its size against the image's.

    Raises:
        ValueError: image and mask differ in size, or a file can't be read; names the files.
    """
    height, width, empty = _mask_facts(file_stamp(mask), above)
    check_sizes(image, check_readable(image), mask, (height, width))
    return empty


# Cached by file stamp: five folds of a set read each mask once, and a replaced file is read again.
@lru_cache(maxsize=1 << 18)
def _size_of(image: Stamp) -> tuple[int, int]:
    return read_size(image[0])


@lru_cache(maxsize=1 << 18)
def _mask_facts(mask: Stamp, above: int | None) -> tuple[int, int, bool]:
    marked = read_mask(mask[0], above)
    return marked.shape[-2], marked.shape[-1], not bool(marked.any())


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


def _eight_bits(image: Image.Image) -> NDArray[np.uint8]:
    """16-bit grey (kept by PIL in modes I and I;16) as 8 bits."""
    pixels = np.asarray(image).astype(np.float32)
    return np.clip(np.rint(pixels / 257), 0, 255).astype(np.uint8)


@contextmanager
def _opened(path: str | Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            yield image
    except FileNotFoundError:
        raise FileNotFoundError(f"Expected an image at {path}; there is no such file.") from None
    except Exception as error:  # decoders raise many types of exceptions for damaged files
        raise ValueError(
            f"Expected a readable image; {path} can't be decoded ({error}). "
            "Replace or remove the file."
        ) from error
