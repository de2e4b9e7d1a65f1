"""DeepPCB's pairs and tiles: hand-made pairs of 64 x 64 pixels, and an independent reading."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from gainmtl.datasets import deep_pcb, load
from gainmtl.datasets.deep_pcb import TileDataset, read_pairs
from gainmtl.datasets.deep_pcb.tiles import changed_pixels, cut

Bits = NDArray[np.bool_]
REAL = Path(os.environ.get("GAINMTL_DATA", "nowhere")) / "deep-pcb"
TYPES = {1: "open", 2: "short", 3: "mousebite", 4: "spur", 5: "spurious_copper", 6: "pinhole"}


def _board() -> Bits:
    """Two vertical traces, 5 pixels wide, from x = 10 and x = 42."""
    board = np.zeros((64, 64), bool)
    board[:, 10:15] = board[:, 42:47] = True
    return board


def _save(path: Path, bits: Bits) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(bits)
    if path.suffix == ".jpg":
        image.convert("L").save(path, quality=95)
    else:
        image.save(path)


@pytest.fixture
def pair(tmp_path: Path) -> Callable[..., Path]:
    """`pair("group1/001", tested, lines)` writes a pair and its boxes; the template is `_board`."""

    def write(name: str, tested: Bits, lines: str, template: Bits | None = None) -> Path:
        place = tmp_path / name
        _save(place.with_name(f"{place.name}_test.png"), tested)
        _save(place.with_name(f"{place.name}_temp.png"), _board() if template is None else template)
        place.with_name(f"{place.name}.txt").write_text(lines)
        return tmp_path

    return write


def _open_and_spur() -> tuple[Bits, str]:
    """An open trace in the first tile and a thin spur in the second; a line of misalignment."""
    tested = _board()
    tested[4:10, 10:15] = False
    tested[:12, 16] = True
    tested[20:22, 47:53] = True
    return tested, "8,2,18,12,1\n45 18 56 24 4\n\n"


def _dataset(root: Path, **options: Any) -> TileDataset:
    tiles = [tile for pair in read_pairs(root) for tile in cut(pair, 32)]
    return TileDataset(tiles, **{"image_size": 32, **options})


def test_tiles_masks_and_twins_by_hand(pair: Callable[..., Path]) -> None:
    tested, lines = _open_and_spur()
    part = _dataset(pair("group00041/00041007", tested, lines))
    assert part.names == tuple(f"00041/00041007/r{r}c{c}" for r, c in np.ndindex(2, 2))
    assert part.defect_types == ("open", "spur", "normal", "normal")
    assert part.labels.tolist() == [True, True, False, False]
    assert set(part.groups) == {"00041/00041007"}
    assert set(part.designs) == {"00041"}
    assert part.boxes == (
        (((2, 8, 12, 18), "open"),), (((18, 13, 24, 24), "spur"),), (), ()
    )  # fmt: skip
    wanted = np.zeros((2, 32, 32), bool)
    wanted[0, 4:10, 10:15] = True  # without column 16, which the opening removes
    wanted[1, 20:22, 15:21] = True  # no 3 x 3 square fits into the spur, so all of it
    for index, (y, x) in enumerate(np.ndindex(2, 2)):
        sample = part[index]
        place = np.s_[32 * y : 32 * y + 32, 32 * x : 32 * x + 32]
        assert sample.image.dtype == torch.float32
        assert all(np.array_equal(channel, tested[place]) for channel in sample.image.numpy())
        assert sample.twin is not None
        assert all(np.array_equal(channel, _board()[place]) for channel in sample.twin.numpy())
        assert np.array_equal(sample.mask[0].numpy(), wanted[index] if index < 2 else 0 * wanted[0])
        assert (sample.name, sample.defect_type) == (part.names[index], part.defect_types[index])
        assert sample.is_defective == part.labels[index]
        assert sample.has_mask
    assert torch.equal(part[-1].image, part[3].image)
    with pytest.raises(IndexError):
        part[4]


def test_a_tile_needs_more_than_half_of_a_box(pair: Callable[..., Path]) -> None:
    # Columns 27 to 36 lie half in each tile; 26 to 35 have 6 of 10 in the left one.
    half = cut(read_pairs(pair("group1/1", _board(), "27 4 37 8 2"))[0], 32)
    assert [tile.name for tile in half] == ["1/1/r1c0", "1/1/r1c1"]
    more = cut(read_pairs(pair("group1/1", _board(), "26 4 36 8 2"))[0], 32)
    assert [(tile.name, tile.defect_type) for tile in more] == [
        ("1/1/r0c0", "short"), ("1/1/r1c0", "normal"), ("1/1/r1c1", "normal")
    ]  # fmt: skip
    assert more[0].inside == (((4, 26, 8, 32), "short"),)
    # A box up to the tile's edge doesn't touch the next tile.
    edge = cut(read_pairs(pair("group1/1", _board(), "20 4 32 8 2"))[0], 32)
    assert [tile.is_defective for tile in edge] == [True, False, False, False]


def test_several_defects_of_a_tile(pair: Callable[..., Path]) -> None:
    tested = _board()
    for box in ([2, 6, 0, 4], [20, 26, 18, 24], [20, 30, 26, 48]):
        tested[box[0] : box[1], box[2] : box[3]] ^= True
    # In the first tile: 16 of 16, 36 of 36, and 60 of 220 pixels of the boxes.
    lines = "0,2,4,6,6\n18,20,24,26,3\n26,20,48,30,5"
    part = _dataset(pair("group1/1", tested, lines))
    assert part.defect_types[:2] == ("mousebite", "spurious_copper")
    assert part.boxes[0] == (
        ((20, 18, 26, 24), "mousebite"), ((2, 0, 6, 4), "pinhole"),
        ((20, 26, 30, 32), "spurious_copper"),
    )  # fmt: skip
    assert int(part[0].mask.sum()) == 16 + 36 + 60
    boxes = _dataset(pair("group1/1", tested, "0,2,8,6,6\n26,20,48,30,5"), masks="box")
    assert int(boxes[0].mask.sum()) == 32 + 60
    assert not boxes.marked_by_box().any()


def test_a_defect_without_changed_pixels_is_marked_by_its_box(pair: Callable[..., Path]) -> None:
    tested = _board()
    tested[4:8, 20:24] = True
    part = _dataset(pair("group1/1", tested, "18,2,26,10,5\n2,20,8,28,6\n44,4,60,8,1"))
    assert int(part[0].mask.sum()) == 4 * 4 + 6 * 8
    assert int(part[1].mask.sum()) == 16 * 4
    assert part.marked_by_box().tolist() == [True, True, False, False]


def test_normal_tiles_of_templates(pair: Callable[..., Path]) -> None:
    tested, lines = _open_and_spur()
    tested[50, 50] = True  # a difference on a normal tile
    root = pair("group1/1", tested, lines)
    ours, theirs = _dataset(root), _dataset(root, normals="template")
    assert ours.names == theirs.names
    for a, b in zip(ours, theirs, strict=True):  # type: ignore[call-overload]
        assert torch.equal(a.twin, b.twin)
        assert torch.equal(b.image, a.image if a.is_defective else a.twin)
        assert torch.equal(a.mask, b.mask)
    assert not torch.equal(ours[3].image, theirs[3].image)


def test_resizing_and_cache(pair: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    tested, lines = _open_and_spur()
    root = pair("group1/1", tested, lines)
    large = _dataset(root, image_size=64)
    assert large[0].image.shape == large[0].twin.shape == (3, 64, 64)  # type: ignore[union-attr]
    assert int(large[0].mask.sum()) == 4 * 30
    assert torch.equal(large[0].mask, _dataset(root)[0].mask.repeat_interleave(2, 1)
                       .repeat_interleave(2, 2))  # fmt: skip
    fresh = _dataset(root, cache=False)
    cached = _dataset(root)
    fresh.preload()
    cached.preload()
    read: list[Path] = []
    real = deep_pcb.dataset.read_image
    monkeypatch.setattr(
        deep_pcb.dataset, "read_image", lambda path: (read.append(path), real(path))[1]
    )
    assert torch.equal(cached[1].image, fresh[1].image)
    assert len(read) == 2  # the uncached set reads both pictures


def test_tiles_that_begin_within_a_byte(pair: Callable[..., Path]) -> None:
    tested, template = np.random.default_rng(0).random((2, 60, 60)) < 0.5
    part = TileDataset(cut(read_pairs(pair("group1/1", tested, "", template))[0], 20), 20)
    assert len(part) == 9
    for sample, (r, c) in zip(part, np.ndindex(3, 3), strict=True):  # type: ignore[call-overload]
        place = np.s_[20 * r : 20 * r + 20, 20 * c : 20 * c + 20]
        assert np.array_equal(sample.image[0].numpy(), tested[place])
        assert np.array_equal(sample.twin[2].numpy(), template[place])


def test_opening_beside_brute_force() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        tested, template = rng.random((2, 12, 17)) < rng.uniform(0.05, 0.95, (2, 1, 1))
        box = (2, 3, *rng.integers(5, 12, 2).tolist())
        defects = [deep_pcb.BoxedDefect(box, "open")]
        found = changed_pixels(tested, template, defects)
        assert np.array_equal(found, _changed(tested, template, [box]))


def _changed(tested: Bits, template: Bits, boxes: list[Any]) -> Bits:
    """Changed pixels, each 3 x 3 square of the difference painted by itself."""
    marked = np.zeros_like(tested)
    for top, left, bottom, right in boxes:
        opened = np.zeros_like(tested)
        for y in range(top, bottom - 2):
            for x in range(left, right - 2):
                square = np.s_[y : y + 3, x : x + 3]
                if (tested[square] != template[square]).all():
                    opened[square] = True
        if not opened.any():
            opened[top:bottom, left:right] = (tested != template)[top:bottom, left:right]
        marked |= opened
    return marked


def test_the_authors_folders_are_read_too(pair: Callable[..., Path], tmp_path: Path) -> None:
    tested, lines = _open_and_spur()
    ours = _dataset(pair("flat/group1/1", tested, lines) / "flat")
    base = tmp_path / "theirs/PCBData/group1"
    _save(base / "1/1_test.jpg", tested)
    _save(base / "1/1_temp.jpg", _board())
    (base / "1_not").mkdir()
    (base / "1_not/1.txt").write_text(lines.replace(",", " "))
    theirs = _dataset(tmp_path / "theirs")
    assert (theirs.names, theirs.boxes) == (ours.names, ours.boxes)
    for a, b in zip(ours, theirs, strict=True):  # type: ignore[call-overload]
        assert torch.equal(a.image, b.image)
        assert torch.equal(a.twin, b.twin)
        assert torch.equal(a.mask, b.mask)
    with pytest.raises(ValueError, match=r"flat.*1_test\.png and .*1_test\.jpg have the same"):
        read_pairs(tmp_path)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("1,2,3,4,5\n1,2,3,4", r"five whole numbers .* in line 2 of .*1\.txt; found '1,2,3,4'"),
        ("a,2,3,4,5", r"five whole numbers .* in line 1 of .*found 'a,2,3,4,5'"),
        ("1,2,3,4.5,5", "five whole numbers"),
        ("1,,2,3,4,5", "five whole numbers"),
        ("1,2,65,4,5", r"0 <= x1 < x2 <= 64 and .* in line 1"),
        ("1,2,3,2,5", "0 <= y1 < y2 <= 64"),
        ("-1,2,3,4,5", "0 <= x1 < x2"),
        ("1,2,3,4,0", r"type among 1 open, .* 6 pinhole in line 1 of .*found '1,2,3,4,0'"),
        ("1,2,3,4,7", "type among 1 open"),
    ],
)
def test_bad_lines(pair: Callable[..., Path], lines: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_pairs(pair("group1/1", _board(), lines))


def test_errors_of_files(pair: Callable[..., Path], tmp_path: Path) -> None:
    for root in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(FileNotFoundError, match=r"Expected:\s+group<design>/") as error:
            read_pairs(root)
        assert str(root) in str(error.value)
    root = pair("group1/1", _board(), "")
    assert not any(tile.is_defective for tile in cut(read_pairs(root)[0], 32))
    with pytest.raises(ValueError, match=r"divides the 64 x 64 .*one of 16, 32, 64; got 20"):
        cut(read_pairs(root)[0], 20)
    _save(root / "group1/1_temp.png", _board()[:32])
    with pytest.raises(ValueError, match=r"same size; .*1_test.png is 64 x 64 and .* 64 x 32"):
        read_pairs(root)
    (root / "group1/1_temp.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"Expected a picture 1_temp beside .*1_test\.png"):
        read_pairs(root)
    pair("group1/1", _board(), "")
    _save(root / "group1/1_test.jpg", _board())
    with pytest.raises(ValueError, match=r"one of .*1_test\.jpg and .*1_test\.png"):
        read_pairs(root)
    (root / "group1/1_test.jpg").unlink()
    (root / "group1/1.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"boxes of .*1_test\.png in .*group1_not"):
        read_pairs(root)
    pair("boards/1", _board(), "")
    (root / "group1/1.txt").write_text("")
    with pytest.raises(ValueError, match=r"boards/1_test\.png is in no folder group<design>"):
        read_pairs(root)


@pytest.mark.real_data
@pytest.mark.skipif(not REAL.is_dir(), reason="GAINMTL_DATA has no deep-pcb")
@pytest.mark.parametrize(("side", "counts"), [(128, (5750, 16531)), (160, (5230, 8983))])
def test_an_independent_reading(side: int, counts: tuple[int, int]) -> None:
    """Areas by counting painted pixels, pictures by PIL, masks square by square."""
    wanted: dict[str, str] = {}
    boxes: dict[str, list[tuple[int, ...]]] = {}
    for path in sorted(REAL.glob("group*/*.txt")):
        lines = [[int(x) for x in line.split(",")] for line in path.read_text().split()]
        name = f"{path.parent.name[5:]}/{path.stem}"
        boxes[name] = [(y1, x1, y2, x2) for x1, y1, x2, y2, _ in lines]
        most: dict[tuple[int, int], tuple[int, str]] = {}
        touched = np.zeros((640, 640), bool)
        for x1, y1, x2, y2, kind in lines:
            painted = np.zeros((640, 640), bool)
            painted[y1:y2, x1:x2] = True
            touched |= painted
            for r, c in {(y // side, x // side) for y in (y1, y2 - 1) for x in (x1, x2 - 1)}:
                area = int(painted[r * side : (r + 1) * side, c * side : (c + 1) * side].sum())
                if 2 * area > (x2 - x1) * (y2 - y1) and area > most.get((r, c), (0, ""))[0]:
                    most[r, c] = area, TYPES[kind]
        for r, c in np.ndindex(640 // side, 640 // side):
            if (r, c) in most:
                wanted[f"{name}/r{r}c{c}"] = most[r, c][1]
            elif not touched[r * side : (r + 1) * side, c * side : (c + 1) * side].any():
                wanted[f"{name}/r{r}c{c}"] = "normal"
    data = load("deep-pcb", REAL, image_size=side, tile=side)
    parts: list[Any] = [data.train, data.val, data.test]
    found = {n: kind for p in parts for n, kind in zip(p.names, p.defect_types, strict=True)}
    assert found == wanted
    kinds = list(wanted.values())
    assert (len(kinds) - kinds.count("normal"), kinds.count("normal")) == counts
    rng = np.random.default_rng(side)
    for index in rng.choice(np.flatnonzero(data.test.labels), 80, replace=False).tolist() + list(  # type: ignore[attr-defined]
        rng.choice(np.flatnonzero(~data.test.labels), 20, replace=False)  # type: ignore[attr-defined]
    ):
        sample = data.test[int(index)]
        design, stem, tile = sample.name.split("/")
        r, c = int(tile[1]), int(tile[3])
        pictures = [
            np.asarray(Image.open(REAL / f"group{design}/{stem}_{kind}.png").convert("L")) > 127
            for kind in ("test", "temp")
        ]
        place = np.s_[r * side : (r + 1) * side, c * side : (c + 1) * side]
        assert np.array_equal(sample.image.numpy(), np.stack([pictures[0][place]] * 3))
        assert sample.twin is not None
        assert np.array_equal(sample.twin.numpy(), np.stack([pictures[1][place]] * 3))
        changed = _changed(*pictures, boxes[f"{design}/{stem}"])[place]
        assert np.array_equal(sample.mask[0].numpy(), changed)
