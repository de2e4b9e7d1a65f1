"""The memory bank: a coreset that covers, distances by hand and by brute force."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from gainmtl import datasets
from gainmtl.anomaly.fitting import fit_detector
from gainmtl.anomaly.memory_bank import MemoryBank, greedy_coreset, nearest_distance


def test_the_farthest_row_comes_next() -> None:
    rows = torch.tensor([[0.0], [0.1], [0.2], [10.0], [4.0]])
    picked = greedy_coreset(rows, 3)
    # Wherever it starts, an end of the line is next, and every row lies near one of the three.
    assert 3 in picked.tolist()
    assert nearest_distance(rows, rows[picked]).max() <= 0.2 + 1e-6
    assert greedy_coreset(rows, 9).tolist() == [0, 1, 2, 3, 4]


def test_the_cover_is_at_most_twice_the_best() -> None:
    torch.manual_seed(0)
    rows = torch.rand(9, 2)
    picked = greedy_coreset(rows, 3)
    radius = torch.cdist(rows, rows[picked]).amin(1).max()
    best = min(
        torch.cdist(rows, rows[list(chosen)]).amin(1).max()
        for chosen in torch.combinations(torch.arange(9), 3).tolist()
    )
    assert radius <= 2 * best + 1e-6


def test_nearest_distance_by_brute_force() -> None:
    torch.manual_seed(0)
    rows, bank = torch.randn(50, 7), torch.randn(11, 7)
    assert torch.allclose(
        nearest_distance(rows, bank, chunk=8), torch.cdist(rows, bank).amin(1), atol=1e-4
    )


def test_what_is_in_the_bank_is_no_anomaly() -> None:
    torch.manual_seed(0)
    images = torch.rand(3, 3, 64, 64)
    model = MemoryBank("test_efficientnet", size=1000, candidates=1000)
    with pytest.raises(RuntimeError, match="empty"):
        model(model.preprocess(images))
    model.fill([images[:2], images[2:]], 3)
    assert model.bank.shape == (3 * 8 * 8, sum(model.teacher.channels))
    with torch.no_grad():
        out = model(model.preprocess(images))
        strange = model(model.preprocess(1 - images))
    assert out.anomaly_score.max() < 0.05
    assert strange.anomaly_score.min() > out.anomaly_score.max()
    assert out.level_maps[0].shape == (3, 1, 8, 8)


def test_a_filled_bank_is_saved_and_loaded() -> None:
    images = torch.rand(2, 3, 64, 64)
    model = MemoryBank("test_efficientnet", size=20)
    model.fill([images], 2)
    other = MemoryBank("test_efficientnet", size=20)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.bank, model.bank)


def test_a_standardized_bank_measures_its_features_first() -> None:
    data = datasets.load("synthetic", image_size=64, train=8, val=8, test=8, seed=0)
    bank = MemoryBank("test_resnet", features="standardized", size=20)
    fit_detector(bank, data, accelerator="cpu")
    train: Any = datasets.normal_only(data).train
    images = torch.stack([s.image for s in train])
    level = bank.teacher(bank.preprocess(images))[0]
    assert level.mean((0, 2, 3)).abs().max() < 1e-3


def test_an_impossible_size_is_refused() -> None:
    with pytest.raises(ValueError, match="size <= candidates"):
        MemoryBank("test_efficientnet", size=10, candidates=5)
