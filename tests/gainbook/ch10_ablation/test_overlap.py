"""The overlap of attention and localization, of models that have both."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gainbook.chapters.ch10_ablation.overlap import map_overlaps

from gainmtl.cam import resize_map
from gainmtl.metrics import soft_overlap
from gainmtl.model import GAINMTL
from gainmtl.types import Sample


class Parts:
    """Two defective parts and a normal one."""

    labels = np.array([True, True, False])
    has_mask = np.array([True, True, True])

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Sample:
        image = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(index))
        mask = torch.zeros(1, 32, 32)
        mask[0, 4:9, 4:9] = float(self.labels[index])
        return Sample(image, bool(self.labels[index]), mask, True, "x", f"g{index}", f"{index}")


def test_overlap_is_measured_for_models_that_have_both_maps() -> None:
    torch.manual_seed(0)
    models: Any = {
        name: GAINMTL("test_efficientnet", name, None).eval() for name in ("S2", "S3", "S4")
    }
    tables = map_overlaps(models, Parts())
    assert set(tables) == {"S4"}
    assert tables["S4"]["name"].tolist() == ["0", "1"]
    model, image = models["S4"], Parts()[0].image[None]
    with torch.no_grad():
        out = model(model.preprocess(image))
    maps = resize_map(out.attention_logits, (32, 32)), out.localization_logits
    expected = soft_overlap(*(torch.sigmoid(m) for m in maps)).item()
    assert tables["S4"]["map_overlap"][0] == pytest.approx(expected, abs=1e-6)
