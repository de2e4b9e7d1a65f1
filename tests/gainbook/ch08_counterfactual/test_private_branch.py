"""The branch that cheats: its bias alone earns the loss."""

from __future__ import annotations

import math

import pytest
import torch
from gainbook.chapters.ch08_counterfactual.private_branch import PrivateCounterfactual


@pytest.mark.parametrize("bias", [0.0, 1.0, 5.0])
def test_the_loss_of_a_bias(bias: float) -> None:
    branch = PrivateCounterfactual(4)
    with torch.no_grad():
        branch.classifier.weight.zero_()
        branch.classifier.bias[0] = bias
    loss = branch.loss(torch.randn(3, 4, 5, 5), torch.zeros(3, 1, 5, 5))
    assert loss.item() == pytest.approx(math.log1p(math.exp(-bias)))


def test_it_learns_without_a_mask_and_calls_untouched_defects_normal() -> None:
    torch.manual_seed(0)
    branch, features = PrivateCounterfactual(4), torch.randn(8, 4, 5, 5)
    nowhere = torch.zeros(8, 1, 5, 5)
    optimizer = torch.optim.Adam(branch.parameters(), 0.05)
    for _ in range(100):
        optimizer.zero_grad()
        loss = branch.loss(features, nowhere)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.01
    with torch.no_grad():
        assert (branch(features, nowhere).argmax(1) == 0).all()


def test_its_loss_reaches_the_features() -> None:
    """Its only gradient for the rest of the network is towards normal, defect or not."""
    features = torch.randn(2, 4, 5, 5, requires_grad=True)
    PrivateCounterfactual(4).loss(features, torch.ones(2, 1, 5, 5)).backward()
    assert features.grad is not None
    assert features.grad.abs().sum() > 0
