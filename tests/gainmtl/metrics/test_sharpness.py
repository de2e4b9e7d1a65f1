"""Sharpness: by hand, against plain loops and eigenvalues, at the edges, and with a gradient."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from gainmtl import metrics

Measure = Callable[[Tensor], Tensor]
MEASURES: dict[str, Measure] = {
    "ce": metrics.cam_entropy,
    "ca": metrics.cam_elliptic_area,
    "cd": metrics.cam_dispersion,
    "rd": metrics.cam_relative_difference,
    "contrast": metrics.cam_contrast,
}
EVEN = torch.ones(1, 1, 4, 4)
DOT = torch.zeros(1, 1, 4, 4)
DOT[0, 0, 1, 2] = 3.0
HALF = torch.tensor([[[[1.0, 1.0], [0.0, 0.0]]]])
CORNERS = torch.zeros(1, 1, 4, 4)
CORNERS[0, 0, [0, 0, 3, 3], [0, 3, 0, 3]] = 5.0
FAINT = torch.tensor([[[[3.0, 1.0], [1.0, 1.0]]]])  # mean 1.5: one active cell of 3, the rest 1


@pytest.mark.parametrize(
    ("name", "maps", "expected"),
    [
        ("ce", EVEN, math.log(16)),
        ("ce", DOT, 0.0),
        ("ce", HALF, math.log(2)),
        ("ce", FAINT, 0.5 * math.log(2) + 0.5 * math.log(6)),
        # a line of n centres at (i + 1/2) / n has the variance (1 - 1/n^2) / 12
        ("ca", EVEN, (1 - 1 / 16) / 12),
        ("ca", DOT, 0.0),
        ("ca", HALF, 0.0),
        ("ca", CORNERS, 0.375**2),
        ("cd", EVEN, 0.0),
        ("cd", DOT, 15.0),
        ("cd", HALF, 1.0),
        ("cd", FAINT, 4 * (0.25 + 3 / 36) - 1),
        ("rd", EVEN, 0.0),
        ("rd", DOT, math.inf),
        ("rd", FAINT, 2.0),
        ("contrast", EVEN, 0.0),
        ("contrast", DOT, 1.0),
        ("contrast", FAINT, 0.5),
    ],
)
def test_by_hand(name: str, maps: Tensor, expected: float) -> None:
    assert float(MEASURES[name](maps)) == pytest.approx(expected, abs=1e-6)
    # Scale has no effect, and negative cells do not count.
    assert float(MEASURES[name](1e-30 * maps)) == pytest.approx(expected, abs=1e-6)
    shown = torch.where(maps > 0, maps, torch.full_like(maps, -7.0))
    assert float(MEASURES[name](shown)) == pytest.approx(expected, abs=1e-6)


def loops(maps: Tensor) -> dict[str, list[float]]:
    """The definitions, one image and one cell at a time, with NumPy's eigenvalues."""
    found: dict[str, list[float]] = {name: [] for name in MEASURES}
    for image in maps[:, 0].double().numpy():
        shown = np.maximum(image, 0)
        p = shown / shown.sum()
        places = [((i + 0.5) / p.shape[0], (j + 0.5) / p.shape[1]) for i, j in np.ndindex(p.shape)]
        found["ce"].append(-sum(v * math.log(v) for v in p.flat if v > 0))
        covariance = np.cov(np.array(places).T, aweights=p.flatten(), ddof=0)
        eigenvalues = np.linalg.eigvalsh(covariance)
        found["ca"].append(math.sqrt(max(eigenvalues[0] * eigenvalues[1], 0)))
        found["cd"].append(shown.var() / shown.mean() ** 2)
        above, rest = shown[shown > shown.mean()].mean(), shown[shown <= shown.mean()].mean()
        found["rd"].append((above - rest) / rest)
        found["contrast"].append((above - rest) / (above + rest))
    return found


