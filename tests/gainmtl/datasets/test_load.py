from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from gainmtl import datasets
from gainmtl.datasets.image_dataset import fits_in_memory


def _load(root: Path, **options: object):
    return datasets.load("folder", root, **{"image_size": 16, "folds": 3, **options})


def _names(data: datasets.Data) -> dict[str, set[str]]:
    return {part: set(getattr(data, part).names) for part in ("train", "val", "test")}


def test_folds_of_a_folder(folder_set: Path) -> None:
    tested: Counter[str] = Counter()
    prints = set()
    for fold in range(3):
        data = _load(folder_set, fold=fold)
        names = _names(data)
        assert sum(len(n) for n in names.values()) == 18 == len(set().union(*names.values()))
        tested.update(names["test"])
        prints.add(data.fingerprint)
        assert (data.fold, data.folds, data.split, data.image_size) == (fold, 3, "folds", 16)
        assert data.counts["test"] == {
            "images": 6, "normal": 4, "defective": 2, "groups": 6, "empty_masks": 0,
            "defective_without_mask": int("images/defective/crack/5.png" in names["test"]),
        }  # fmt: skip
        assert data.counts["val"]["defective"] == 1  # max(1, round(.15 * 4))
        assert data.classes_in_train() == ("normal", "defective")
        assert "Defective images without a mask file: 1 " in data.report()
        assert f"fold {fold} of 3" in data.report()
        assert data.test[0].image.shape == (3, 16, 16)
    assert tested == Counter(_names(data)["train"] | _names(data)["val"] | names["test"])
    assert len(prints) == 1


def test_empty_masks_are_counted_apart(folder_set: Path, write) -> None:
    write("masks/0.png", 0)
    data = _load(folder_set)
    counts = [data.counts[part] for part in ("train", "val", "test")]
    assert sum(c["empty_masks"] for c in counts) == 1
    assert sum(c["defective_without_mask"] for c in counts) == 1
    assert "Defective images whose mask marks nothing: 1 " in data.report()


def test_groups_file_keeps_parts_together(folder_set: Path) -> None:
    names = sorted(p.relative_to(folder_set).as_posix() for p in folder_set.rglob("*/*.png"))
    names = [n for n in names if n.startswith("images/")]
    rows = [f"{name},g{i // 2}" for i, name in enumerate(names)]
    (folder_set / "groups.csv").write_text("image,group\n" + "\n".join(rows))
    for fold in range(3):
        data = _load(folder_set, fold=fold)
        groups = [set(part.groups) for part in (data.train, data.val, data.test)]
        assert sum(len(g) for g in groups) == 9 == len(set().union(*groups))
    leaking = _load(folder_set, split="leaking")
    assert leaking.split == "leaking"
    assert set(leaking.train.groups) & set(leaking.test.groups)
    assert "ignores groups" in leaking.report()


def _split_set(write, spot) -> None:
    for split, normal, defective in (("train", 8, 4), ("test", 3, 2)):
        for i in range(normal):
            write(f"images/{split}/normal/{i}.png")
        for i in range(defective):
            write(f"images/{split}/defective/{i}.png")
            write(f"masks/{split}/defective/{i}.png", spot)


def test_official_split(tmp_path: Path, write, spot) -> None:
    _split_set(write, spot)
    data = _load(tmp_path)
    assert (data.split, data.folds) == ("official", 1)
    assert [data.counts[p]["images"] for p in ("train", "val", "test")] == [10, 2, 5]
    assert {n.split("/")[1] for n in (*data.train.names, *data.val.names)} == {"train"}
    assert {n.split("/")[1] for n in data.test.names} == {"test"}
    with pytest.raises(ValueError, match="one test set, fold 0; found fold=1"):
        _load(tmp_path, fold=1)
    pooled = _load(tmp_path, split="folds", fold=1)
    assert pooled.folds == 3
    assert {n.split("/")[1] for n in pooled.test.names} == {"train", "test"}
    write("images/val/normal/7.png")
    write("images/val/defective/7.png")
    assert _load(tmp_path).val.names == ("images/val/defective/7.png", "images/val/normal/7.png")
    assert len(_load(tmp_path).train) == 12
    names = [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("images/**/*.png")]
    for apart in ("nothing", "/test/"):  # then train and val have the group in common
        rows = [f"{name},{'other' if apart in name else 'same'}" for name in names]
        (tmp_path / "groups.csv").write_text("image,group\n" + "\n".join(rows))
        with pytest.raises(ValueError, match=r"1 groups are in several parts .* 'same'"):
            _load(tmp_path)


