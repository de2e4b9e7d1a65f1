"""What tests share: a small batch, a folder of parts, interrupted training, hidden packages."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset

from gainmtl.datasets import Data, load
from gainmtl.types import NORMAL, Batch, Sample, collate


def _sample(index: int, size: int) -> Sample:
    """0 and 1 are normal, 2 and 3 have a mask, 4 is defective and nobody annotated it."""
    generator = torch.Generator().manual_seed(index)
    mask = torch.zeros(1, size, size)
    if index in (2, 3):
        top = size // 4 * (index - 1)
        mask[:, top : top + size // 5, top : top + size // 4] = 1
    return Sample(
        image=torch.rand(3, size, size, generator=generator),
        is_defective=index >= 2,
        mask=mask,
        has_mask=index != 4,
        defect_type=NORMAL if index < 2 else ("crack", "stain", "crack")[index - 2],
        group=f"part {index}",
        name=f"{index}.png",
    )


@pytest.fixture
def make_batch() -> Callable[..., Batch]:
    """`make_batch(indices=range(5), size=64)`: see `_sample` for what each index is."""

    def make(indices: tuple[int, ...] = (0, 1, 2, 3, 4), size: int = 64) -> Batch:
        return collate([_sample(index, size) for index in indices])

    return make


@pytest.fixture
def folder_of_parts() -> Callable[[Path], Path]:
    """`folder_of_parts(root)`: a folder data set of synthetic parts, each defect with its mask."""

    def write(root: Path) -> Path:
        part: Any = load("synthetic", image_size=32, train=48, val=8, test=8).train
        for index in range(len(part)):
            sample = part[index]
            kind = "defective" if sample.is_defective else "normal"
            shown = {"images": sample.image}
            if sample.is_defective:
                shown["masks"] = sample.mask
            for place, values in shown.items():
                path = root / "parts" / place / kind / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = (values * 255).byte().permute(1, 2, 0).numpy()
                Image.fromarray(pixels.squeeze()).save(path)
        return root / "parts"

    return write


class _Interrupted(Dataset[Sample]):
    """Images that stop the run when one more than `reads` is asked for."""

    def __init__(self, images: Any, reads: int) -> None:
        self.images, self.left = images, reads

    def __getattr__(self, name: str) -> Any:
        return getattr(self.images, name)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return self.images[index]


@pytest.fixture
def interrupted() -> Callable[[Data, int], Data]:
    """`interrupted(data, reads)`: the same data, whose training images stop after `reads`."""
    return lambda data, reads: dataclasses.replace(data, train=_Interrupted(data.train, reads))


_HIDING = '''
import importlib.metadata, sys

HIDDEN = ({hidden})

class Hiding:
    """A finder without the hidden packages."""

    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        hidden = name.split(".")[0] in HIDDEN
        return None if hidden else self.finder.find_spec(name, path, target)

sys.meta_path[:] = [Hiding(finder) for finder in sys.meta_path]
'''


@pytest.fixture
def run_hiding() -> Callable[[str, str, Path], None]:
    """`run_hiding(hidden, script, folder)`: the script must succeed in `folder` without packages.

    `hidden` is an expression for their names, evaluated before the script is run.
    """

    def run(hidden: str, script: str, folder: Path) -> None:
        command = [sys.executable, "-c", _HIDING.format(hidden=hidden) + script]
        ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr

    return run
