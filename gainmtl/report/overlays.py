"""Images of a defect map: in grey levels, and as an overlay on the image; and their file names."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from torch import Tensor

from gainmtl.datasets.transforms import resize_mask

Pixels = NDArray[np.uint8]

FAINT, STRONG = np.array([255.0, 214.0, 10.0]), np.array([225.0, 29.0, 72.0])
"""Colours of the map values 0 (transparent) and 1."""
OPACITY = 0.8
"""Opacity of the map value 1."""
OUTLINE = (0, 190, 255)
"""Colour of the mask's outline."""
NAME_LENGTH = 100
"""Longest file stem, in characters."""


class Picture(NamedTuple):
    """An image with its defect map and mask, all of one size."""

    pixels: Pixels
    """(H, W, 3)."""
    defect_map: NDArray[np.float32]
    """(H, W) in [0, 1]."""
    mask: NDArray[np.bool_] | None
    """(H, W); `None` without a mask."""


def map_pixels(defect_map: NDArray[np.float32]) -> Pixels:
    """(H, W) in [0, 1] to grey levels, 255 for 1. No min-max scaling, so a dark map stays dark."""
    return np.rint(255 * np.clip(defect_map, 0, 1)).astype(np.uint8)


def fit_to(
    pixels: Tensor, defect_map: NDArray[np.float32], mask: Tensor | None, side: int
) -> Picture:
    """Image (3, H, W) uint8, map (h, w) and mask (1, H, W) bool; the longer side becomes `side`."""
    height, width = pixels.shape[-2:]
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    image = Image.fromarray(pixels.permute(1, 2, 0).numpy())
    # Pillow's filters are antialiased, so a thin scratch survives.
    small = image.resize(size, Image.Resampling.BICUBIC)
    grey = Image.fromarray(np.ascontiguousarray(defect_map, dtype=np.float32))
    values = np.asarray(grey.resize(size, Image.Resampling.BILINEAR))
    marked = None if mask is None else resize_mask(mask, size[1], size[0])[0].numpy()
    return Picture(np.asarray(small), np.clip(values, 0, 1), marked)


def overlay(picture: Picture, peak: bool = True) -> Pixels:
    """The image with its map as an overlay, (H, W, 3): from transparent yellow to opaque red.

    At a map value of 0 the image is unchanged. The mask's outline is blue and just outside of the
    mask, so that a defect of one pixel stays visible. A white cross marks the highest map value.
    """
    value = picture.defect_map[..., None]
    colour = FAINT + (STRONG - FAINT) * value
    alpha = OPACITY * value
    mixed = np.rint((1 - alpha) * picture.pixels + alpha * colour).astype(np.uint8)
    height, width = picture.defect_map.shape
    line = max(1, round(max(height, width) / 240))
    if picture.mask is not None and picture.mask.any():
        around = ndimage.binary_dilation(picture.mask, np.ones((3, 3)), iterations=line)
        mixed[around & ~picture.mask] = OUTLINE
    if peak:
        row, column = divmod(int(picture.defect_map.argmax()), width)
        _cross(mixed, row, column, 3 * line + 2, line // 2)
    return mixed


def _cross(pixels: Pixels, row: int, column: int, arm: int, half: int) -> None:
    """Draw a white cross with a black rim, in place."""
    for colour, rim in ((0, half + 1), (255, half)):
        reach = arm + rim - half
        for height, width in ((reach, rim), (rim, reach)):
            top, left = max(0, row - height), max(0, column - width)
            pixels[top : row + height + 1, left : column + width + 1] = colour


def file_stems(names: Sequence[str]) -> list[str]:
    """One file stem per image name: readable, unique, without folders, valid on every file system.

    Stems that would be equal (`a/1.png` and `a_1.jpg`; also `A` and `a`, which are the same file on
    some systems) or too long get eight digits of the name's hash.
    """
    stems = []
    for name in names:
        text = unicodedata.normalize("NFC", name.rsplit(".", 1)[0])
        stems.append(re.sub(r"[^\w.-]+", "_", text.replace("/", "_")).strip("._") or "image")
    counts = Counter(stem.casefold() for stem in stems)
    return [
        stem
        if counts[stem.casefold()] == 1 and len(stem) <= NAME_LENGTH
        else f"{stem[: NAME_LENGTH - 9]}-{_digits(name)}"
        for name, stem in zip(names, stems, strict=True)
    ]


def _digits(name: str) -> str:
    # File names may contain bytes that are not valid UTF-8; they are hashed unchanged.
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:8]