def test_official_split_that_lacks_a_part(tmp_path: Path, write) -> None:
    write("images/train/normal/a.png")
    write("images/train/defective/b.png")
    with pytest.raises(ValueError, match=r"images for train and test in .*; found none for test"):
        _load(tmp_path)


def test_anomaly_detection_split_trains_on_normal_images(tmp_path: Path, write, spot) -> None:
    for i in range(8):
        write(f"bottle/train/good/{i}.png")
        write(f"bottle/test/hole/{i}.png")
        write(f"bottle/ground_truth/hole/{i}_mask.png", spot)
    data = datasets.load("mvtec", tmp_path, 16, category="bottle")
    assert data.classes_in_train() == ("normal",)
    assert data.counts["train"]["images"] + data.counts["val"]["images"] == 8
    assert data.counts["test"]["defective"] == 8
    folds = datasets.load("mvtec", tmp_path, 16, split="folds")
    assert folds.classes_in_train() == ("normal", "defective")


def test_validation_share_of_nothing(folder_set: Path) -> None:
    data = _load(folder_set, validation=0)
    assert len(data.val) == 0
    assert len(data.train) == 12


def test_fingerprint_follows_contents_and_split_not_place(folder_set: Path, write) -> None:
    first = _load(folder_set).fingerprint
    moved = folder_set.parent / "elsewhere"
    os.rename(folder_set, moved)
    assert _load(moved).fingerprint == first
    assert _load(moved, image_size=32).fingerprint == first
    assert _load(moved, seed=1).fingerprint != first
    assert _load(moved, folds=2).fingerprint != first
    assert _load(moved, split="leaking").fingerprint != first
    os.rename(moved, folder_set)
    write("images/normal/0.png", 13)
    changed = _load(folder_set).fingerprint
    assert changed != first
    write("masks/1.png", np.eye(8, dtype=np.uint8) * 255)
    assert _load(folder_set).fingerprint not in (first, changed)


@pytest.mark.parametrize("kind", ["normal", "defective"])
def test_one_class_only(tmp_path: Path, write, kind: str) -> None:
    for i in range(9):
        write(f"images/{kind}/{i}.png")
    with pytest.raises(ValueError, match=f"normal and defective images in .* all 9 are {kind}"):
        _load(tmp_path)


def test_errors_name_what_was_expected(folder_set: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"found 'magnetic_tiles'\. Did you mean 'magnetic-tile'"):
        datasets.load("magnetic_tiles", tmp_path)
    with pytest.raises(ValueError, match=r"mvtec, visa, magnetic-tile, voc2012, deep-pcb; found"):
        datasets.load("q")
    with pytest.raises(ValueError, match=r"needs a root\. Expected:\s+images/"):
        datasets.load("folder")
    with pytest.raises(FileNotFoundError, match=r"is not a folder\. Expected:\s+images/"):
        datasets.load("folder", tmp_path / "nowhere")
    with pytest.raises(ValueError, match="'folder' has no setting defect_size"):
        _load(folder_set, defect_size=2)
    with pytest.raises(ValueError, match="no official split; use split='folds'"):
        _load(folder_set, split="official")
    with pytest.raises(ValueError, match=r"at least as many defective groups as folds \(7\)"):
        _load(folder_set, folds=7)
    for options, message in [
        ({"fold": 3}, "fold to be in 0 … 2; found 3"),
        ({"fold": -1}, "fold to be a whole number >= 0; found -1"),
        ({"seed": 1.5}, r"seed to be a whole number >= 0; found 1\.5"),
        ({"image_size": 0}, "image_size to be a whole number >= 16; found 0"),
        ({"split": "random"}, "auto, official, folds, designs, leaking; found 'random'"),
        ({"split": "designs"}, "'folder' has no designs; only 'deep-pcb' has"),
        ({"cache": "yes"}, "cache to be True, False or 'auto'; found 'yes'"),
        ({"validation": 1.0}, r"validation share in \[0, 1\)"),
        ({"resize": "crop"}, "one of squash, pad; found 'crop'"),
    ]:
        with pytest.raises(ValueError, match=message):
            _load(folder_set, **options)


