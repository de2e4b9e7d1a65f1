"""The maps that attention multiplies features with: read from a model, measured against masks."""

from __future__ import annotations

import torch
from torch import Tensor

from gainmtl.attention import CBAM
from gainmtl.metrics import oracle_map
from gainmtl.model import GAINMTL

GATES: dict[str, str] = {
    "spatial": "CBAM's spatial gate",
    "attention": "attention",
    "cam": "evidence of the verdict",
}
"""Maps of a model that can be asked where they are high, and what readers call them. The evidence
is no gate; it stands beside them as what the verdict is made from."""


@torch.no_grad()
def read_gates(model: GAINMTL, features: Tensor) -> dict[str, Tensor]:
    """The gates with a place that a model has, by the names of `GATES`.

    features (B, C, h, w) as `model.features` gives them; maps (B, 1, h, w) in (0, 1). A model
    without attention has none: squeeze-and-excitation has one number per channel and no map.
    """
    maps = {}
    refined = features
    if model.refine is not None:
        refined = model.refine(features)
        if isinstance(model.refine, CBAM):
            maps["spatial"] = model.refine.gates(features).spatial
    if model.attention is not None:
        maps["attention"] = torch.sigmoid(model.attention(refined))
    return maps


def cell_auroc(maps: Tensor, masks: Tensor) -> Tensor:
    """How often a map is higher on the defect than beside it, within one image; (B,) float64.

    `sum_ij m_i (1 - m_j) ([a_i > a_j] + [a_i = a_j] / 2) / sum_ij m_i (1 - m_j)` with a the map
    (B, 1, h, w) and m the share of each cell that the mask (B, 1, H, W) covers. In [0, 1]: 1 where
    every defective cell lies above every sound one, one half for a map that does not know, below
    it for a map that is darker on the defect. Only the order of the cells counts, so maps of
    different scale compare. NaN where the mask is empty or covers everything.
    """
    inside = _shares(maps, masks)
    values = maps.detach().cpu().double().flatten(1)
    found = []
    for a, m in zip(values, inside, strict=True):
        order = (a[:, None] - a[None, :]).sign()
        found.append((m @ (order + 1) @ (1 - m)) / (2 * m.sum() * (1 - m).sum()))
    return torch.stack(found)


def contrast(maps: Tensor, masks: Tensor) -> Tensor:
    """Mean of the map on the defect minus its mean beside it, (B,) float64.

    In [-1, 1] for a gate. Cells weigh by the share of them that the mask covers. NaN where the
    mask is empty or covers everything.
    """
    inside = _shares(maps, masks)
    values = maps.detach().cpu().double().flatten(1)
    on = (values * inside).sum(1) / inside.sum(1)
    return on - (values * (1 - inside)).sum(1) / (1 - inside).sum(1)


def _shares(maps: Tensor, masks: Tensor) -> Tensor:
    """(B, h w) float64: the share of each of the map's cells that is defect."""
    if len(maps) != len(masks):
        raise ValueError(f"expected a mask for each map, found {len(maps)} and {len(masks)}")
    grid = (maps.shape[2], maps.shape[3])
    return oracle_map(masks.detach().cpu(), grid).double().flatten(1)


def cell_entropy(logits: Tensor) -> Tensor:
    """Mean over the cells of `-p log2 p - (1 - p) log2(1 - p)`, `p = sigmoid(logits)`, in bits.

    logits (B, 1, h, w) to (B,) float64 in [0, 1]: 1 where every cell is undecided, 0 where every
    cell is sure. The sharpness of a map without a mask, and without asking whether it is right.
    """
    z = logits.detach().cpu().double().flatten(1)
    # -p log p = p softplus(-z), and the same for 1 - p, which stays finite for any logit
    p = torch.sigmoid(z)
    nats = p * torch.nn.functional.softplus(-z) + (1 - p) * torch.nn.functional.softplus(z)
    return nats.mean(1) / torch.log(torch.tensor(2.0, dtype=torch.float64))
