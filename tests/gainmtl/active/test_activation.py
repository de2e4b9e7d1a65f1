"""Activation scores of maps: values by hand, and SciPy as the witness."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from gainmtl import active
from gainmtl.active.activation import agreement, concentration, mass_inside, overlap

ONE = np.array([[[3.0, 1], [-5, 0]]])
"""Positive mass 4; the cell with -5 counts as 0."""
CORNER = np.array([[[1, 0], [0, 0]]])


def test_mass_and_overlap_by_hand() -> None:
    assert mass_inside(ONE, CORNER) == pytest.approx([0.75])
    # only the cell with 3 reaches half of the maximum
    assert overlap(ONE, CORNER) == pytest.approx([1])
    assert overlap(ONE, CORNER, threshold=0.3) == pytest.approx([0.5])
    assert active.score_with_masks(ONE, CORNER) == pytest.approx([0.875])


def test_a_map_without_positive_cells_is_outside_of_every_mask() -> None:
    assert mass_inside(-np.abs(ONE), CORNER).tolist() == [0]
    assert overlap(-np.abs(ONE), CORNER).tolist() == [0]


def test_an_empty_mask_has_no_score_of_its_own() -> None:
    maps = np.concatenate([ONE, ONE, ONE])
    masks = np.concatenate([CORNER, 0 * CORNER, 1 - CORNER])
    assert math.isnan(mass_inside(maps, masks)[1])
    score = active.score_with_masks(maps, masks)
    assert score[1] == pytest.approx((score[0] + score[2]) / 2)
    assert active.score_with_masks(ONE, 0 * CORNER).tolist() == [0.5]


def test_concentration_is_between_one_cell_and_all_cells() -> None:
    maps = np.zeros((4, 2, 2))
    maps[0, 0, 0] = 7
    maps[1] = 1
    maps[2, 0] = 1  # half of the cells
    assert concentration(maps) == pytest.approx([1, 0, 0.5, 0])


def test_agreement_is_the_correlation_of_positive_parts() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 20, 3, 4))
    brute = [
        max(0, stats.pearsonr(np.maximum(x, 0).ravel(), np.maximum(y, 0).ravel())[0])
        for x, y in zip(a, b, strict=True)
    ]
    assert agreement(a, b) == pytest.approx(brute)
    assert agreement(a, a) == pytest.approx(np.ones(20))
    assert agreement(np.ones((1, 2, 2)), ONE).tolist() == [0]


def test_the_score_without_masks_by_hand() -> None:
    one = np.zeros((1, 2, 2))
    one[0, 0, 0] = 1
    moved = one[:, ::-1]
    # concentration 1; agreement 1 with itself, and -1/3 cut to 0 with the moved one
    assert active.score_without_masks(one, (one, one)) == pytest.approx([1])
    assert active.score_without_masks(one, (one, one), (one, moved)) == pytest.approx([0.75])


def test_scale_does_not_matter_and_scores_are_shares() -> None:
    rng = np.random.default_rng(2)
    maps, others = rng.normal(size=(2, 30, 4, 4))
    masks = rng.random((30, 4, 4)) < 0.3
    free = active.score_without_masks(maps, (maps, others))
    inside = active.score_with_masks(maps, masks)
    for score in (free, inside):
        assert ((score >= 0) & (score <= 1)).all()
    assert active.score_without_masks(9 * maps, (9 * maps, 2 * others)) == pytest.approx(free)
    assert active.score_with_masks(9 * maps, masks) == pytest.approx(inside)


def test_impossible_input_is_explained() -> None:
    with pytest.raises(ValueError, match="maps \\(N, h, w\\)"):
        concentration(np.ones((2, 2)))
    with pytest.raises(ValueError, match="resize the masks"):
        mass_inside(ONE, np.ones((1, 4, 4)))
    with pytest.raises(ValueError, match="at least one view"):
        active.score_without_masks(ONE)
    with pytest.raises(ValueError, match="one shape"):
        agreement(ONE, np.ones((1, 3, 3)))


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_a_map_that_is_not_finite_has_no_score(wrong: float) -> None:
    maps = np.ones((3, 2, 2))
    maps[1, 0, 0] = wrong
    for function in (concentration, lambda x: agreement(x, x)):
        with pytest.raises(ValueError, match="found NaN or infinity in 1 of 3"):
            function(maps)


def test_maps_of_two_grids_are_not_compared_and_an_empty_pool_has_no_scores() -> None:
    with pytest.raises(ValueError, match="expected two maps of one shape"):
        agreement(np.ones((3, 2, 8)), np.ones((3, 4, 4)))
    assert concentration(np.ones((0, 2, 2))).shape == (0,)
