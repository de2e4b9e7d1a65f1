"""Pooled pixel measures against brute force over every threshold."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
import torch
from torch import Tensor

from gainmtl import metrics
from gainmtl.evaluation.stats import resample_weights
from gainmtl.metrics import pixels
from gainmtl.metrics.ranking import curve_partial_area, ranking_curve

Region = list[tuple[int, int]]


def draw(seed: int, levels: int | None = 8, size: int = 12) -> tuple[Tensor, Tensor]:
    """Five maps at full size, the last two of normal images; few levels make many ties."""
    generator = torch.Generator().manual_seed(seed)
    masks = (torch.rand(5, 1, size, size, generator=generator) < 0.15).float()
    masks[3:] = 0
    noise = torch.rand(5, 1, size, size, generator=generator)
    maps = 0.7 * noise + 0.3 * masks * torch.rand(5, 1, size, size, generator=generator)
    return (maps if levels is None else (maps * levels).floor() / levels), masks


def regions_of(mask: np.ndarray) -> list[Region]:
    """Sets of pixels that touch by a side or a corner, by flood fill."""
    left = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    regions = []
    while left:
        region, frontier = [], [left.pop()]
        while frontier:
            y, x = frontier.pop()
            region.append((y, x))
            near = {(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= near
            frontier += near
        regions.append(region)
    return regions


def slow_aupro(maps: Tensor, masks: Tensor, limits: tuple[float, ...]) -> list[float]:
    """AUPRO per limit: all thresholds and regions one by one, the area as a fine sum."""
    scores, inside = maps[:, 0].numpy(), masks[:, 0].numpy() > 0
    regions = [(i, region) for i, mask in enumerate(inside) for region in regions_of(mask)]
    rates, overlaps = [0.0], [0.0]
    for threshold in np.unique(scores)[::-1]:
        above = scores >= threshold
        rates.append(float(above[~inside].mean()))
        overlaps.append(
            float(np.mean([np.mean([above[i][pixel] for pixel in r]) for i, r in regions]))
        )
    # The midpoints of a fine grid are no corners of the curve, so interpolation is unambiguous.
    steps = (np.arange(200_000) + 0.5) / 200_000
    return [float(np.interp(steps * limit, rates, overlaps).mean()) for limit in limits]


def test_aupro_by_hand() -> None:
    # Two regions, of 1 and of 2 pixels; 5 defect-free pixels. Thresholds from the top:
    #   .9 the small region is found: overlap 1/2 at rate 0; .8 one alarm: rate 1/5;
    #   .7 half of the large region: overlap 3/4; .6 one alarm: 2/5; .5 all: 1.
    maps = torch.tensor([[0.9, 0.8, 0.7, 0.5], [0.6, 0.1, 0.1, 0.1]])[None, None]
    masks = torch.tensor([[1.0, 0, 1, 1], [0, 0, 0, 0]])[None, None]
    assert metrics.aupro(maps, masks, 0.2) == pytest.approx(0.5)
    assert metrics.aupro(maps, masks, 0.3) == pytest.approx((0.2 * 0.5 + 0.1 * 0.75) / 0.3)
    assert metrics.aupro(maps, masks, 1.0) == pytest.approx(0.2 * (0.5 + 0.75) + 0.6)


def test_the_limit_may_cut_a_slanted_step() -> None:
    # One score for all: the curve is the diagonal, cut at .3.
    curve = ranking_curve(np.zeros(4), [np.zeros(10)])
    assert curve_partial_area(curve, 0.3) == pytest.approx(0.15)
    assert curve_partial_area(curve, 1.0) == pytest.approx(0.5)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("levels", [4, 8, None])
def test_aupro_by_brute_force(seed: int, levels: int | None) -> None:
    maps, masks = draw(seed, levels)
    limits = (0.05, 0.3, 1.0)
    values = [metrics.aupro(maps, masks, limit) for limit in limits]
    assert values == pytest.approx(slow_aupro(maps, masks, limits), abs=2e-5)


def test_regions_join_at_corners() -> None:
    mask = np.array([[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 1]], dtype=bool)
    assert pixels.region_weights(mask).tolist() == [0.5, 1, 0.5, 1]
    for seed in range(3):
        random = np.random.default_rng(seed).random((15, 15)) < 0.3
        assert pixels.region_weights(random).sum() == pytest.approx(len(regions_of(random)))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("levels", [4, None])
def test_pooled_against_sklearn(seed: int, levels: int | None) -> None:
    maps, masks = draw(seed, levels)
    labels, scores = masks.flatten().numpy(), maps.flatten().numpy()
    assert metrics.pixel_auroc(maps, masks) == pytest.approx(
        sklearn.metrics.roc_auc_score(labels, scores)
    )
    assert metrics.pooled_pixel_ap(maps, masks) == pytest.approx(
        sklearn.metrics.average_precision_score(labels, scores)
    )
    each = [
        sklearn.metrics.average_precision_score(m.flatten(), s.flatten())
        for m, s in zip(masks[:3].numpy(), maps[:3].numpy(), strict=True)
    ]
    assert metrics.pixel_ap(maps, masks)[:3].tolist() == pytest.approx(each)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    _, masks = draw(0)
    maps = torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(9))

    def measure() -> list[float]:
        histogram = metrics.PixelHistogram.of(maps, masks)
        pooled = [f(maps, masks) for f in (metrics.aupro, metrics.pixel_auroc)]
        return [*pooled, metrics.pooled_pixel_ap(maps, masks), float(histogram.auroc())]

    whole = measure()
    monkeypatch.setattr(pixels, "CHUNK_PIXELS", 300)
    assert len(list(pixels.chunks(maps, masks))) == 3
    assert measure() == whole


def test_a_constant_map_is_a_coin_toss_after_resizing() -> None:
    _, masks = draw(0)
    maps = torch.full((5, 1, 5, 7), 0.1)
    assert metrics.pixel_auroc(maps, masks) == 0.5
    assert metrics.aupro(maps, masks, 0.3) == pytest.approx(0.15)
    assert metrics.pooled_pixel_ap(maps, masks) == pytest.approx(float(masks.mean()))


def test_normal_images_count() -> None:
    maps, masks = draw(1)
    maps[3:] = 1
    for measure in (metrics.aupro, metrics.pixel_auroc, metrics.pooled_pixel_ap):
        assert measure(maps, masks) < measure(maps[:3], masks[:3])


@pytest.mark.parametrize("seed", range(3))
def test_histogram_is_exact_on_binned_scores(seed: int) -> None:
    maps, masks = draw(seed, levels=16)
    histogram = metrics.PixelHistogram.of(maps, masks, bins=16)
    assert float(histogram.auroc()) == pytest.approx(metrics.pixel_auroc(maps, masks))
    assert float(histogram.average_precision()) == pytest.approx(
        metrics.pooled_pixel_ap(maps, masks)
    )


def test_histogram_is_close_on_fine_scores_and_takes_any_range() -> None:
    maps, masks = draw(0, levels=None, size=60)
    exact = metrics.pooled_pixel_ap(maps, masks), metrics.pixel_auroc(maps, masks)
    for low, high in ((0.0, 1.0), (-3.0, 7.0)):
        stretched = low + maps * (high - low)
        histogram = metrics.PixelHistogram.of(stretched, masks, low=low, high=high)
        found = float(histogram.average_precision()), float(histogram.auroc())
        assert found == pytest.approx(exact, abs=1e-3)
    clipped = metrics.PixelHistogram.of(maps * 9 - 4, masks)
    assert clipped.positives.sum() + clipped.negatives.sum() == masks.numel()


def test_histograms_add_up_and_weights_repeat_images() -> None:
    maps, masks = draw(2)
    whole = metrics.PixelHistogram.of(maps, masks)
    parts = metrics.PixelHistogram.of(maps[:2], masks[:2]) + metrics.PixelHistogram.of(
        maps[2:], masks[2:]
    )
    assert len(parts) == 5
    assert np.array_equal(parts.positives, whole.positives)
    assert np.array_equal(parts.negatives, whole.negatives)
    weights = resample_weights(["a", "a", "b", "c", "d"], resamples=20, seed=1)
    found = whole.average_precision(weights), whole.auroc(weights)
    for row, weight in enumerate(weights):
        again = np.repeat(np.arange(5), weight)
        expected = metrics.pooled_pixel_ap(maps[again], masks[again])
        # Eight levels fall into distinct bins, so binning loses nothing.
        assert found[0][row] == pytest.approx(expected, nan_ok=True)
        expected = metrics.pixel_auroc(maps[again], masks[again])
        assert found[1][row] == pytest.approx(expected, nan_ok=True)
    nothing = np.zeros((1, 5))
    assert math.isnan(whole.auroc(nothing)[0])
    assert math.isnan(whole.average_precision(nothing)[0])


def test_undefined_is_nan() -> None:
    maps, masks = draw(0)
    normal = maps[3:], masks[3:]
    for measure in (metrics.aupro, metrics.pixel_auroc, metrics.pooled_pixel_ap):
        assert math.isnan(measure(*normal))
    assert math.isnan(metrics.pixel_auroc(maps[:1], torch.ones(1, 1, 12, 12)))
    assert math.isnan(metrics.aupro(maps[:1], torch.ones(1, 1, 12, 12)))


def test_bad_input_names_what_was_found() -> None:
    maps, masks = draw(0)
    with pytest.raises(ValueError, match=r"max_fpr must lie in \(0, 1\], found 30"):
        metrics.aupro(maps, masks, 30)
    with pytest.raises(ValueError, match="found 5 maps and 4 masks"):
        metrics.pixel_auroc(maps, masks[:4])
    histogram = metrics.PixelHistogram.of(maps, masks)
    with pytest.raises(ValueError, match="share low, high and bins"):
        histogram + metrics.PixelHistogram.of(maps, masks, bins=7)
    with pytest.raises(ValueError, match=r"weights must be \(\.\.\., 5\), found \(4,\)"):
        histogram.auroc(np.ones(4))
    with pytest.raises(ValueError, match="low < high"):
        metrics.PixelHistogram.of(maps, masks, low=1, high=0)


def test_a_histogram_by_region_gives_aupro_of_binned_scores() -> None:
    maps, masks = draw(5, None, size=24)
    bins = 64
    counted = metrics.PixelHistogram.of(maps, masks, bins=bins, by_region=True)
    binned = (maps * bins).floor() / bins
    for limit in (0.1, 0.3, 1.0):
        exact = metrics.aupro(binned, masks, limit)
        assert float(counted.aupro(max_fpr=limit)) == pytest.approx(exact, abs=1e-6)
    fine = metrics.PixelHistogram.of(maps, masks, bins=4096, by_region=True)
    assert float(fine.aupro()) == pytest.approx(metrics.aupro(maps, masks), abs=1e-3)


def test_a_histogram_by_region_adds_up_and_takes_weights() -> None:
    maps, masks = draw(6)
    whole = metrics.PixelHistogram.of(maps, masks, by_region=True)
    parts = [
        metrics.PixelHistogram.of(maps[a:b], masks[a:b], by_region=True)
        for a, b in ((0, 2), (2, 5))
    ]
    assert float((parts[0] + parts[1]).aupro()) == float(whole.aupro())
    weights = np.array([[1, 1, 1, 1, 1], [2, 0, 1, 0, 3]])
    taken = whole.aupro(weights)
    rows = [0, 0, 2, 4, 4, 4]
    assert taken[0] == pytest.approx(float(whole.aupro()))
    again = metrics.PixelHistogram.of(maps[rows], masks[rows], by_region=True)
    assert taken[1] == pytest.approx(float(again.aupro()))
    with pytest.raises(ValueError, match="by_region"):
        metrics.PixelHistogram.of(maps, masks).aupro()


def test_the_published_variant_of_aupro_by_hand() -> None:
    # One region of two pixels and six others; scores 0 ... 0.9, thresholds 0, 0.45 with two steps.
    #   > 0: overlap 1, rate 4/6, beyond the limit; > 0.45: overlap 1/2, rate 1/6.
    maps = torch.tensor([[0.9, 0.2, 0.0, 0.0], [0.5, 0.1, 0.3, 0.4]])[None, None]
    masks = torch.tensor([[1.0, 1.0, 0, 0], [0, 0, 0, 0]])[None, None]
    found = metrics.aupro_per_image(maps, masks, steps=2)
    assert float(found) == 0  # a single point has no area
    # With nine steps the kept points are those of rate 0 (overlap 1/2) and 1/6 (1/2): flat at 1/2.
    maps = torch.tensor([[0.9, 0.2, 0.0, 0.0], [0.5, 0.1, 0.1, 0.1]])[None, None]
    found = metrics.aupro_per_image(maps, masks, steps=9)
    assert 0.5 <= float(found) <= 1
    assert metrics.aupro_per_image(maps, torch.zeros_like(masks)).isnan().all()
    # A perfect map: no false alarm below the region's scores, nothing to integrate over.
    assert metrics.aupro_per_image(masks, masks).isnan().all()


def test_anomalib_as_a_witness_of_aupro() -> None:
    aupro = pytest.importorskip("anomalib.metrics.aupro")
    maps, masks = draw(9, None, size=32)
    measure = aupro._AUPRO(fpr_limit=0.3)
    measure.update(maps[:, 0], masks[:, 0].int())
    assert metrics.aupro(maps, masks) == pytest.approx(float(measure.compute()), abs=1e-4)


@pytest.mark.parametrize(
    "metric", [metrics.pixel_ap, metrics.aupro, metrics.aupro_per_image, metrics.pixel_auroc,
               lambda maps, masks: metrics.PixelHistogram.of(maps, masks, low=0, high=1)],
)  # fmt: skip
def test_every_metric_needs_one_mask_for_each_map(metric: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("gainmtl.metrics.pixels.CHUNK_PIXELS", 1)  # one map at a time
    maps, masks = torch.rand(2, 1, 4, 4), torch.ones(3, 1, 4, 4)
    with pytest.raises(ValueError, match="expected one mask for each map, found 2 maps and 3"):
        metric(maps, masks)
