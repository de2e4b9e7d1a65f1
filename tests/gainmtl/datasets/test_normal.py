"""An anomaly detector's view of a data set: normal images to learn from, the same test."""

from __future__ import annotations

import pytest

from gainmtl import datasets


def test_only_normal_images_are_left_to_learn_from() -> None:
    data = datasets.load("synthetic", image_size=32, train=24, val=12, test=10)
    normal = datasets.normal_only(data)
    assert normal.test is data.test
    assert normal.counts["test"] == data.counts["test"]
    for part in ("train", "val"):
        view, whole = getattr(normal, part), getattr(data, part)
        assert not view.labels.any()
        assert view.names == tuple(
            n for n, bad in zip(whole.names, whole.labels, strict=True) if not bad
        )
        assert [view[i].name for i in range(len(view))] == list(view.names)
        assert not any(view[i].is_defective for i in range(len(view)))
        assert normal.counts[part]["defective"] == 0
        assert normal.counts[part]["images"] == data.counts[part]["normal"]
    assert normal.fingerprint != data.fingerprint
    assert (normal.fold, normal.folds) == (data.fold, data.folds)


def test_without_a_normal_image_there_is_nothing_to_learn() -> None:
    data = datasets.load("synthetic", image_size=32, train=8, val=8, test=8, train_defect_rate=1.0)
    with pytest.raises(ValueError, match="expected normal images in the train part"):
        datasets.normal_only(data)
