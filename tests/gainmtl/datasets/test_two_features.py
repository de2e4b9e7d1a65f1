"""Two features on one part: masks apart, pictures that differ in them alone, labels that follow."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gainmtl.datasets.synthetic.two_features import (
    FEATURES,
    TwoFeatures,
    TwoFeaturesSettings,
    make_two_features,
)
from gainmtl.types import NORMAL


@pytest.fixture(scope="module")
def parts() -> TwoFeatures:
    return TwoFeatures(TwoFeaturesSettings(test=40, weak_alone=0.3), "test")


def test_both_follow_the_label(parts: TwoFeatures) -> None:
    assert parts.labels.sum() == 20
    assert (parts.shows["weak"] == parts.labels).all()
    assert not (parts.shows["strong"] & ~parts.labels).any()
    assert parts.defect_types.count("weak") == 6
    assert parts.defect_types.count("both") == 14
    always = TwoFeatures(TwoFeaturesSettings(test=40), "test")
    assert set(always.defect_types) == {"both", NORMAL}


def test_a_picture_without_features_is_the_normal_part(parts: TwoFeatures) -> None:
    for i in range(len(parts)):
        sample = parts[i]
        shown = [name for name in FEATURES if parts.shows[name][i]]
        assert torch.equal(sample.image, parts.picture(i, *shown))
        assert sample.is_defective == bool(shown)
        assert bool(sample.mask.any()) == sample.is_defective
        assert torch.equal(sample.image, parts.picture(i)) != sample.is_defective


def test_masks_lie_apart_and_hold_what_changes(parts: TwoFeatures) -> None:
    sizes = []
    for i in range(len(parts)):
        strong, weak = (parts.feature_mask(i, name)[0].numpy() > 0 for name in FEATURES)
        rows, columns = np.nonzero(strong)
        others = np.argwhere(weak)
        near = [np.maximum(abs(rows - r), abs(columns - c)).min() for r, c in others]
        assert min(near) > 2
        sizes.append((strong.sum(), weak.sum()))
        change = (parts.picture(i, "weak") - parts.picture(i)).abs().amax(0).numpy()
        assert change[weak].max() == change.max() > 0
    strong_sizes, weak_sizes = np.array(sizes).T
    assert np.median(weak_sizes) < np.median(strong_sizes) / 3


def test_the_same_dials_give_the_same_pixels_and_splits_differ() -> None:
    first, again = (make_two_features(train=8, val=4, test=8) for _ in range(2))
    assert torch.equal(first.train[3].image, again.train[3].image)
    assert not torch.equal(first.train[3].image, first.test[3].image)
    assert (
        first.fingerprint
        == again.fingerprint
        != make_two_features(train=8, val=4, test=9).fingerprint
    )
    assert first.counts["train"]["defective"] == 4
    with pytest.raises(IndexError, match="below 8"):
        first.train[8]


def test_impossible_dials_are_named() -> None:
    with pytest.raises(ValueError, match="weak_alone: expected a number from 0 to 1, got 2.0"):
        make_two_features(weak_alone=2.0)
