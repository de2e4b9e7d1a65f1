"""Interventions: regions, controls, and no effect of masks on predictions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import Dataset

from gainmtl.counterfactual import cell_mask
from gainmtl.datasets import load
from gainmtl.evaluation.interventions import (
    INTERVENTIONS,
    LEVELS,
    intervene,
    nearest_surfaces,
    score_interventions,
)
from gainmtl.evaluation.scoring import score
from gainmtl.model import GAINMTL
from gainmtl.types import Sample


class Listed(Dataset[Sample]):
    def __init__(self, samples: list[Sample]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[index]


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    test = load("synthetic", image_size=48, train=4, val=4, test=12, seed=3).test
    return [test[i] for i in range(12)]


@pytest.fixture(scope="module")
def model() -> GAINMTL:
    """An untrained model that classifies everything as defective."""
    torch.manual_seed(0)
    model = GAINMTL("test_efficientnet", "S5", width=16).eval()
    with torch.no_grad():
        model.normal_features.mean.normal_()
    model.threshold = 0.0
    return model


@pytest.fixture(scope="module")
def answers(model: GAINMTL, samples: list[Sample]) -> pd.DataFrame:
    return score_interventions({"it": model}, Listed(samples))["it"]


def scene() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A grey part with a black defect, its mask, and a lighter intact surface."""
    image, mask = torch.full((1, 3, 20, 20), 0.5), torch.zeros(1, 1, 20, 20)
    mask[..., 5:8, 5:8] = 1
    return torch.where(mask > 0.5, 0.0, image), mask, torch.full((1, 3, 20, 20), 0.8)


def test_interventions_on_a_uniform_image() -> None:
    image, mask, surface = scene()
    got = intervene(image, mask, surface, margin=1)
    assert got.region.sum() == 25
    torch.testing.assert_close(got.removed, torch.full_like(image, 0.5))
    # The defect stays, and around it the surface takes the grey of the margin.
    torch.testing.assert_close(got.kept, image, atol=1e-4, rtol=0)
    assert bool(got.has_elsewhere)
    assert got.elsewhere.sum() == 25
    assert (got.elsewhere * got.region).sum() == 0
    torch.testing.assert_close(got.moved, image)


def test_every_intervention_leaves_its_complement_unchanged(samples: list[Sample]) -> None:
    bad = [s for s in samples if s.is_defective]
    images, masks = (torch.stack([getattr(s, key) for s in bad]) for key in ("image", "mask"))
    got = intervene(images, masks, images.flip(0), generator=torch.Generator().manual_seed(0))
    for picture, region in (
        (got.removed, got.region),
        (got.kept, 1 - got.region),
        (got.moved, got.elsewhere),
    ):
        untouched = (region < 0.5).expand_as(images)
        assert torch.equal(picture[untouched], images[untouched])
        assert 0 <= picture.min()
        assert picture.max() <= 1
    area = got.elsewhere.sum((1, 2, 3))
    assert torch.equal(area, got.region.sum((1, 2, 3)) * got.has_elsewhere)


def test_a_defect_of_more_than_half_is_replaced_by_the_surface_and_has_no_control() -> None:
    image, _, surface = scene()
    got = intervene(image, torch.ones(1, 1, 20, 20), surface)
    assert torch.equal(got.removed, surface)
    assert torch.equal(got.kept, image)
    assert not bool(got.has_elsewhere)
    assert torch.equal(got.moved, image)


def test_the_nearest_surface_is_similar_in_brightness_and_texture() -> None:
    ramp = torch.linspace(0, 1, 16)
    stripes = (torch.arange(16) % 2).float() * 0.2
    flat, across = torch.full((3, 16, 16), 0.4), (0.4 + stripes).expand(3, 16, 16)
    down, light = across.transpose(1, 2), 0.5 * ramp.expand(3, 16, 16) + 0.5
    normal = torch.stack([flat, across, down, light])
    masks = torch.zeros(4, 1, 16, 16)
    masks[..., 2:5, 2:5] = 1
    images = torch.where(masks > 0.5, 1.0, normal * 0.98)  # the defect itself doesn't count
    assert torch.equal(nearest_surfaces(images, masks, normal), normal)
    assert torch.equal(nearest_surfaces(images, masks, normal[:1]), normal[:1].expand_as(normal))


def test_one_row_per_marked_defective_part(
    answers: pd.DataFrame, samples: list[Sample], model: GAINMTL
) -> None:
    bad = [s for s in samples if s.is_defective]
    assert answers["name"].tolist() == [s.name for s in bad]
    expected = score(model, Listed(bad)).images
    np.testing.assert_allclose(
        answers["defect_probability"], expected["defect_probability"], atol=1e-5
    )
    for level in LEVELS:
        for name in INTERVENTIONS:
            values = answers[f"{level}.{name}"]
            assert values.dropna().between(0, 1).all()
            assert name == "moved" or values.notna().all()


