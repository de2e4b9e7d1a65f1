"""Subsets: only normal images, only some exposures, a budget of labels or of test images."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gainmtl import datasets
from gainmtl.datasets.subsets import _spread, exposure_of, limit_exposures, limit_labels, limit_test


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
                Image.fromarray(pixels).save(stem.with_suffix(".jpg"), comment=str(number))
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


def _kept(data: datasets.Data) -> dict[str, set[str]]:
    return {part: set(getattr(data, part).names) for part in ("train", "val", "test")}


def test_a_budget_of_labels_is_nested_and_pays_for_validation(tiles: Path) -> None:
    data = datasets.load("magnetic-tile", tiles, image_size=16, folds=4)
    counts = data.counts
    total = counts["train"]["defective"] + counts["val"]["defective"]
    smaller: dict[str, set[str]] = {"train": set(), "val": set()}
    for n in range(2, total + 1):
        some = limit_labels(data, defective=n)
        found = {part: some.counts[part]["defective"] for part in ("train", "val")}
        assert found["train"] + found["val"] == n
        # The validation part has its share, and at least one.
        share = counts["val"]["defective"] / total
        assert abs(found["val"] - max(1, n * share)) <= 0.5
        assert found["train"] >= 1
        for part in ("train", "val"):
            assert some.counts[part]["normal"] == counts[part]["normal"]
            assert smaller[part] <= _kept(some)[part] <= _kept(data)[part]
        smaller = _kept(some)
        assert some.test is data.test
    assert smaller == _kept(data)


def test_draws_of_labels_differ_and_budgets_enter_the_fingerprint(tiles: Path) -> None:
    data = datasets.load("magnetic-tile", tiles, image_size=16, folds=4)
    assert limit_labels(data) is data
    first, again, other = (limit_labels(data, 10, 20, draw) for draw in (0, 0, 1))
    assert _kept(first) == _kept(again)
    assert _kept(first) != _kept(other)
    assert first.counts["train"]["normal"] + first.counts["val"]["normal"] == 20
    prints = {x.fingerprint for x in (data, first, other, limit_labels(data, 10, 21))}
    assert len(prints) == 4
    with pytest.raises(ValueError, match="defective: expected a whole number from 2 to 90, got 91"):
        limit_labels(data, defective=91)
    with pytest.raises(ValueError, match="normal: expected a whole number from 2 to 90, got 1"):
        limit_labels(data, normal=1)
    with pytest.raises(ValueError, match="draw: expected a whole number from 0"):
        limit_labels(data, 10, draw=-1)


def test_a_smaller_test_part_keeps_the_shares(tiles: Path) -> None:
    data = datasets.load("magnetic-tile", tiles, image_size=16, folds=4)
    assert limit_test(data, None) is data
    smaller: set[str] = set()
    for n in range(2, len(data.test) + 1):  # type: ignore[arg-type]
        some = limit_test(data, n)
        assert some.counts["test"]["images"] == n
        assert abs(some.counts["test"]["defective"] - n / 2) <= 1
        assert smaller < _kept(some)["test"]
        smaller = _kept(some)["test"]
        assert some.train is data.train
    with pytest.raises(ValueError, match="number of test images: expected a whole number from 2"):
        limit_test(data, 1)


@pytest.mark.parametrize("draw", range(3))
def test_every_first_part_of_an_order_has_all_types_and_designs(draw: int) -> None:
    kinds = [("crack", "a")] * 60 + [("crack", "b")] * 20 + [("hole", "a")] * 15 + [("x", "b")] * 5
    types, designs = zip(*kinds, ("normal", "a"), strict=True)
    labels = np.array([kind != "normal" for kind in types])
    part: Any = SimpleNamespace(labels=labels, defect_types=types, designs=designs)
    order = _spread(part, True, draw)
    assert sorted(order) == list(range(100))
    assert _spread(part, False, draw) == [100]
    shares = {kind: count / 100 for kind, count in Counter(kinds).items()}
    for n in range(1, 101):
        found = Counter(kinds[index] for index in order[:n])
        assert all(abs(found[kind] - n * share) <= 2 for kind, share in shares.items())
    assert order != _spread(part, True, draw + 1)


def test_a_part_is_empty_only_where_it_must_be() -> None:
    data = datasets.load("synthetic", image_size=32, train=4, val=24, test=20, defect_rate=0.9)
    limited = limit_labels(data, 2, 2)
    assert limited.counts["train"]["defective"] == 1
    assert limit_test(data, 3).counts["test"]["normal"] == 1
