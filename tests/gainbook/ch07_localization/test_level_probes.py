"""Linear read-outs: an exact answer where there is one, a witness where there is not."""

from __future__ import annotations

import numpy as np
import torch
from gainbook.chapters.ch07_localization.level_probes import (
    Level,
    Probe,
    fit_probe,
    judge_level,
    levels_of,
    read_where,
    read_whether,
    ridge,
)
from sklearn.linear_model import Ridge

from gainmtl.datasets import load
from gainmtl.model import GAINMTL


def test_ridge_agrees_with_a_witness() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 3, generator=generator) * torch.tensor([1.0, 2.0, 0.5]) + 3
    t = x @ torch.tensor([1.0, -2.0, 0.0]) + torch.randn(40, generator=generator)
    centred = x.double() - x.double().mean(0)
    size = 0.1 * float((centred.T @ centred).diagonal().mean())
    witness = Ridge(alpha=size).fit(x.double().numpy(), t.double().numpy())
    assert np.allclose(ridge(x, t, 0.1), [*witness.coef_, witness.intercept_])
    assert torch.allclose(
        ridge(torch.ones(5, 2), torch.full((5,), 0.3)).sum(), torch.tensor(0.3).double()
    )


def test_a_probe_reads_what_its_features_say() -> None:
    # channel 1 is the defect itself, on a grid of stride 2
    masks = torch.zeros(4, 1, 8, 8)
    masks[0, 0, 2:4, 2:4] = 1
    masks[1, 0, 4:8, 0:2] = 1
    shares = torch.nn.functional.avg_pool2d(masks, 2)
    features = torch.cat([torch.randn(4, 1, 4, 4), shares], dim=1)
    bad = masks.amax((1, 2, 3)) > 0
    level = Level(2, features, masks, bad, torch.tensor([True, True, True, True]))
    probe = fit_probe(level, penalty=1e-8)
    assert torch.allclose(read_where(probe, features), shares, atol=1e-4)
    found = judge_level(probe, level)
    assert found.oracle > 0.7
    assert abs(found.where - found.oracle) < 1e-6
    assert found.whether == 1
    unmarked = level._replace(is_known=torch.tensor([False, True, True, True]))
    assert judge_level(probe, unmarked).oracle > 0


def test_shapes_of_a_backbones_levels() -> None:
    torch.manual_seed(0)
    model = GAINMTL("test_efficientnet", "S1", output_stride=4, width=8)
    part = load("synthetic", image_size=32, train=6, val=4, test=4).train
    levels = levels_of(model, part)
    assert [level.stride for level in levels] == list(model.backbone.strides)
    assert model.training
    for level in levels:
        assert level.features.shape[2] == 32 // level.stride
        probe = fit_probe(level)
        assert isinstance(probe, Probe)
        assert read_where(probe, level.features).shape == (6, 1, *level.features.shape[2:])
        assert read_whether(probe, level.features).shape == (6,)
