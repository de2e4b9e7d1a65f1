"""Gates read from models, and the measures of a map against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from gainbook.chapters.ch05_attention.gates import (
    GATES,
    cell_auroc,
    cell_entropy,
    contrast,
    read_gates,
)
from gainbook.lab import catalogue
from gainbook.lab.systems import System
from sklearn.metrics import roc_auc_score

from gainmtl.model import GAINMTL

MAP = torch.tensor([[[[0.9, 0.1], [0.5, 0.5]]]])
MASK = torch.tensor([[[[1.0, 0.0], [1.0, 0.0]]]])  # the left column


def build(system: System) -> GAINMTL:
    torch.manual_seed(0)
    return GAINMTL(
        "test_efficientnet", system.strategy, output_stride=4, **dict(system.options)
    ).eval()


@pytest.mark.parametrize(
    ("system", "names"),
    [
        (catalogue.PLAIN, set()),
        (catalogue.WITH_SE, set()),
        (catalogue.WITH_CBAM, {"spatial"}),
        (catalogue.ATTENTION_BARE, {"attention"}),
        (catalogue.ATTENTION_CBAM, {"spatial", "attention"}),
    ],
    ids=lambda value: getattr(value, "tag", ""),
)
def test_a_model_has_the_gates_of_its_parts(system: System, names: set[str]) -> None:
    model = build(system)
    images = model.preprocess(torch.rand(2, 3, 64, 64))
    with torch.no_grad():
        features, out = model.features(images), model(images)
    maps = read_gates(model, features)
    assert set(maps) == names <= set(GATES)
    for values in maps.values():
        assert values.shape == (2, 1, 16, 16)
        assert 0 < values.min()
        assert values.max() < 1
    if out.attention_logits is not None:
        torch.testing.assert_close(maps["attention"], out.attention_logits.sigmoid())


def test_cell_auroc_by_hand() -> None:
    # pairs (defective, sound): 0.9 > 0.1, 0.9 > 0.5, 0.5 > 0.1, and one tie: 3.5 of 4
    assert cell_auroc(MAP, MASK).item() == 3.5 / 4
    assert cell_auroc(-MAP, MASK).item() == 0.5 / 4
    assert cell_auroc(torch.zeros_like(MAP), MASK).item() == 0.5
    assert cell_auroc(7 * MAP - 3, MASK).item() == 3.5 / 4  # only the order counts


def test_cell_auroc_agrees_with_sklearn_and_weighs_cells_by_their_share() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(3, 1, 6, 6, generator=generator).mul(8).round()  # with ties
    masks = (torch.rand(3, 1, 12, 12, generator=generator) > 0.7).float()
    pixels = maps.repeat_interleave(2, 2).repeat_interleave(2, 3)
    expected = []
    for values, mask in zip(pixels, masks, strict=True):
        share = torch.nn.functional.avg_pool2d(mask, 2).numpy().ravel()
        cells = values[0, ::2, ::2].numpy().ravel()
        labels = np.repeat([1, 0], len(cells))
        weights = np.concatenate([share, 1 - share])
        expected.append(roc_auc_score(labels, np.tile(cells, 2), sample_weight=weights))
    np.testing.assert_allclose(cell_auroc(maps, masks).numpy(), expected, atol=1e-6)


def test_contrast_by_hand() -> None:
    assert contrast(MAP, MASK).item() == pytest.approx((0.9 + 0.5) / 2 - (0.1 + 0.5) / 2)
    assert contrast(MAP, 1 - MASK).item() == pytest.approx(-0.4)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_without_a_defect_or_a_surrounding_there_is_no_answer(value: float) -> None:
    masks = torch.full((1, 1, 4, 4), value)
    assert math.isnan(cell_auroc(MAP, masks).item())
    assert math.isnan(contrast(MAP, masks).item())
    with pytest.raises(ValueError, match="a mask for each map, found 1 and 2"):
        contrast(MAP, masks.repeat(2, 1, 1, 1))


def test_entropy_in_bits() -> None:
    logits = torch.tensor([[[[0.0, 0.0]]], [[[1e4, -1e4]]], [[[0.0, math.log(3)]]]])
    quarter = -(0.25 * math.log2(0.25) + 0.75 * math.log2(0.75))
    expected = [1.0, 0.0, (1 + quarter) / 2]
    np.testing.assert_allclose(cell_entropy(logits).numpy(), expected, atol=1e-6)


def test_a_temperature_changes_the_entropy_and_not_the_order() -> None:
    logits = torch.randn(2, 1, 5, 5, generator=torch.Generator().manual_seed(0))
    masks = (torch.rand(2, 1, 5, 5, generator=torch.Generator().manual_seed(1)) > 0.5).float()
    sharp = logits / 0.25
    assert torch.equal(cell_auroc(logits, masks), cell_auroc(sharp, masks))
    assert (cell_entropy(sharp) < cell_entropy(logits)).all()
