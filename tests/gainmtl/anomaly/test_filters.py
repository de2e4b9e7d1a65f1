"""Filters: flat-field correction and smoothing, against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from gainmtl.anomaly.filters import FLOOR, MEAN, STD, flat_field, smoothing_matrix
from gainmtl.anomaly.memory_bank import MemoryBank


def surface(seed: int = 0) -> torch.Tensor:
    """(2, 3, 48, 48): grain on a middle grey."""
    grain = torch.rand(2, 1, 48, 48, generator=torch.Generator().manual_seed(seed))
    return (0.3 + 0.3 * grain).expand(-1, 3, -1, -1).contiguous()


def test_flat_field_by_its_formula_with_scipys_filter() -> None:
    images = surface()
    sigma = 4 / 48
    for image, corrected in zip(images.numpy(), flat_field(images, sigma), strict=True):
        light = ndimage.gaussian_filter(image.mean(0).astype(float), 4, mode="reflect")
        ratio = image / (light + FLOOR)
        expected = MEAN + STD * (ratio - ratio.mean()) / (ratio.std() + FLOOR)
        np.testing.assert_allclose(corrected.numpy(), expected.clip(0, 1), atol=1e-5)


def test_a_gradient_of_light_is_removed_and_grain_is_kept() -> None:
    images = surface()
    lamp = torch.linspace(0.6, 1.4, 48)
    shaded = images * lamp
    plain, even = flat_field(images, 0.1), flat_field(shaded, 0.1)
    columns = even.mean((0, 1, 2))
    assert float(shaded.mean((0, 1, 2)).std()) > 0.09
    assert float(columns.std()) < 0.4 * float(shaded.mean((0, 1, 2)).std())
    together = torch.corrcoef(torch.stack([plain.flatten(), even.flatten()]))[0, 1]
    assert float(together) > 0.95


def test_colours_keep_their_order_and_a_black_image_gives_no_noise() -> None:
    red = surface() * torch.tensor([1.0, 0.5, 0.25])[:, None, None]
    even = flat_field(red, 0.1)
    assert (even[:, 0] > even[:, 1]).float().mean() > 0.99
    flat = flat_field(torch.zeros(1, 3, 32, 32), 0.1)
    assert torch.allclose(flat, torch.full_like(flat, MEAN))


def test_an_exposure_changes_almost_nothing() -> None:
    images = surface()
    for factor in (0.5, 1.5):
        gap = flat_field(factor * images, 0.1) - flat_field(images, 0.1)
        assert 0 < float(gap.abs().max()) < 0.03
    double = flat_field(images.double(), 0.1)
    assert double.dtype == torch.float64
    assert torch.allclose(double.float(), flat_field(images, 0.1), atol=1e-5)
    assert flat_field(images.bfloat16(), 0.1).dtype == torch.float32


def test_autocast_changes_nothing() -> None:
    images = surface()
    with torch.autocast("cpu", torch.bfloat16):
        corrected = flat_field(images, 0.1)
    assert torch.equal(corrected, flat_field(images, 0.1))


def test_a_detector_applies_it_and_checks_its_width() -> None:
    images = surface()
    plain = MemoryBank("test_efficientnet", size=1, candidates=1)
    even = MemoryBank("test_efficientnet", size=1, candidates=1, flat_field=0.1)
    assert torch.equal(even.preprocess(images), plain.preprocess(flat_field(images, 0.1)))
    assert MemoryBank(**even.config).flat_field == 0.1
    with pytest.raises(ValueError, match="share of the side"):
        MemoryBank("test_efficientnet", flat_field=12)


def test_smoothing_matrix_is_resizing_and_scipys_filter() -> None:
    torch.manual_seed(0)
    level = torch.rand(1, 1, 6, 8)
    a, b = smoothing_matrix(6, 48, 3.0), smoothing_matrix(8, 64, 3.0)
    ours = a @ level @ b.T
    up = torch.nn.functional.interpolate(level, (48, 64), mode="bilinear", align_corners=True)
    theirs = ndimage.gaussian_filter(up[0, 0].numpy(), 3.0)
    assert np.abs(ours[0, 0].numpy() - theirs).max() < 1e-5


def test_a_kernel_wider_than_the_image_still_sums_to_one() -> None:
    assert torch.allclose(smoothing_matrix(2, 8, 4.0).sum(1), torch.ones(8), atol=1e-5)
