"""Samples, batches and outputs: the types that the parts of the package exchange.

Shapes: B images, K classes, H x W pixels, h x w cells of the evidence grid.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

NORMAL = "normal"
"""The `defect_type` of a normal sample."""


class Sample(NamedTuple):
    """One image of a dataset, with its labels.

    A missing mask is not an empty mask: a defective sample without annotation has
    `has_mask=False` and an all-zero `mask` that no loss and no measure may read. A normal
    sample has no defective pixel, so its zero mask is valid and `has_mask` is true.
    """

    image: Tensor
    """(3, H, W) float32 in [0, 1], before the normalisation by `model.preprocess`."""
    is_defective: bool
    mask: Tensor
    """(1, H, W) float32, 0 or 1."""
    has_mask: bool
    defect_type: str
    """`"normal"` or the name of the defect."""
    group: str
    """Images of one physical part share a group; folds never split it."""
    name: str
    """Unique within the dataset: the path relative to its root, if it has a root."""
    twin: Tensor | None = None
    """(3, H, W) float32 in [0, 1]: a picture of the same place without the defect, aligned with
    `image`. A normal sample's twin is another picture of it, or the same one. `None` if the set
    has no such pictures."""


class Batch(NamedTuple):
    """`Sample`s stacked along a first axis of length B; text fields are tuples."""

    image: Tensor
    is_defective: Tensor
    """(B,) bool."""
    mask: Tensor
    has_mask: Tensor
    """(B,) bool."""
    defect_type: tuple[str, ...]
    group: tuple[str, ...]
    name: tuple[str, ...]
    twin: Tensor | None = None
    """(B, 3, H, W); `None` unless every sample has one."""


def collate(samples: list[Sample]) -> Batch:
    """Stack samples of equal image size into a `Batch`."""
    columns = list(zip(*samples, strict=True))
    twins = [sample.twin for sample in samples if sample.twin is not None]
    return Batch(
        image=torch.stack(columns[0]),
        is_defective=torch.tensor(columns[1], dtype=torch.bool),
        mask=torch.stack(columns[2]),
        has_mask=torch.tensor(columns[3], dtype=torch.bool),
        defect_type=tuple(columns[4]),
        group=tuple(columns[5]),
        name=tuple(columns[6]),
        twin=torch.stack(twins) if len(twins) == len(samples) else None,
    )


class Located(NamedTuple):
    """Outputs for a batch of a model without an evidence map."""

    logits: Tensor
    """(B, 2): 0, and the logit of the defect probability."""
    defect_probability: Tensor
    """(B,) in [0, 1]: softmax(logits)[:, 1]."""
    defect_map: Tensor
    """(B, 1, H, W) in [0, 1]: where the defect is."""


class Outputs(NamedTuple):
    """Outputs of a `GAINMTL` for a batch. A part that the strategy does not have is `None`."""

    class_logits: Tensor
    """(B, K) of the plain head."""
    attended_logits: Tensor | None
    """(B, K) of the head that reads the attended features (from S3 on)."""
    logits: Tensor
    """(B, K) of the deciding head: the attended one where it exists, else the plain one."""
    defect_probability: Tensor
    """(B,) in [0, 1]: 1 - softmax(logits)[:, 0], which for K = 2 is softmax(logits)[:, 1]."""
    class_cam: Tensor
    """(B, K, h, w) class activation maps of the deciding head, unbounded."""
    cam: Tensor
    """(B, 1, h, w) evidence map of the deciding head, unbounded."""
    attention_logits: Tensor | None
    """(B, 1, h, w) of guided attention, or of an attention branch on its own grid."""
    localization_logits: Tensor | None
    """(B, 1, H, W)."""
    defect_map: Tensor
    """(B, 1, H, W) in [0, 1]: where the defect is. From the localization head if there is one,
    else of the attention, else the calibrated evidence map; see `Network.heads`."""
