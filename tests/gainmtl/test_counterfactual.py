"""Removing and keeping the defect, on small feature maps."""

from __future__ import annotations

import pytest
import torch

from gainmtl.counterfactual import NormalFeatures, cell_mask, keep_only, remove


def constant(*values: float) -> torch.Tensor:
    """(B, 1, 2, 2) features, one value per sample."""
    return torch.tensor(values)[:, None, None, None].expand(-1, 1, 2, 2)


def test_running_mean_of_normal_features() -> None:
    normal = NormalFeatures(1, momentum=0.1)
    normal.update(constant(2.0, 4.0, 100.0), torch.tensor([True, True, False]))
    assert float(normal.mean) == pytest.approx(3.0)  # the first update sets it
    normal.update(constant(5.0, 100.0), torch.tensor([True, False]))
    assert float(normal.mean) == pytest.approx(0.9 * 3 + 0.1 * 5)


def test_a_batch_without_normal_samples_does_not_change_the_mean() -> None:
    normal = NormalFeatures(1)
    normal.update(constant(7.0), torch.tensor([False]))
    assert (float(normal.mean), int(normal.updates)) == (0.0, 0)
    normal.update(constant(2.0), torch.tensor([True]))
    assert float(normal.mean) == 2.0


def test_the_mean_is_saved_and_has_no_gradient() -> None:
    normal = NormalFeatures(1)
    features = constant(1.0).clone().requires_grad_()
    normal.update(features, torch.tensor([True]))
    assert not normal.mean.requires_grad
    assert set(normal.state_dict()) == {"mean", "updates"}


def test_a_single_pixel_covers_its_cell_and_the_margin() -> None:
    masks = torch.zeros(1, 1, 20, 20)
    masks[..., 9, 9] = 1
    cells = cell_mask(masks, (5, 5), margin=0)
    assert cells.sum() == 1
    assert cells[0, 0, 2, 2] == 1
    grown = cell_mask(masks, (5, 5), margin=1)
    assert grown.sum() == 9
    assert grown[0, 0, 1:4, 1:4].all()


def test_cells_of_a_grid_that_does_not_divide_the_mask() -> None:
    masks = torch.zeros(1, 1, 10, 10)
    masks[..., 4, :] = 1
    cells = cell_mask(masks, (3, 3), margin=0)[0, 0]
    assert cells[1].all()
    assert not cells[[0, 2]].any()


def test_remove_and_keep_only_are_complements() -> None:
    features = torch.arange(8.0).view(1, 2, 2, 2)
    cells = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    mean = torch.tensor([-1.0, -2.0])
    removed, kept = remove(features, cells, mean), keep_only(features, cells, mean)
    assert removed.flatten().tolist() == [-1, 1, 2, 3, -2, 5, 6, 7]
    assert kept.flatten().tolist() == [0, -1, -1, -1, 4, -2, -2, -2]
    torch.testing.assert_close(removed + kept, features + mean[None, :, None, None])
