"""Who is defective, marked, mislabelled: decided for a whole split before a pixel is drawn."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gainmtl.datasets.dials import Dials
from gainmtl.datasets.rendering import EXPOSURE, stream
from gainmtl.types import NORMAL

SPLITS = ("train", "val", "test")

_BLOCK = 20
_LABEL, _TYPE, _TEXTURE, _NOISE, _HIDDEN, _ANNOTATED, _AGREES = range(EXPOSURE + 1, EXPOSURE + 8)


class Plan(NamedTuple):
    """One entry per image. `labels` and `types` are what the dataset claims; `true_*` what is."""

    part: NDArray[np.int64]
    view: NDArray[np.int64]
    texture: list[str]
    labels: NDArray[np.bool_]
    true_labels: NDArray[np.bool_]
    types: list[str]
    true_types: list[str]
    has_mask: NDArray[np.bool_]
    marked: NDArray[np.bool_]


def _quantiles(seed: int, split: int, purpose: int, count: int) -> NDArray[np.float64]:
    """(count,) numbers in [0, 1), each uniform, and together even over each block of 20.

    `quantile < rate` then holds for a share that stays within one part per block of `rate`;
    independent coin tosses would make a 64-image validation split 10 % out of balance.
    A number depends on its place alone, not on `count`.
    """
    blocks = []
    for block in range(-(-count // _BLOCK)):
        rng = stream(seed, split, purpose, block)
        blocks.append((rng.permutation(_BLOCK) + rng.random(_BLOCK)) / _BLOCK)
    return np.concatenate(blocks)[:count] if blocks else np.empty(0)


def make_plan(dials: Dials, split: str) -> Plan:
    """Decide every part of a split; entry i depends on (seed, split, i) and the dials alone."""
    code, training = SPLITS.index(split), split == "train"
    count = getattr(dials, split)
    parts = -(-count // dials.views)

    def even(purpose: int, within: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Quantiles that are even among the parts of either kind, not only over all."""
        result = np.empty(parts)
        for kind in (False, True):
            chosen = within == kind
            # Odd and even purposes: the two kinds must not share their random numbers.
            result[chosen] = _quantiles(
                dials.seed, code, 100 + 2 * purpose + kind, int(chosen.sum())
            )
        return result

    rate = dials.defect_rate
    if training and dials.train_defect_rate is not None:
        rate = dials.train_defect_rate
    planned = _quantiles(dials.seed, code, _LABEL, parts) < rate
    seen = [
        name
        for name in dials.defect_types
        if split == "test" or name not in dials.unseen_defect_types
    ]
    types = np.array(seen)[(even(_TYPE, planned) * len(seen)).astype(int)]
    textures = np.array(dials.textures)[(even(_TEXTURE, planned) * len(dials.textures)).astype(int)]

    true, claimed = planned.copy(), planned.copy()
    annotated = np.ones(parts, dtype=bool)
    if training:
        hidden = ~planned & (even(_HIDDEN, planned) < dials.contamination)
        true |= hidden
        flipped = ~hidden & (even(_NOISE, planned) < dials.label_noise)
        claimed ^= flipped
        annotated = even(_ANNOTATED, planned) < dials.mask_fraction
    agrees = even(_AGREES, true) < (
        dials.shortcut_test if split == "test" else (dials.shortcut or 0.0)
    )
    marked = true == agrees if dials.shortcut is not None else np.zeros(parts, dtype=bool)
    # Nobody can draw the mask of a defect that is not there.
    has_mask = ~claimed | (true & annotated)

    part = np.arange(count) // dials.views
    return Plan(
        part=part,
        view=np.arange(count) % dials.views,
        texture=textures[part].tolist(),
        labels=claimed[part],
        true_labels=true[part],
        types=np.where(claimed, types, NORMAL)[part].tolist(),
        true_types=np.where(true, types, NORMAL)[part].tolist(),
        has_mask=has_mask[part],
        marked=marked[part],
    )
