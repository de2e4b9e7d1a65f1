"""Small data sets on disk, written by hand-worked arrays."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """`write("a/b.png", array)` saves an array below `tmp_path`; a number fills 8 x 8, and without
    either no two images are alike."""
    number = itertools.count()

    def _write(name: str, pixels: Any = None, **options: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if pixels is None:  # stripes: the number in binary digits
            pixels = np.tile(next(number) >> np.arange(8) & 1, (8, 1)).astype(np.uint8) * 200
        array = np.full((8, 8), pixels, np.uint8) if np.isscalar(pixels) else np.asarray(pixels)
        Image.fromarray(array).save(path, **options)
        return path

    return _write


@pytest.fixture
def spot() -> np.ndarray:
    """An 8 x 8 mask with a 2 x 2 defect."""
    mask = np.zeros((8, 8), np.uint8)
    mask[2:4, 5:7] = 255
    return mask


@pytest.fixture
def folder_set(tmp_path: Path, write: Write, spot: np.ndarray) -> Path:
    """12 normal and 6 defective images without a split; masks for all but defective/5."""
    for i in range(12):
        write(f"images/normal/{i}.png", 90 + i)
    for i in range(6):
        kind = ("hole", "crack")[i % 2]
        write(f"images/defective/{kind}/{i}.png", 60 + i)
        if i != 5:
            write(f"masks/{i}.png", spot)
    return tmp_path
