"""Fills against hand-computed values, brute force, and a linear ramp."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import spsolve

from gainmtl.evaluation.inpainting import (
    dilate,
    free_shift,
    harmonic_fill,
    inpaint,
    own_surface,
    shift,
)


def image(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows)[None, None]


def laplace(values: NDArray[np.float64], region: NDArray[np.bool_]) -> tuple[csr_matrix, NDArray]:
    """The linear system of the fill, with one equation per pixel of the region."""
    height, width = values.shape
    unknowns = {place: i for i, place in enumerate(zip(*np.nonzero(region), strict=True))}
    entries: dict[tuple[int, int], float] = {}
    right = np.zeros(len(unknowns))
    for (y, x), i in unknowns.items():
        for place in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            if not (0 <= place[0] < height and 0 <= place[1] < width):
                continue
            entries[i, i] = entries.get((i, i), 0) + 1
            if place in unknowns:
                entries[i, unknowns[place]] = -1
            else:
                right[i] += values[place]
    rows, columns = zip(*entries, strict=True)
    size = (len(unknowns), len(unknowns))
    return csr_matrix((list(entries.values()), (rows, columns)), shape=size), right


def test_one_pixel_becomes_the_mean_of_its_neighbours() -> None:
    x = image([9.0, 1.0, 9.0], [2.0, 50.0, 3.0], [9.0, 6.0, 9.0])
    region = image([0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0])
    assert harmonic_fill(x, region)[0, 0, 1, 1].item() == pytest.approx((1 + 2 + 3 + 6) / 4)


def test_a_gap_is_interpolated_and_an_open_end_is_constant() -> None:
    gap = harmonic_fill(image([0.0, 7.0, 7.0, 7.0, 4.0]), image([0.0, 1.0, 1.0, 1.0, 0.0]))
    torch.testing.assert_close(gap, image([0.0, 1.0, 2.0, 3.0, 4.0]), atol=1e-6, rtol=0)
    end = harmonic_fill(image([7.0, 7.0, 3.0, 5.0]), image([1.0, 1.0, 0.0, 0.0]))
    torch.testing.assert_close(end, image([3.0, 3.0, 3.0, 5.0]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("seed", range(3))
def test_against_a_dense_solution_of_a_tiny_image(seed: int) -> None:
    random = np.random.default_rng(seed)
    values, region = random.random((7, 6)), random.random((7, 6)) < 0.6
    matrix, right = laplace(values, region)
    expected = values.copy()
    expected[region] = np.linalg.solve(matrix.toarray(), right)
    x = torch.from_numpy(values)[None, None]
    got = harmonic_fill(x, torch.from_numpy(region)[None, None].double())
    np.testing.assert_allclose(got[0, 0].numpy(), expected, atol=1e-12)


def test_a_large_region_against_another_sparse_solver() -> None:
    random = np.random.default_rng(0)
    values, region = random.random((2, 40, 33)), np.ones((40, 33), bool)
    region[12:19, 5:11] = False
    x = torch.from_numpy(values).float()[None]
    got = harmonic_fill(x, torch.from_numpy(region)[None, None].float())[0].numpy()
    for channel, filled in zip(values, got, strict=True):
        expected = spsolve(*laplace(channel, region))
        np.testing.assert_allclose(filled[region], expected, atol=1e-6)


def test_a_linear_ramp_is_restored() -> None:
    y, x = torch.meshgrid(torch.arange(20.0), torch.arange(24.0), indexing="ij")
    ramp = torch.stack([0.01 * x + 0.02 * y, 0.5 - 0.015 * x])[None]
    region = torch.zeros(1, 1, 20, 24)
    region[..., 3:15, 4:20] = 1
    region[..., 6:9, 9:11] = 0
    torch.testing.assert_close(harmonic_fill(ramp, region), ramp, atol=1e-6, rtol=0)


def test_the_fill_stays_in_the_range_of_its_border() -> None:
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    region = torch.zeros(2, 1, 16, 16)
    region[..., 4:12, 3:14] = 1
    filled = harmonic_fill(x, region)
    for before, after in zip(x.flatten(0, 1), filled.flatten(0, 1), strict=True):
        outside = before[region[0, 0] < 0.5]
        assert outside.min() <= after.min() + 1e-5
        assert after.max() <= outside.max() + 1e-5


def test_pixels_outside_stay_and_pixels_inside_have_no_effect() -> None:
    generator = torch.Generator().manual_seed(1)
    x, region = torch.rand(2, 3, 12, 10, generator=generator), torch.zeros(2, 1, 12, 10)
    region[0, 0, 2:7, 3:9] = 1
    region[1, 0, 8:, :4] = 1
    rubbish = torch.where(region > 0.5, torch.nan, x)
    for donors in (None, torch.rand(2, 3, 12, 10, generator=generator)):
        filled = inpaint(rubbish, region, donors)
        assert torch.isfinite(filled).all()
        assert torch.equal(filled[(region < 0.5).expand_as(x)], x[(region < 0.5).expand_as(x)])
        torch.testing.assert_close(filled, inpaint(x, region, donors))


def test_images_of_a_batch_are_independent() -> None:
    generator = torch.Generator().manual_seed(2)
    x = torch.rand(3, 2, 16, 16, generator=generator)
    region = dilate((torch.rand(3, 1, 16, 16, generator=generator) > 0.97).float(), 1)
    alone = torch.cat([harmonic_fill(x[i : i + 1], region[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(harmonic_fill(x, region), alone, atol=1e-6, rtol=0)


def test_an_empty_region_is_the_identity() -> None:
    x = torch.rand(2, 3, 8, 8)
    assert torch.equal(harmonic_fill(x, torch.zeros(2, 1, 8, 8)), x)
    assert torch.equal(inpaint(x, torch.zeros(2, 1, 8, 8), torch.rand(2, 3, 8, 8)), x)


def test_the_brightness_of_the_donor_has_no_effect() -> None:
    """Gradients are those of the donor, the level is that of the border."""
    x = torch.rand(1, 1, 14, 14, generator=torch.Generator().manual_seed(3)) * 0.5
    region = torch.zeros(1, 1, 14, 14)
    region[..., 4:9, 5:10] = 1
    damaged = torch.where(region > 0.5, torch.ones_like(x), x)
    torch.testing.assert_close(inpaint(damaged, region, x + 0.3), x, atol=1e-6, rtol=0)


def test_a_region_of_the_whole_image_gives_the_donor() -> None:
    x, donors, region = torch.rand(2, 1, 6, 6), torch.rand(2, 1, 6, 6), torch.zeros(2, 1, 6, 6)
    region[0] = 1
    filled = inpaint(x, region, donors)
    assert torch.equal(filled[0], donors[0])
    assert torch.equal(filled[1], x[1])
    with pytest.raises(ValueError, match="expected pixels outside the region in every image"):
        inpaint(x, region)


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"\(1, 3, 8, 8\) and \(1, 1, 8, 9\)"):
        harmonic_fill(torch.rand(1, 3, 8, 8), torch.zeros(1, 1, 8, 9))


def test_dilation_of_one_pixel_is_a_square() -> None:
    mask = torch.zeros(1, 1, 9, 9)
    mask[..., 4, 4] = 1
    grown = dilate(mask, 2)
    assert grown.sum() == 25
    assert grown[..., 2:7, 2:7].all()
    assert torch.equal(dilate(mask, 0), mask)


def possible_shifts(region: torch.Tensor, avoid: torch.Tensor) -> set[tuple[int, int]]:
    """Brute force over all shifts."""
    height, width = region.shape
    places = region.nonzero().tolist()
    shifts = itertools.product(range(-height, height + 1), range(-width, width + 1))
    return {
        (dy, dx)
        for dy, dx in shifts
        if all(
            0 <= y + dy < height and 0 <= x + dx < width and not avoid[y + dy, x + dx]
            for y, x in places
        )
    }


@pytest.mark.parametrize("seed", range(4))
def test_free_shifts_against_all_shifts(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    region = torch.zeros(1, 1, 7, 6)
    region[0, 0, 2:4, 1:3] = 1
    region[0, 0, 4, 2] = 1
    avoid = torch.maximum(region, (torch.rand(region.shape, generator=generator) > 0.8).float())
    possible = possible_shifts(region[0, 0], avoid[0, 0])
    drawn = {tuple(free_shift(region, avoid, generator)[0][0].tolist()) for _ in range(40)}
    nearest, found = free_shift(region, avoid)
    assert bool(found) == bool(possible)
    if possible:
        assert drawn <= possible
        assert nearest.square().sum() == min(dy * dy + dx * dx for dy, dx in possible)
        moved = shift(region, nearest)
        assert moved.sum() == region.sum()
        assert (moved * avoid).sum() == 0


def test_a_region_of_more_than_half_has_no_free_shift() -> None:
    region = torch.zeros(2, 1, 8, 8)
    region[0, 0, :5, :5] = 1
    region[1, 0, :2, :2] = 1
    shifts, found = free_shift(region, region)
    assert found.tolist() == [False, True]
    assert shifts.tolist()[0] == [0, 0]


def test_own_surface_shifts_the_nearest_intact_place_onto_the_region() -> None:
    x = torch.arange(36.0).view(1, 1, 6, 6)
    region = torch.zeros(1, 1, 6, 6)
    region[..., 0, 0] = 1
    avoid = region.clone()
    avoid[..., 0, 1] = avoid[..., 1, :] = 1
    donors, found = own_surface(x, region, avoid)
    assert bool(found)
    assert donors[0, 0, 0, 0] in (x[0, 0, 0, 2], x[0, 0, 2, 0])  # two steps away, either way
