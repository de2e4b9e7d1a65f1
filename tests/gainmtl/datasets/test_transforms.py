from __future__ import annotations

import numpy as np
import pytest
import torch

from gainmtl.datasets.transforms import (
    most_covered,
    placement,
    resize_mask,
    resize_pair,
    restore_map,
)


def test_placement() -> None:
    assert placement((100, 50), 64) == (0, 0, 64, 64)
    assert placement((100, 50), 64, "pad") == (0, 16, 64, 32)
    assert placement((50, 100), 64, "pad") == (16, 0, 32, 64)
    assert placement((1000, 2), 10, "pad") == (0, 4, 10, 1)
    with pytest.raises(ValueError, match="one of squash, pad; found 'stretch'"):
        placement((1, 1), 8, "stretch")


def test_squash_of_a_hand_worked_mask() -> None:
    # 4 x 4 to 2 x 2: coverages 1, 1/2, 0, 1/4; their sum 1.75 rounds to two pixels.
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0], [0, 0, 1, 0]]).bool()[None]
    assert resize_mask(mask, 2, 2).int().tolist() == [[[1, 1], [0, 0]]]
    # 3 to 2: an output pixel covers 1.5 input pixels: coverages 1/3 and 2/3 of the middle one.
    assert resize_mask(torch.tensor([[[0, 0, 1]]]).bool(), 1, 2).tolist() == [[[False, True]]]
    # Enlarged by a whole factor, every pixel is repeated.
    assert torch.equal(
        resize_mask(mask, 8, 8), mask.repeat_interleave(2, 1).repeat_interleave(2, 2)
    )


@pytest.mark.parametrize("seed", range(8))
def test_no_defect_vanishes_and_area_stays(seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = rng.integers(20, 400, 2)
    one = torch.zeros(1, height, width, dtype=torch.bool)
    one[0, rng.integers(height), rng.integers(width)] = True
    assert resize_mask(one, 16, 16).sum() >= 1
    assert resize_mask(torch.zeros_like(one), 16, 16).sum() == 0
    blob = torch.zeros(1, height, width, dtype=torch.bool)
    blob[0, : height // 2, : width // 3] = True
    share = blob.double().mean()
    small = resize_mask(blob, 48, 48)
    assert abs(small.double().mean() - share) < 0.03
    assert small[0, :23, :15].all()
    assert not small[0, 25:].any()


def test_a_scratch_thinner_than_a_pixel_stays_whole() -> None:
    mask = torch.zeros(1, 120, 120, dtype=torch.bool)
    mask[0, :, 61] = True
    small = resize_mask(mask, 40, 40)
    assert small[0, :, 20].all()
    assert small.sum() == 40


def test_most_covered_ties() -> None:
    coverage = torch.tensor([[[0.25, 0.25, 0.25, 0.0], [0.0, 0.0, 0.0, 0.0]]])
    assert most_covered(coverage).sum() == 3
    assert most_covered(torch.tensor([[[1e-9, 0.0]]])).tolist() == [[[True, False]]]


def test_pad_keeps_proportions_and_fills_with_the_mean_colour() -> None:
    image = torch.zeros(3, 4, 8, dtype=torch.uint8)
    image[0] = 200
    image[1, :, :4] = 100  # mean 50
    mask = torch.zeros(1, 4, 8, dtype=torch.bool)
    mask[0, 0, 7] = True
    small, small_mask = resize_pair(image, mask, 8, "pad")
    assert small.dtype == torch.uint8
    assert small_mask is not None
    assert torch.equal(small[:, 2:6], image)
    assert small[:, 0, 0].tolist() == [200, 50, 0]
    assert small[:, 7, 3].tolist() == [200, 50, 0]
    assert small_mask.nonzero().tolist() == [[0, 2, 7]]
    alone, nothing = resize_pair(image.float() / 255, None, 8, "pad")
    assert nothing is None
    assert torch.allclose(alone, small.float() / 255, atol=1e-6)


@pytest.mark.parametrize("mode", ["squash", "pad"])
@pytest.mark.parametrize("size", [(37, 90), (90, 37), (64, 64)])
def test_image_and_mask_stay_aligned(mode: str, size: tuple[int, int]) -> None:
    mask = torch.zeros(1, *size, dtype=torch.bool)
    mask[0, 10:30, 12:31] = True
    image, small = resize_pair(mask.float().expand(3, -1, -1), mask, 48, mode)
    assert small is not None
    if mode == "pad":  # the fill is the mean colour, here not black
        place = placement(size, 48, mode)
        keep = torch.zeros_like(small)
        keep[0, place.top : place.top + place.height, place.left : place.left + place.width] = True
        image = image * keep
    assert ((image[0] > 0.5) != small[0]).float().mean() < 0.02


@pytest.mark.parametrize("mode", ["squash", "pad"])
def test_restore_map_is_the_way_back(mode: str) -> None:
    rows = torch.linspace(0, 1, 30)[:, None].expand(30, 50)
    square, _ = resize_pair(rows.expand(3, -1, -1), None, 64, mode)
    back = restore_map(square[None], (30, 50), mode)
    assert back.shape == (1, 3, 30, 50)
    assert (back[0, 0] - rows).abs().max() < 0.02
    assert restore_map(square[0], (30, 50), mode).shape == (30, 50)
    with pytest.raises(ValueError, match=r"square map; found \(3, 4\)"):
        restore_map(torch.zeros(3, 4), (3, 4))
