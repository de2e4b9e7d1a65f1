"""Mixed precision: what may be computed with half of the bits, and where it must not stay so.

In mixed precision convolutions run in 8 or 11 significant bits; weights, their gradients, maps,
logits and losses keep 24. An evidence map is a difference of two maps, a loss a mean over many
cells, and 1 - cos of two alike vectors nearly nothing: in half precision little of them is left.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

PRECISIONS = ("32-true", "16-mixed", "bf16-mixed")
"""Fabric's names of the precisions that `fit` can train in."""


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
