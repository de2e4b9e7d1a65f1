"""Mixed precision: what may be computed with half of the bits, and where it must not stay so.

In mixed precision the convolutions of backbone and heads run in 8 or 11 significant bits. Weights
and their gradients keep 24, and so does everything from the last product of a head on: maps,
logits, losses. An evidence map is a difference of two maps, a loss a mean over many cells, and
1 - cos of two alike vectors nearly nothing: in half precision little of them is left.
"""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from gainmtl.types import Batch

PRECISIONS = ("32-true", "16-mixed", "bf16-mixed")
"""Fabric's names of the precisions that `fit` can train in."""
_MIXED = ("cpu", "cuda", "mps", "xpu")


def check_precision(precision: Any) -> None:
    """Raise a ValueError for a precision that is not among `PRECISIONS`."""
    if precision not in PRECISIONS:
        raise ValueError(
            f"fit: precision: expected one of {', '.join(PRECISIONS)}, got {precision!r}; weights "
            "kept in half precision can't hold the running average"
        )


def full(values: Tensor) -> Tensor:
    """Half-precision values in single precision; single and double as they are, untouched."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def full_batch(batch: Batch) -> Batch:
    """A batch whose image and mask are `full`; Fabric halves them on the way to several devices."""
    return batch._replace(image=full(batch.image), mask=full(batch.mask))


def exact(values: Tensor) -> AbstractContextManager[Any]:
    """Within the context nothing on the device of `values` is computed in half precision."""
    kind = values.device.type
    if kind in _MIXED and torch.is_autocast_enabled(kind):
        return torch.autocast(kind, enabled=False)
    return contextlib.nullcontext()
