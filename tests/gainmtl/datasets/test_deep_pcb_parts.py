"""DeepPCB's parts: folds by pair and by design, held-out designs, budgets, fingerprint."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gainmtl import datasets
from gainmtl.datasets import Data, deep_pcb

REAL = Path(os.environ.get("GAINMTL_DATA", "nowhere")) / "deep-pcb"
DESIGNS = {"10": 9, "11": 5, "12": 6, "13": 4}
"""Pairs of each design."""


@pytest.fixture
def boards(tmp_path: Path) -> Path:
    """24 pairs of four designs, 64 x 64: each has a defect in one tile of four, on noise."""
    rng = np.random.default_rng(0)
    for design, count in DESIGNS.items():
        folder = tmp_path / f"group{design}"
        folder.mkdir()
        for number in range(count):
            template = rng.random((64, 64)) < 0.5
            row, column = divmod(number % 4, 2)
            y, x = 32 * row + 8, 32 * column + 8
            tested = template.copy()
            tested[y : y + 6, x : x + 6] ^= True
            for kind, bits in (("test", tested), ("temp", template)):
                Image.fromarray(bits).save(folder / f"{number}_{kind}.png")
            line = f"{x - 2},{y - 2},{x + 8},{y + 8},{number % 6 + 1}"
            (folder / f"{number}.txt").write_text(line)
    return tmp_path


def _load(root: Path, **options: Any) -> Data:
    return datasets.load("deep-pcb", root, **{"image_size": 32, "tile": 32, "folds": 4, **options})


def _of(data: Data, attribute: str) -> dict[str, list[str]]:
    return {part: list(getattr(getattr(data, part), attribute)) for part in data.counts}


def test_folds_by_pair(boards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deep_pcb.dataset, "read_image", None)  # labels need no pixels
    tested: Counter[str] = Counter()
    prints = set()
    for fold in range(4):
        data = _load(boards, fold=fold)
        assert (data.name, data.split, data.fold, data.folds) == ("deep-pcb", "folds", fold, 4)
        groups = [set(names) for names in _of(data, "groups").values()]
        assert sum(map(len, groups)) == 24 == len(set().union(*groups))
        names = [name for part in _of(data, "names").values() for name in part]
        assert len(set(names)) == len(names) == 24 * 4
        pairs = Counter(group.split("/")[0] for group in groups[2])
        for design, count in DESIGNS.items():
            assert pairs[design] in (count // 4, -(-count // 4))
        assert data.types() == (
            "normal", "mousebite", "open", "pinhole", "short", "spur", "spurious_copper"
        )  # fmt: skip
        assert data.counts["val"]["groups"] == 3  # round(.15 * 18)
        tested.update(data.test.names)  # type: ignore[attr-defined]
        prints.add(data.fingerprint)
    assert set(tested.values()) == {1}
    assert len(tested) == 96
    assert len(prints) == 1


def test_folds_by_design(boards: Path) -> None:
    tested = [_load(boards, split="designs", fold=fold, folds=3) for fold in range(3)]
    designs = [set(_of(data, "designs")["test"]) for data in tested]
    # 9, 6 and 5 pairs begin one fold each; the 4 go to the smallest.
    assert sorted(map(sorted, designs)) == [["10"], ["11", "13"], ["12"]]
    for data in tested:
        parts = {name: set(values) for name, values in _of(data, "designs").items()}
        assert data.split == "designs"
        assert not parts["test"] & (parts["train"] | parts["val"])
        assert not set(_of(data, "groups")["val"]) & set(_of(data, "groups")["train"])
    with pytest.raises(ValueError, match=r"as many designs as folds \(5\); found 4: 10, 11, 12"):
        _load(boards, split="designs", folds=5)


def test_boards_never_seen(boards: Path) -> None:
    data = _load(boards, test_designs=("11", "13"))
    assert (data.split, data.folds) == ("designs", 1)
    assert set(_of(data, "designs")["test"]) == {"11", "13"}
    assert set(_of(data, "designs")["train"]) == {"10", "12"}
    assert data.counts["test"]["groups"] == 9
    one = _load(boards, designs=["12"], test_designs=["11"])
    assert set(_of(one, "designs")["train"] + _of(one, "designs")["val"]) == {"12"}
    assert len({data.fingerprint, one.fingerprint}) == 2
    only = _load(boards, designs=("10", "11"))
    assert {d for part in _of(only, "designs").values() for d in part} == {"10", "11"}
    for options, message in [
        (
            {"designs": ("010",)},
            r"designs: expected names among 10, .*got '010'\. Did you mean '10'",
        ),
        ({"test_designs": (13,)}, r"got 13\. Did you mean '13'"),
        ({"designs": "10"}, "designs: expected a list of names, got '10'"),
        ({"designs": ("10",), "test_designs": ("10",)}, "none of test_designs, got 10 in both"),
        ({"test_designs": tuple(DESIGNS)}, "a design to stay for training, got all"),
        ({"test_designs": ("10",), "split": "folds"}, "expected 'auto' or 'designs'"),
        ({"test_designs": ("10",), "fold": 1}, "one test set, fold 0; found fold=1"),
    ]:
        with pytest.raises(ValueError, match=message):
            _load(boards, **options)


def test_official_and_leaking_split(boards: Path) -> None:
    with pytest.raises(ValueError, match="no official split"):
        _load(boards, split="official")
    for design, count in DESIGNS.items():  # numbers are unique among pairs
        for number in range(count):
            for end in ("_test.png", "_temp.png", ".txt"):
                folder = boards / f"group{design}"
                (folder / f"{number}{end}").rename(folder / f"{design}{number}{end}")
    rows = [
        f"group{d}/{d}{n}.jpg group{d}/{d}{n}.txt" for d, c in DESIGNS.items() for n in range(c)
    ]
    (boards / "trainval.txt").write_text("\n".join(rows[:15]))
    (boards / "test.txt").write_text("\n".join(rows[15:]))
    data = _load(boards)
    assert (data.split, data.folds) == ("official", 1)
    assert data.counts["test"]["groups"] == 9
    assert set(_of(data, "designs")["test"]) == {"12", "13"}
    assert _load(boards, split="folds").folds == 4
    leaking = _load(boards, split="leaking")
    assert set(_of(leaking, "groups")["test"]) & set(_of(leaking, "groups")["train"])
    (boards / "test.txt").write_text("\n".join(rows[16:]))
    with pytest.raises(ValueError, match=r"Expected .*_test\.png in trainval\.txt or test\.txt"):
        _load(boards)


def test_templates_are_normals_of_training_alone(boards: Path) -> None:
    data = _load(boards, normals="template")
    parts: list[Any] = [data.train, data.val, data.test]
    assert [part.normals for part in parts] == ["template", "template", "tested"]
    assert _of(data, "names") == _of(_load(boards), "names")
    for part in parts:
        for sample in (part[i] for i in range(len(part))):
            assert torch.equal(sample.image, sample.twin) != sample.is_defective


def test_budgets(boards: Path) -> None:
    smaller: set[str] = set()
    for n in (4, 8, 16):
        data = _load(boards, defective=n, normal=2 * n, test_tiles=12, draw=3)
        kept = {part: set(names) for part, names in _of(data, "names").items()}
        labelled = data.counts["train"], data.counts["val"]
        assert sum(c["defective"] for c in labelled) == n
        assert sum(c["normal"] for c in labelled) == 2 * n
        assert all(c["defective"] and c["normal"] for c in labelled)
        assert (data.counts["test"]["images"], data.counts["test"]["defective"]) == (12, 3)
        assert smaller < kept["train"]
        smaller = kept["train"]
        train: Any = data.train
        for i in range(n):
            sample = train[i]
            assert sample.group.startswith(f"{train.designs[i]}/")
            assert len(train.boxes[i]) == sample.is_defective
    full = _load(boards)
    assert kept["test"] < set(_of(full, "names")["test"])
    other = _load(boards, defective=16, normal=32, test_tiles=12, draw=4)
    assert set(_of(other, "names")["train"]) != smaller
    assert full.fingerprint == _load(boards, draw=4).fingerprint  # nothing is drawn


def test_the_fingerprint_follows_settings_and_contents(boards: Path) -> None:
    settings: list[dict[str, Any]] = [
        {}, {"tile": 16}, {"normals": "template"}, {"masks": "box"}, {"designs": ("10", "11")},
        {"test_designs": ("13",)}, {"defective": 8}, {"normal": 8}, {"test_tiles": 8}, {"seed": 1},
        {"split": "designs"}, {"validation": 0.3},
    ]  # fmt: skip
    prints = [_load(boards, **setting).fingerprint for setting in settings]
    assert len(set(prints)) == len(settings)
    same = [{"image_size": 64}, {"fold": 1}, {"cache": False}, {"designs": tuple(DESIGNS)}]
    assert {_load(boards, **setting).fingerprint for setting in same} == {prints[0]}
    changes = (("group10/0.txt", b"9,9,14,14,1"), ("group10/1_temp.png", b""))
    for name, contents in changes:
        path = boards / name
        path.write_bytes(contents or (boards / "group10/2_temp.png").read_bytes())
        prints.append(_load(boards).fingerprint)
    assert len(set(prints)) == len(settings) + len(changes)


def test_wrong_settings(boards: Path) -> None:
    with pytest.raises(ValueError, match=r"'deep-pcb' needs a root\. Expected:\s+group<design>"):
        datasets.load("deep-pcb")
    for options, message in [
        ({"tiles": 128}, "deep-pcb has no setting 'tiles'. Did you mean 'tile'"),
        ({"tile": 8}, "tile: expected a whole number from 16"),
        ({"tile": 24}, r"tile: expected a side that divides .*16, 32, 64; got 24"),
        ({"tile": 64}, "all 24 are defective"),
        ({"normals": "both"}, "normals: expected one of tested, template, got 'both'"),
        ({"masks": "exact"}, "masks: expected one of pixels, box, got 'exact'"),
        ({"defective": 1}, "defective: expected a whole number from 2"),
        ({"defective": 99}, "defective: expected a whole number from 2 to 18, got 99"),
        ({"test_tiles": 2.5}, r"test_tiles: expected a whole number .*got 2\.5"),
        ({"draw": -1}, "draw: expected a whole number from 0"),
        ({"category": "x"}, "no categories"),
        ({"resize": "crop"}, "one of squash, pad; found 'crop'"),
    ]:
        with pytest.raises(ValueError, match=message):
            _load(boards, **options)


@pytest.mark.real_data
@pytest.mark.skipif(not REAL.is_dir(), reason="GAINMTL_DATA has no deep-pcb")
def test_counts_of_the_real_set() -> None:
    data = datasets.load("deep-pcb", REAL, image_size=128, split="designs")
    parts: list[Any] = [data.train, data.val, data.test]
    pairs = Counter(g.split("/")[0] for part in parts for g in set(part.groups))
    assert pairs == {
        "00041": 200, "13000": 198, "20085": 291, "44000": 50, "50600": 50, "77000": 100,
        "92000": 111,
    }  # fmt: skip
    tested = [
        set(datasets.load("deep-pcb", REAL, 128, split="designs", fold=fold).test.designs)  # type: ignore[attr-defined]
        for fold in range(5)
    ]
    assert sorted(map(sorted, tested)) == [
        ["00041"], ["13000"], ["20085"], ["44000", "77000"], ["50600", "92000"]
    ]  # fmt: skip
    # Of the 5,750 defective tiles 2 have a defect without a changed pixel in them.
    assert sum(int(part.marked_by_box().sum()) for part in parts) == 2
