"""Rendering: every defect is visible, masks are exact, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gainmtl.datasets.annotation import coarsen
from gainmtl.datasets.synthetic.defects import DEFECTS
from gainmtl.datasets.synthetic.rendering import VISIBLE_SHARE, Scene, render
from gainmtl.datasets.synthetic.textures import TEXTURES, smooth_noise, spline_matrix

PLAIN = Scene(
    seed=3,
    split=0,
    part=0,
    view=0,
    size=64,
    texture="cast",
    defect=None,
    defect_size=1.0,
    defect_contrast=1.0,
    marked=False,
)


@pytest.mark.parametrize("texture", TEXTURES)
@pytest.mark.parametrize("defect", DEFECTS)
@pytest.mark.parametrize("size", [32, 97])
def test_every_defect_shows_on_every_texture(texture: str, defect: str, size: int) -> None:
    for part in range(6):
        scene = PLAIN._replace(part=part, size=size, texture=texture, defect=defect)
        rendering = render(scene)
        assert rendering.image.shape == (3, size, size)
        assert rendering.image.dtype == np.uint8
        assert 0 < rendering.mask.mean() < 0.25
        difference = np.abs(rendering.image.astype(int) - rendering.clean).max(axis=0)
        assert difference.max() >= 6, "the defect must be visible"
        # Well lit and structured: neither black, white nor flat.
        assert 30 < rendering.clean.mean() < 225
        assert rendering.clean.std() > 3
        assert (rendering.clean == 255).mean() < 0.05


@pytest.mark.parametrize("defect", DEFECTS)
def test_mask_is_where_the_image_differs_from_its_clean_counterpart(defect: str) -> None:
    for part, texture in enumerate(TEXTURES):
        scene = PLAIN._replace(part=part, texture=texture, defect=defect, size=128)
        rendering = render(scene)
        # Undo quantisation and noise, as far as possible: relative change with its bounds.
        image, clean = rendering.image.astype(float), rendering.clean.astype(float)
        smooth = np.maximum(clean, 1)
        change = np.abs(image - clean)
        noise = 255 * 0.016 * 4
        low = ((change - 1) / (smooth + noise)).max(axis=0)
        high = ((change + 1) / np.maximum(smooth - noise, 1)).max(axis=0)
        mask = rendering.mask[0] == 1
        assert (high[mask] >= VISIBLE_SHARE * low.max()).all()
        assert (low[~mask] <= VISIBLE_SHARE * high.max()).all()
        assert change.max(axis=0)[mask].mean() > 4 * change.max(axis=0)[~mask].mean()


def test_normal_part_is_its_own_clean_counterpart() -> None:
    rendering = render(PLAIN)
    assert not rendering.mask.any()
    assert not rendering.mark_mask.any()
    np.testing.assert_array_equal(rendering.image, rendering.clean)


@pytest.mark.parametrize("defect", DEFECTS)
def test_contrast_grows_and_leaves_the_clean_image(defect: str) -> None:
    for part in range(4):
        scene = PLAIN._replace(part=part, defect=defect)
        weak, plain, strong = (
            render(scene._replace(defect_contrast=contrast)) for contrast in (0.4, 1.0, 1.6)
        )
        np.testing.assert_array_equal(weak.clean, strong.clean)
        sums = [np.abs(r.image.astype(int) - r.clean).sum() for r in (weak, plain, strong)]
        assert sums[0] < sums[1] < sums[2]


@pytest.mark.parametrize("defect", DEFECTS)
def test_size_grows_the_area_and_leaves_the_clean_image(defect: str) -> None:
    areas = []
    for size in (0.5, 1.0, 2.0):
        scene = PLAIN._replace(defect=defect, defect_size=size, size=128)
        renderings = [render(scene._replace(part=part)) for part in range(8)]
        areas.append(np.mean([r.mask.mean() for r in renderings]))
        np.testing.assert_array_equal(renderings[0].clean, render(scene._replace(part=0)).clean)
    assert areas[0] * 1.4 < areas[1]
    assert areas[1] * 1.4 < areas[2]


def test_small_defects_exist() -> None:
    scene = PLAIN._replace(defect="blowhole", size=128)
    areas = [render(scene._replace(part=part)).mask.mean() for part in range(60)]
    assert min(areas) < 0.0015
    assert np.median(areas) < 0.01


@pytest.mark.parametrize("extreme", [(0.25, 0.1), (4.0, 3.0), (0.25, 3.0), (4.0, 0.1)])
def test_extreme_dials_still_leave_a_trace(extreme: tuple[float, float]) -> None:
    for defect in DEFECTS:
        for part in range(10):
            scene = PLAIN._replace(part=part, defect=defect)
            rendering = render(scene._replace(defect_size=extreme[0], defect_contrast=extreme[1]))
            assert rendering.mask.any()
            assert (rendering.image != rendering.clean).any()


def test_mark_changes_its_own_place_only_and_avoids_the_defect() -> None:
    overlaps = 0
    for part in range(60):
        scene = PLAIN._replace(part=part, defect="chip", defect_size=1.5, size=96)
        without, marked = render(scene), render(scene._replace(marked=True))
        assert not without.mark_mask.any()
        assert 0 < marked.mark_mask.mean() < 0.05
        changed = np.abs(marked.clean.astype(int) - without.clean).max(axis=0) > 1
        place = marked.mark_mask[0] == 1
        assert changed[place].mean() > 0.9
        near = coarsen(torch.from_numpy(marked.mark_mask).float(), "dilated")[0].numpy() == 1
        assert not changed[~near].any()
        overlaps += bool((place & (marked.mask[0] == 1)).any())
    assert overlaps == 0


def test_views_share_the_defect_but_not_the_light() -> None:
    scene = PLAIN._replace(defect="chip")
    first, second = render(scene), render(scene._replace(view=1))
    assert (first.image != second.image).mean() > 0.5
    both, either = first.mask & second.mask, first.mask | second.mask
    assert both.sum() > 0.9 * either.sum()


def test_spline_noise_has_unit_variance_and_a_partition_of_unity() -> None:
    np.testing.assert_allclose(spline_matrix(50, 7).sum(axis=1), 1, rtol=1e-5)
    rng = np.random.default_rng(0)
    assert np.std([smooth_noise(rng, 24, 12) for _ in range(200)]) == pytest.approx(1, abs=0.05)