def test_bad_files_stop_loading(folder_set: Path, write) -> None:
    path = write("masks/2.png", np.zeros((8, 10), np.uint8))
    with pytest.raises(ValueError, match=r"2\.png is 10 x 8 and .*2\.png is 8 x 8"):
        _load(folder_set)
    path.unlink()
    (folder_set / "images/normal/3.png").write_text("text")
    with pytest.raises(ValueError, match=r"normal/3\.png can't be decoded"):
        _load(folder_set)


def test_synthetic_is_drawn_anew_for_each_fold() -> None:
    first = datasets.load("synthetic", image_size=32, train=6, val=4, test=4)
    second = datasets.load("synthetic", image_size=32, train=6, val=4, test=4, fold=1)
    assert first.counts["train"]["images"] == 6
    assert first.split == "drawn"
    assert first.fingerprint == second.fingerprint
    assert first.fingerprint != datasets.load("synthetic", image_size=32, seed=1).fingerprint
    assert not (first.test[0].image == second.test[0].image).all()
    assert "synthetic, fold 1 of 5" in second.report()
    for part in ("names", "groups"):
        assert not set(getattr(first.test, part)) & set(getattr(second.test, part))
    assert second.test[0].name == second.test.names[0]
    for options in ({"root": "x"}, {"category": "x"}, {"split": "folds"}):
        with pytest.raises(ValueError, match=f"takes no {next(iter(options))}"):
            datasets.load("synthetic", image_size=32, **options)
    with pytest.raises(ValueError, match="defect_sise"):
        datasets.load("synthetic", image_size=32, defect_sise=2)


def test_cache_limit() -> None:
    assert fits_in_memory(10, 64)
    assert not fits_in_memory(10**9, 1024)


@pytest.mark.real_data
@pytest.mark.skipif("GAINMTL_DATA" not in os.environ, reason="GAINMTL_DATA is not set")
def test_magnetic_tiles() -> None:
    root = Path(os.environ["GAINMTL_DATA"]) / "magnetic-tile"
    tested: list[str] = []
    for fold in range(5):
        data = datasets.load("magnetic-tile", root, 64, fold=fold)
        parts = (data.train, data.val, data.test)
        assert sum(len(part) for part in parts) == 1007
        groups = [set(part.groups) for part in parts]
        assert sum(len(g) for g in groups) == len(set().union(*groups)) == 179
        defective = [
            {g for g, bad in zip(part.groups, part.labels, strict=True) if bad} for part in parts
        ]
        assert sum(len(d) for d in defective) == 61
        assert len(defective[2]) in (12, 13)
        assert len(defective[1]) == 7
        assert 200 <= len(data.test) <= 203
        assert set(data.test.defect_types) == {
            "normal", "blowhole", "break", "crack", "fray", "uneven"
        }  # fmt: skip
        assert sum(c["empty_masks"] for c in data.counts.values()) == 3
        assert sum(c["defective_without_mask"] for c in data.counts.values()) == 0
        tested += data.test.names
    assert len(tested) == len(set(tested)) == 1007
    smallest = min(
        float(data.train[i].mask.sum()) for i in np.flatnonzero(data.train.labels)
        if data.train.has_mask[i]
    )  # fmt: skip
    assert smallest >= 1
