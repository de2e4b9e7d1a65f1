"""Arrays of images kept in files: read only for the same images and the same settings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gainmtl.files import atomic_path


def read_arrays(
    path: Path | None, names: Sequence[str], made_with: str = ""
) -> dict[str, NDArray[Any]] | None:
    """The arrays of a file; `None` without one, or if it is of other images or settings.

    Args:
        names: of the images, in order.
        made_with: what the arrays depend on beside the images.
    """
    if path is None or not path.is_file():
        return None
    with np.load(path) as stored:
        found = dict(stored)
    same = np.array_equal(found.pop("names"), np.array(names))
    return found if same and found.pop("made_with").item() == made_with else None


def write_arrays(
    path: Path | None, names: Sequence[str], made_with: str = "", **arrays: NDArray[Any]
) -> None:
    """Write a file that `read_arrays` reads, whole or not at all; nothing without a path."""
    if path is not None:
        given: dict[str, Any] = {"names": np.array(names), "made_with": np.array(made_with)}
        with atomic_path(path) as temporary, temporary.open("wb") as handle:
            np.savez(handle, **(given | arrays))