def test_against_loops() -> None:
    maps = torch.randn(6, 1, 5, 7, generator=torch.Generator().manual_seed(0))
    for name, expected in loops(maps).items():
        single, double = MEASURES[name](maps), MEASURES[name](maps.double())
        exact = torch.tensor(expected, dtype=torch.float64)
        torch.testing.assert_close(double, exact, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(single.double(), exact, rtol=2e-5, atol=0)


def test_ranges_and_the_bound_between_entropy_and_dispersion() -> None:
    generator = torch.Generator().manual_seed(1)
    maps = torch.randn(200, 1, 6, 6, generator=generator) * 3 - 1
    ce, ca, cd = (MEASURES[name](maps) for name in ("ce", "ca", "cd"))
    assert bool(((ce >= 0) & (ce <= math.log(36) + 1e-6)).all())
    assert bool(((ca >= 0) & (ca < 0.25)).all())
    assert bool(((cd >= -1e-5) & (cd <= 35 + 1e-4)).all())
    assert bool((cd >= 36 * torch.exp(-ce) - 1 - 1e-3).all())
    rd, contrast = (MEASURES[name](maps) for name in ("rd", "contrast"))
    torch.testing.assert_close(contrast, (rd / (2 + rd)).nan_to_num(1.0))


@pytest.mark.parametrize("name", MEASURES)
def test_a_vanished_map_is_undefined_and_disturbs_nobody(name: str) -> None:
    maps = torch.stack([torch.randn(1, 4, 4), -torch.rand(1, 4, 4), torch.zeros(1, 4, 4)])
    maps.requires_grad_()
    found = MEASURES[name](maps)
    assert found.isnan().tolist() == [False, True, True] == metrics.vanished(maps).tolist()
    (gradient,) = torch.autograd.grad(found[0], maps)
    assert bool(gradient.isfinite().all())
    assert float(gradient[1:].abs().sum()) == 0


@pytest.mark.parametrize("name", ["ce", "ca", "cd", "contrast"])
def test_the_gradient_and_its_gradient(name: str) -> None:
    generator = torch.Generator().manual_seed(2)
    maps = torch.randn(2, 1, 3, 4, generator=generator, dtype=torch.float64)
    maps = maps.sign() * (maps.abs() + 0.1)  # away from the kink
    maps.requires_grad_()
    assert torch.autograd.gradcheck(MEASURES[name], (maps,))
    assert torch.autograd.gradgradcheck(MEASURES[name], (maps,))


def test_the_entropys_gradient_is_the_closed_form() -> None:
    maps = torch.rand(1, 1, 3, 3, dtype=torch.float64, requires_grad=True)
    p = (maps / maps.sum()).detach()
    ce = metrics.cam_entropy(maps)
    (gradient,) = torch.autograd.grad(ce, maps)
    torch.testing.assert_close(gradient, -(p.log() + ce.detach()) / maps.detach().sum())


def test_the_places_of_cells_matter_to_the_area_alone() -> None:
    maps = torch.randn(1, 1, 6, 6, generator=torch.Generator().manual_seed(3))
    order = torch.randperm(36, generator=torch.Generator().manual_seed(4))
    moved = maps.flatten()[order].view_as(maps)
    for name, measure in MEASURES.items():
        same = float(measure(maps)) == pytest.approx(float(measure(moved)), rel=1e-5)
        assert same == (name != "ca")


def test_the_area_does_not_depend_on_the_grid() -> None:
    coarse = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(5))
    fine = coarse.repeat_interleave(4, 2).repeat_interleave(4, 3)
    apart = float(metrics.cam_elliptic_area(fine)) / float(metrics.cam_elliptic_area(coarse))
    assert apart == pytest.approx(1, abs=0.02)


def test_half_precision_is_measured_in_single() -> None:
    maps = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(6))
    found = metrics.cam_entropy(maps.bfloat16())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, metrics.cam_entropy(maps.bfloat16().float()))


def test_a_map_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"maps must be \(B, 1, h, w\), found \(2, 3, 4, 4\)"):
        metrics.cam_entropy(torch.zeros(2, 3, 4, 4))


def test_no_map_has_no_dispersion() -> None:
    assert metrics.cam_dispersion(torch.ones(0, 1, 3, 3)).shape == (0,)
