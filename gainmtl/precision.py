"""Mixed precision: which values may be in half precision, and where float32 begins again.

In mixed precision the convolutions of backbone and heads compute with 8 (bfloat16) or 11 (float16)
significant bits. Weights and their gradients keep 24 bits, and so does everything from the last
product of a head on: maps, logits, losses. Half precision would destroy these by cancellation or
by summation: an evidence map is a difference of two maps, 1 - cos of two similar vectors is close
to 0, and a loss is a mean over many cells.
"""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from gainmtl.types import Batch

PRECISIONS = ("32-true", "16-mixed", "bf16-mixed")
"""Precisions that `fit` can train in, by Fabric's names."""
_MIXED = ("cpu", "cuda", "mps", "xpu")


def check_precision(precision: Any) -> None:
    """Raise a ValueError for a precision that is not among `PRECISIONS`."""
    if precision not in PRECISIONS:
        raise ValueError(
            f"fit: precision: expected one of {', '.join(PRECISIONS)}, got {precision!r}; weights "
            "in half precision have too few bits for the running average"
        )


def to_float32(values: Tensor) -> Tensor:
    """Half-precision values in float32; float32 and float64 are returned unchanged."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def batch_to_float32(batch: Batch) -> Batch:
    """A batch with its images in float32: Fabric halves them on the way to several devices."""
    return batch._replace(
        image=to_float32(batch.image),
        mask=to_float32(batch.mask),
        twin=None if batch.twin is None else to_float32(batch.twin),
    )


def no_autocast(values: Tensor) -> AbstractContextManager[Any]:
    """A context in which the device of `values` computes nothing in half precision."""
    kind = values.device.type
    if kind in _MIXED and torch.is_autocast_enabled(kind):
        return torch.autocast(kind, enabled=False)
    return contextlib.nullcontext()
