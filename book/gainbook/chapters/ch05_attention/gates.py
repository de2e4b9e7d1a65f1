"""The maps that attention multiplies features with: read from a model, measured against masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from gainbook.lab.measures import Measure
from gainmtl.attention import CBAM
from gainmtl.metrics import oracle_map
from gainmtl.model import GAINMTL
from gainmtl.types import Sample, collate

GATES: dict[str, str] = {
    "spatial": "CBAM's spatial gate",
    "attention": "attention",
    "cam": "evidence of the verdict",
}
"""Maps of a model and their words. The evidence is no gate; the verdict is made from it."""


@torch.no_grad()
def read_gates(model: GAINMTL, features: Tensor) -> dict[str, Tensor]:
    """The spatial gates of a model, by the names of `GATES`.

    features (B, C, h, w) as `model.features` returns them; maps (B, 1, h, w) in (0, 1). A model
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


@torch.no_grad()
def gates_of(model: GAINMTL, images: Tensor) -> dict[str, Tensor]:
    """`read_gates` of images (B, 3, H, W) in [0, 1]."""
    return read_gates(model, model.features(model.preprocess(images)))


def cell_auroc(maps: Tensor, masks: Tensor) -> Tensor:
    """How often a map is higher on the defect than beside it, within one image; (B,) float64.

    `sum_ij m_i (1 - m_j) ([a_i > a_j] + [a_i = a_j] / 2) / sum_ij m_i (1 - m_j)` with a the map
    (B, 1, h, w) and m the share of each cell that the mask (B, 1, H, W) covers. In [0, 1]: 1 where
    every defective cell lies above every sound one, 0.5 where the map is unrelated to the defect,
    less where it is darker on the defect. Only the order of the cells counts, so maps of different
    scales can be compared. NaN where the mask is empty or covers everything.
    """
    inside = _shares(maps, masks)
    values = maps.detach().cpu().double().flatten(1)
    shares = []
    for a, m in zip(values, inside, strict=True):
        order = (a[:, None] - a[None, :]).sign()
        shares.append((m @ (order + 1) @ (1 - m)) / (2 * m.sum() * (1 - m).sum()))
    return torch.stack(shares)


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

    logits (B, 1, h, w) to (B,) float64 in [0, 1]: 1 where every probability is 0.5, 0 where every
    one is 0 or 1. It measures how sharp a map is, not whether it is right.
    """
    z = logits.detach().cpu().double().flatten(1)
    # -p log p = p softplus(-z), and the same for 1 - p, which stays finite for any logit
    p = torch.sigmoid(z)
    nats = p * torch.nn.functional.softplus(-z) + (1 - p) * torch.nn.functional.softplus(z)
    return nats.mean(1) / torch.log(torch.tensor(2.0, dtype=torch.float64))


@torch.no_grad()
def score_gates(model: GAINMTL, dataset: Dataset[Sample], batch_size: int = 32) -> pd.DataFrame:
    """One row per image: how gates and evidence lie on the defect.

    Columns: `name, group, defect_type, is_defective`; for every map of `GATES` that the model
    has, `<map>.cell_auroc` and `<map>.contrast`, NaN where there is no defect or no mask of it; and
    of guided attention `attention.entropy`, with the learned temperature, and
    `attention.entropy_at_one`, the same map with the temperature set back to 1.
    """
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    loader: DataLoader[Any] = DataLoader(dataset, batch_size=batch_size, collate_fn=collate)
    tables = []
    for batch in loader:
        features = model.features(model.preprocess(batch.image.to(device)))
        out = model(model.preprocess(batch.image.to(device)))
        marked = (batch.is_defective & batch.has_mask).numpy()
        columns: dict[str, Any] = {
            "name": batch.name,
            "group": batch.group,
            "defect_type": batch.defect_type,
            "is_defective": batch.is_defective.numpy(),
        }
        for name, maps in {**read_gates(model, features), "cam": out.cam}.items():
            for measure, function in (("cell_auroc", cell_auroc), ("contrast", contrast)):
                values = function(maps, batch.mask).numpy()
                columns[f"{name}.{measure}"] = np.where(marked, values, np.nan)
        if model.attention is not None and out.attention_logits is not None:
            logits = out.attention_logits
            columns["attention.entropy"] = cell_entropy(logits).numpy()
            at_one = logits * model.attention.temperature
            columns["attention.entropy_at_one"] = cell_entropy(at_one).numpy()
        tables.append(pd.DataFrame(columns))
    model.train(was_training)
    return pd.concat(tables, ignore_index=True)


GATE_MEASURES = (
    *(
        Measure(metric, f"{gate}.{metric}", "attention", {"gate": gate}, pair="")
        for gate in ("spatial", "attention")
        for metric in ("cell_auroc", "contrast")
    ),
    Measure("entropy", "attention.entropy", "attention", {"gate": "attention"}, pair=""),
    Measure(
        "entropy_at_one", "attention.entropy_at_one", "attention", {"gate": "attention"}, pair=""
    ),
    Measure("cell_auroc", "cam.cell_auroc", "cam", pair=""),
    Measure("contrast", "cam.contrast", "cam", pair=""),
)
"""Means over images; `gate` names the gate of a row."""
