"""Subsets: only normal images, or only some exposures, and an unchanged test part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gainmtl import datasets
from gainmtl.datasets.subsets import exposure_of, limit_exposures


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("MT_Free/Imgs/exp3_num_45042.jpg", 3),
        ("exp12_num_1.png", 12),
        ("MT_Free/Imgs/exp0_num_7.jpg, seed 2", 0),
    ],
)
def test_the_name_says_the_exposure(name: str, expected: int) -> None:
    assert exposure_of(name) == expected


@pytest.mark.parametrize("name", ["crack/0001.png", "myexp3_num_4.jpg", "exp3_num_4/other.png"])
def test_another_name_is_an_error(name: str) -> None:
    with pytest.raises(ValueError, match=r"like exp1_num_2345\.jpg"):
        exposure_of(name)


@pytest.fixture
def tiles(tmp_path: Path) -> Path:
    """20 normal and 20 cracked tiles, six exposures each, the grey level tens of the exposure."""
    for kind, start in (("Free", 0), ("Crack", 100_000)):
        for tile in range(20):
            for exposure in range(1, 7):
                number = start + tile * 1000 + exposure
                stem = tmp_path / f"MT_{kind}/Imgs/exp{exposure}_num_{number}"
                stem.parent.mkdir(parents=True, exist_ok=True)
                pixels = np.full((16, 16), 10 * exposure, np.uint8)
                Image.fromarray(pixels).save(stem.with_suffix(".jpg"))
                mask = np.zeros((16, 16), np.uint8)
                mask[4:8, 4:8] = 255 * (kind == "Crack")
                Image.fromarray(mask).save(stem.with_suffix(".png"))
    return tmp_path


def test_training_and_validation_keep_the_light_and_the_test_is_whole(tiles: Path) -> None:
    data = datasets.load("magnetic-tile", tiles, image_size=16, folds=4)
    dark = limit_exposures(data, (1, 2, 3))
    for part in (dark.train, dark.val):
        levels = {round(float(part[i].image.mean() * 255 / 10)) for i in range(len(part))}  # type: ignore[arg-type]
        assert levels == {1, 2, 3}
        assert {exposure_of(name) for name in part.names} == {1, 2, 3}  # type: ignore[attr-defined]
    assert dark.test is data.test
    for part in ("train", "val"):
        for key in ("images", "normal", "defective"):
            assert 2 * dark.counts[part][key] == data.counts[part][key]
        assert dark.counts[part]["groups"] == data.counts[part]["groups"]
    assert dark.counts["test"] == data.counts["test"]
    assert dark.fingerprint != data.fingerprint
    for i in range(len(dark.train)):  # type: ignore[arg-type]
        sample = dark.train[i]
        assert (sample.name, sample.group) == (dark.train.names[i], dark.train.groups[i])  # type: ignore[attr-defined]
        assert sample.is_defective == dark.train.labels[i] == bool(sample.mask.any())  # type: ignore[attr-defined]
    with pytest.raises(IndexError):
        dark.train[len(dark.train)]  # type: ignore[arg-type]


def test_all_light_is_the_same_data_and_none_of_it_an_error(tiles: Path) -> None:
    data = datasets.load("magnetic-tile", tiles, image_size=16, folds=4)
    assert limit_exposures(data, ()) is data
    with pytest.raises(ValueError, match="expected some among train's"):
        limit_exposures(data, (9,))


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
