"""The focal loss of one sample, against hand values, autograd and brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gainbook.chapters.ch07_localization.focal import (
    focal_factor,
    focal_gradient_factor,
    focal_optimum,
    shift_prior,
)

from gainmtl.losses import focal_loss


def test_an_easy_samples_loss_is_cut_a_hundredfold_at_nine_tenths() -> None:
    assert focal_factor(0.9, 2.0) == pytest.approx(0.01)
    assert focal_factor(0.95, 2.0) == pytest.approx(1 / 400)
    assert focal_factor([0.1, 0.5], 0.0).tolist() == [1, 1]


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
def test_both_factors_agree_with_the_loss_and_its_gradient(gamma: float) -> None:
    p = np.array([0.02, 0.3, 0.5, 0.9, 0.99])
    for one in p:
        # logits (0, z) of a defective sample: p = sigmoid(z)
        z = torch.logit(torch.tensor(one, dtype=torch.float64)).requires_grad_()
        logits = torch.stack([torch.zeros((), dtype=torch.float64), z])[None]
        values = []
        for exponent in (gamma, 0.0):
            loss = focal_loss(logits, torch.tensor([1]), exponent)
            (slope,) = torch.autograd.grad(loss, z, retain_graph=True)
            values.append((loss.item(), slope.item()))
        (loss_f, slope_f), (loss_0, slope_0) = values
        assert focal_factor(one, gamma) == pytest.approx(loss_f / loss_0, rel=1e-9)
        assert focal_gradient_factor(one, gamma) == pytest.approx(slope_f / slope_0, rel=1e-9)


def test_the_gradient_of_a_hopeless_sample_is_that_of_cross_entropy() -> None:
    assert focal_gradient_factor(0.0, 2.0) == pytest.approx(1)
    near = 1 - 1e-7
    ratio = focal_gradient_factor(near, 2.0) / focal_factor(near, 2.0)
    assert ratio == pytest.approx(3, rel=1e-3)
    with pytest.raises(ValueError, match="p = 1"):
        focal_gradient_factor([0.5, 1.0], 2.0)


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0, 5.0])
def test_the_optimum_is_the_one_that_a_search_finds(gamma: float) -> None:
    q = np.linspace(1e-4, 1 - 1e-4, 9999)
    for share in (0.02, 0.3, 0.5, 0.9):
        loss = -share * focal_factor(q, gamma) * np.log(q)
        loss -= (1 - share) * focal_factor(1 - q, gamma) * np.log(1 - q)
        found = float(focal_optimum(share, gamma))
        assert found == pytest.approx(q[loss.argmin()], abs=2e-4)
        if gamma == 0:
            assert found == pytest.approx(share, abs=1e-9)
        elif share != 0.5:
            assert abs(found - 0.5) < abs(share - 0.5)


def test_a_prior_is_shifted_by_bayes_rule() -> None:
    # 2 defective and 98 normal; of the normal ones 1 in 49 looks the same: 2 against 2
    assert shift_prior(0.5, 0.02, 0.5) == pytest.approx(49 / 50)
    p = np.array([0.0, 0.2, 0.7, 1.0])
    assert np.allclose(shift_prior(shift_prior(p, 0.1, 0.5), 0.5, 0.1), p)
    with pytest.raises(ValueError, match="inside"):
        shift_prior(0.5, 0.0, 0.5)


@pytest.mark.parametrize("function", [focal_factor, focal_gradient_factor, focal_optimum])
def test_what_is_no_probability_is_refused(function) -> None:
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        function([0.5, 1.5], 2.0)
