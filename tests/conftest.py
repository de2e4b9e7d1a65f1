"""A small batch that holds every kind of sample: normal, annotated and not annotated."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

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
