"""Linear read-outs of *where* and *whether* from each level of a backbone's features."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from gainmtl import metrics
from gainmtl.losses import pooled_mask
from gainmtl.model import GAINMTL
from gainmtl.types import Sample, collate

RIDGE = 1e-2
"""Weight of the ridge penalty, relative to the mean variance of the features."""


class Level(NamedTuple):
    """One level's features of a whole dataset, and what is true of its images."""

    stride: int
    features: Tensor
    """(N, C, h, w)."""
    masks: Tensor
    """(N, 1, H, W); read only where `is_known`."""
    is_defective: Tensor
    """(N,) bool."""
    is_known: Tensor
    """(N,) bool: the mask is real, empty or not."""


class Probe(NamedTuple):
    """Affine read-outs of one level."""

    stride: int
    cell: Tensor
    """(C + 1,): a cell's features, and 1, to its share of defect."""
    image: Tensor
    """(2 C + 1,): mean and maximum of the features over the cells, and 1, to the label."""


@torch.no_grad()
def levels_of(model: GAINMTL, dataset: Dataset[Sample], batch_size: int = 32) -> list[Level]:
    """The features of every level of the model's backbone, finest first."""
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    found: list[list[Tensor]] = [[] for _ in model.backbone.strides]
    truths: list[list[Tensor]] = [[], [], []]
    loader: DataLoader[Any] = DataLoader(dataset, batch_size=batch_size, collate_fn=collate)
    for batch in loader:
        images = model.preprocess(batch.image.to(device))
        for place, level in enumerate(model.backbone(images).levels):
            found[place].append(level.cpu())
        known = (batch.mask, batch.is_defective, batch.has_mask)
        for kept, value in zip(truths, known, strict=True):
            kept.append(value)
    model.train(was_training)
    masks, bad, real = (torch.cat(parts) for parts in truths)
    return [
        Level(stride, torch.cat(parts), masks, bad, real)
        for stride, parts in zip(model.backbone.strides, found, strict=True)
    ]


def ridge(inputs: Tensor, targets: Tensor, penalty: float = RIDGE) -> Tensor:
    """`argmin_w |X w - t|^2 + penalty n v |w|^2`, v the mean variance; (n, C), (n,) to (C + 1,).

    The last entry is the intercept, which is not penalised. In float64.
    """
    x, t = inputs.double(), targets.double()
    centre, middle = x.mean(0), t.mean()
    x = x - centre
    gram = x.T @ x
    size = penalty * gram.diagonal().mean().clamp_min(1e-12)
    weight = torch.linalg.solve(
        gram + size * torch.eye(len(gram), dtype=gram.dtype), x.T @ (t - middle)
    )
    return torch.cat([weight, (middle - centre @ weight)[None]])


def fit_probe(level: Level, penalty: float = RIDGE) -> Probe:
    """The two read-outs of a level; a cell's target is the share of its area that is defect."""
    known = level.features[level.is_known]
    size = (known.shape[2], known.shape[3])
    target = pooled_mask((level.masks[level.is_known] > 0.5).float(), size)
    cells = known.permute(0, 2, 3, 1).flatten(0, 2)
    return Probe(
        level.stride,
        ridge(cells, target.flatten(), penalty),
        ridge(_pooled(level.features), level.is_defective.float(), penalty),
    )


def read_where(probe: Probe, features: Tensor) -> Tensor:
    """(B, C, h, w) to maps (B, 1, h, w), unbounded; about the share of defect in a cell."""
    weight = probe.cell.to(features)
    return (torch.einsum("bchw,c->bhw", features, weight[:-1]) + weight[-1])[:, None]


def read_whether(probe: Probe, features: Tensor) -> Tensor:
    """(B, C, h, w) to scores (B,), unbounded; higher is more likely defective."""
    weight = probe.image.to(features)
    return _pooled(features) @ weight[:-1] + weight[-1]


class Known(NamedTuple):
    """Measures of a level's read-outs on other images."""

    where: float
    """Pixel AP of the map, resized to the image."""
    whether: float
    """AUROC of the score."""
    oracle: float
    """Pixel AP of the mask itself, reduced to the level's grid: the most that the grid allows."""


def judge_level(probe: Probe, level: Level) -> Known:
    """Measure read-outs that were fitted on other images."""
    maps = read_where(probe, level.features)
    size = (maps.shape[2], maps.shape[3])
    masks = level.masks[level.is_known]
    return Known(
        metrics.pooled_pixel_ap(maps[level.is_known], masks),
        metrics.auroc(read_whether(probe, level.features).numpy(), level.is_defective.numpy()),
        metrics.pooled_pixel_ap(metrics.oracle_map(masks, size), masks),
    )


def _pooled(features: Tensor) -> Tensor:
    return torch.cat([features.mean((2, 3)), features.amax((2, 3))], dim=1)
