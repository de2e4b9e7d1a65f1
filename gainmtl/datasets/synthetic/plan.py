"""The plan of a split: which parts are defective, marked or mislabelled, before any rendering."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gainmtl.datasets.synthetic.rendering import EXPOSURE, stream
from gainmtl.datasets.synthetic.settings import SyntheticSettings
from gainmtl.types import NORMAL

SPLITS = ("train", "val", "test")

_BLOCK = 20
_LABEL, _TYPE, _TEXTURE, _NOISE, _HIDDEN, _ANNOTATED, _AGREES = range(EXPOSURE + 1, EXPOSURE + 8)


class Plan(NamedTuple):
    """One entry per image. `labels` and `types` are the dataset's, with label noise; `true_*` are
    those of the part."""

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
    """(count,) numbers in [0, 1), each uniform, and evenly spread within each block of 20.

    So `quantile < rate` holds for a share of each block that differs from `rate` by at most one
    part. Independent draws would put a 64-image validation split 10 % out of balance.
    A number depends on its position and not on `count`.
    """
    blocks = []
    for block in range(-(-count // _BLOCK)):
        rng = stream(seed, split, purpose, block)
        blocks.append((rng.permutation(_BLOCK) + rng.random(_BLOCK)) / _BLOCK)
    return np.concatenate(blocks)[:count] if blocks else np.empty(0)


def make_plan(settings: SyntheticSettings, split: str) -> Plan:
    """The plan of a split; entry i depends only on (seed, split, i) and the settings."""
    code, training = SPLITS.index(split), split == "train"
    count = getattr(settings, split)
    parts = -(-count // settings.views)

    def even(purpose: int, within: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Quantiles that are evenly spread among normal parts and among defective parts."""
        result = np.empty(parts)
        for kind in (False, True):
            chosen = within == kind
            # The two kinds must not share their random numbers: odd and even purposes.
            result[chosen] = _quantiles(
                settings.seed, code, 100 + 2 * purpose + kind, int(chosen.sum())
            )
        return result

    rate = settings.defect_rate
    if training and settings.train_defect_rate is not None:
        rate = settings.train_defect_rate
    planned = _quantiles(settings.seed, code, _LABEL, parts) < rate
    seen = [
        name
        for name in settings.defect_types
        if split == "test" or name not in settings.unseen_defect_types
    ]
    types = np.array(seen)[(even(_TYPE, planned) * len(seen)).astype(int)]
    place = (even(_TEXTURE, planned) * len(settings.textures)).astype(int)
    textures = np.array(settings.textures)[place]

    true, claimed = planned.copy(), planned.copy()
    annotated = np.ones(parts, dtype=bool)
    if training:
        hidden = ~planned & (even(_HIDDEN, planned) < settings.contamination)
        true |= hidden
        flipped = ~hidden & (even(_NOISE, planned) < settings.label_noise)
        claimed ^= flipped
        annotated = even(_ANNOTATED, planned) < settings.mask_fraction
    agrees = even(_AGREES, true) < (
        settings.shortcut_test if split == "test" else (settings.shortcut or 0.0)
    )
    marked = true == agrees if settings.shortcut is not None else np.zeros(parts, dtype=bool)
    # A part without a defect can't have a defect mask.
    has_mask = ~claimed | (true & annotated)

    part = np.arange(count) // settings.views
    return Plan(
        part=part,
        view=np.arange(count) % settings.views,
        texture=textures[part].tolist(),
        labels=claimed[part],
        true_labels=true[part],
        types=np.where(claimed, types, NORMAL)[part].tolist(),
        true_types=np.where(true, types, NORMAL)[part].tolist(),
        has_mask=has_mask[part],
        marked=marked[part],
    )