def test_scores_at_the_features_against_the_models_own(
    answers: pd.DataFrame, samples: list[Sample], model: GAINMTL
) -> None:
    bad = [s for s in samples if s.is_defective]
    images, masks = (torch.stack([getattr(s, key) for s in bad]) for key in ("image", "mask"))
    with torch.no_grad():
        features = model.features(model.preprocess(images))
    own = model.counterfactual(features, masks)
    np.testing.assert_allclose(answers["features.removed"], own.removed, atol=1e-5)
    np.testing.assert_allclose(answers["features.kept"], own.kept, atol=1e-5)
    cells = cell_mask(masks, (features.shape[2], features.shape[3]))
    fits = cells.mean((1, 2, 3)) <= 0.5
    assert answers["features.moved"].notna().to_numpy()[~fits.numpy()].sum() == 0


def test_flips_count_only_verdicts_that_were_defective(
    model: GAINMTL, samples: list[Sample], answers: pd.DataFrame
) -> None:
    threshold = float(answers["defect_probability"].median())
    model.threshold = threshold
    got = score_interventions({"it": model}, Listed(samples), batch_size=4)["it"]
    model.threshold = 0.0
    np.testing.assert_allclose(got["image.removed"], answers["image.removed"], atol=1e-4)
    for level in LEVELS:
        for name in INTERVENTIONS:
            for _, one in got.iterrows():
                flip, after = one[f"flip.{level}.{name}"], one[f"{level}.{name}"]
                is_known = one["is_flagged"] and not math.isnan(after)
                assert math.isnan(flip) if not is_known else flip == float(after < threshold)
    assert 0 < got["is_flagged"].sum() < len(got)


def test_all_models_get_the_same_images_and_keep_their_mode(
    model: GAINMTL, samples: list[Sample], answers: pd.DataFrame
) -> None:
    model.train()
    both = score_interventions({"a": model, "b": model}, Listed(samples))
    assert model.training
    model.eval()
    pd.testing.assert_frame_equal(both["a"], both["b"])
    pd.testing.assert_frame_equal(both["a"], answers)


def test_parts_without_a_mask_are_left_out(model: GAINMTL, samples: list[Sample]) -> None:
    first = next(s for s in samples if s.is_defective)
    unmarked = first._replace(mask=torch.zeros_like(first.mask), has_mask=False)
    normal = next(s for s in samples if not s.is_defective)
    got = score_interventions({"it": model}, Listed([unmarked, normal, first]))["it"]
    assert len(got) == 1
    with pytest.raises(ValueError, match="defective parts with a mask"):
        score_interventions({"it": model}, Listed([unmarked, normal]))
    with pytest.raises(ValueError, match="normal parts"):
        score_interventions({"it": model}, Listed([first]))


def test_predictions_do_not_depend_on_masks(model: GAINMTL, samples: list[Sample]) -> None:
    """Only the interventions do."""

    def shifted(sample: Sample) -> Any:
        return sample._replace(mask=sample.mask.roll((7, 9), (1, 2)))

    true, other = (
        score_interventions({"it": model}, Listed(given))["it"]
        for given in (samples, [shifted(s) for s in samples])
    )
    assert true["defect_probability"].equals(other["defect_probability"])
    assert not np.allclose(true["image.removed"], other["image.removed"], atol=1e-6)


@pytest.mark.parametrize("stride", [32, 8])
def test_the_control_of_score_spares_the_defect_on_every_grid(
    stride: int, samples: list[Sample]
) -> None:
    """A grid of 2 x 2 cells has often no other place, and then there is no control."""
    torch.manual_seed(0)
    model = GAINMTL("test_efficientnet", "S1", output_stride=stride, width=16).eval()
    model.threshold = 0.0
    seen: list[torch.Tensor] = []
    removed = model.counterfactual

    def watch(features: torch.Tensor, cells: torch.Tensor, margin: int = 1) -> Any:
        seen.append(cell_mask(cells, (features.shape[2], features.shape[3]), margin))
        return removed(features, cells, margin=margin)

    model.counterfactual = watch  # type: ignore[method-assign]
    whole = samples[0]._replace(
        is_defective=True, has_mask=True, mask=torch.ones_like(samples[0].mask)
    )
    images = score(model, Listed([*samples, whole])).images
    marked = images["is_defective"] & images["has_mask"]
    true, moved = seen
    overlaps = (true * moved).sum((1, 2, 3)).numpy() > 0
    control = images["flip.moved"][marked].to_numpy()
    assert np.isnan(control[overlaps]).all()
    assert np.isnan(control[-1])
    assert images["flip.removed"][marked].notna().all()
    if stride == 8:
        assert np.isfinite(control).any()
