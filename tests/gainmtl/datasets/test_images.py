from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gainmtl.datasets.image_dataset import ImageDataset
from gainmtl.datasets.images import check_sizes, read_image, read_size
from gainmtl.datasets.masks import checked_facts, mask_facts, read_mask
from gainmtl.datasets.records import Record

RAMP = np.array([[0, 64, 128], [192, 254, 255]], np.uint8)


def test_grey_of_8_and_16_bits(write) -> None:
    eight = read_image(write("a.png", RAMP))
    assert eight.dtype == torch.uint8
    assert eight.shape == (3, 2, 3)
    assert (eight == torch.from_numpy(RAMP)).all()
    sixteen = read_image(write("b.png", RAMP.astype(np.uint16) * 257))
    assert torch.equal(sixteen, eight)
    tiff = read_image(write("b.tif", RAMP.astype(np.uint16) * 257))
    assert torch.equal(tiff, eight)


def test_colour_and_transparency(write) -> None:
    rgb = np.zeros((2, 3, 3), np.uint8)
    rgb[0, 1] = (10, 20, 30)
    assert read_image(write("a.png", rgb))[:, 0, 1].tolist() == [10, 20, 30]
    rgba = np.full((2, 3, 4), 200, np.uint8)
    rgba[..., 3] = 255
    rgba[1, 2, 3] = 0
    image = read_image(write("b.png", rgba))
    assert image[:, 0, 0].tolist() == [200, 200, 200]
    assert image[:, 1, 2].tolist() == [0, 0, 0]


def test_palette(tmp_path: Path) -> None:
    image = Image.new("P", (3, 2), 1)
    image.putpalette([0, 0, 0, 128, 0, 0])
    image.save(tmp_path / "p.png")
    assert read_image(tmp_path / "p.png")[:, 0, 0].tolist() == [128, 0, 0]


def test_exif_orientation_turns_image_and_size(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    Image.fromarray(RAMP).save(tmp_path / "a.png", exif=exif)
    image = read_image(tmp_path / "a.png")
    assert image.shape == (3, 3, 2)
    assert image[0].tolist() == np.rot90(RAMP, -1).tolist()
    assert read_size(tmp_path / "a.png") == (3, 2)


@pytest.mark.parametrize("read", [read_image, read_mask, read_size])
def test_unreadable_files_are_named(tmp_path: Path, read) -> None:
    path = tmp_path / "broken.png"
    path.write_text("this is text")
    with pytest.raises(ValueError, match=r"readable image; .*broken\.png can't be decoded"):
        read(path)
    with pytest.raises(FileNotFoundError, match=r"no\.png; there is no such file"):
        read(tmp_path / "no.png")


def test_truncated_and_floating_point_files(write, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
    path = write("cut.png", noise)
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(ValueError, match=r"cut\.png can't be decoded"):
        read_image(path)
    real = write("real.tif", np.ones((2, 2), np.float32))
    for read in (read_image, read_mask):
        with pytest.raises(ValueError, match=r"real\.tif .*floating-point pixels"):
            read(real)


def test_sizes_are_compared(write) -> None:
    image, mask = (
        write("i.png", np.zeros((4, 6), np.uint8)),
        write("m.png", np.zeros((4, 5), np.uint8)),
    )
    with pytest.raises(ValueError, match=r"m\.png is 5 x 4 and .*i\.png is 6 x 4"):
        checked_facts(image, mask)
    check_sizes(image, (4, 6), mask, (4, 6))


def test_a_replaced_mask_is_read_again(write, spot) -> None:
    mask = write("m.png", 0)
    assert mask_facts(mask).readings["grey"].counts == {0: 64}
    write("m.png", spot)
    assert mask_facts(mask).readings["grey"].counts == {0: 60, 255: 4}


def _record(image: Path, mask: Path | None, is_defective: bool) -> Record:
    kind = "hole" if is_defective else "normal"
    return Record(image, mask, is_defective, kind, None, image.stem, image.name)


@pytest.fixture
def four(write, spot) -> list[Record]:
    """A normal image; defects with a mask, with an empty one, with none."""
    return [
        _record(write("good.png", 51), None, False),
        _record(write("bad.png", 102), write("m/bad.png", spot), True),
        _record(write("empty.png", 0), write("m/empty.png", 0), True),
        _record(write("none.png", 255), None, True),
    ]


def test_samples(four: list[Record], spot) -> None:
    data = ImageDataset(four, 16)
    assert data.labels.tolist() == [False, True, True, True]
    assert data.has_mask.tolist() == [True, True, False, False]
    assert data.empty_masks.tolist() == [False, False, True, False]
    assert data.names == ("good.png", "bad.png", "empty.png", "none.png")
    assert data.groups == ("good", "bad", "empty", "none")
    assert data.defect_types == ("normal", "hole", "hole", "hole")
    samples = [data[i] for i in range(4)]
    assert [round(float(s.image.mean()), 4) for s in samples] == [0.2, 0.4, 0.0, 1.0]
    assert [s.has_mask for s in samples] == [True, True, False, False]
    assert [float(s.mask.sum()) for s in samples] == [0, 16, 0, 0]
    for s in samples:
        assert s.image.shape == (3, 16, 16)
        assert s.mask.shape == (1, 16, 16)
        assert s.image.dtype == s.mask.dtype == torch.float32
    expected = torch.from_numpy(spot > 0).repeat_interleave(2, 0).repeat_interleave(2, 1)
    assert torch.equal(samples[1].mask[0].bool(), expected)
    assert data[-1].name == "none.png"
    with pytest.raises(IndexError, match="below 4; found 4"):
        data[4]


def test_cache_gives_fresh_copies(four: list[Record]) -> None:
    cached, uncached = ImageDataset(four, 8), ImageDataset(four, 8, cache=False)
    cached.preload()
    for i in range(4):
        cached[i].image.zero_()
        cached[i].mask.fill_(7)
        assert torch.equal(cached[i].image, uncached[i].image)
        assert torch.equal(cached[i].mask, uncached[i].mask)
    four[0].image.unlink()  # type: ignore[union-attr]
    assert cached[0].name == "good.png"
    with pytest.raises(FileNotFoundError, match=r"good\.png"):
        uncached[0]


def test_workers_read_the_same(four: list[Record]) -> None:
    data = ImageDataset(four, 8)
    loader = torch.utils.data.DataLoader(data, batch_size=None, num_workers=2)
    for i, sample in enumerate(loader):
        assert torch.equal(sample.image, data[i].image)


def test_bad_files_are_found_on_construction(four: list[Record], write, tmp_path: Path) -> None:
    wide = write("m/wide.png", np.zeros((8, 9), np.uint8))
    with pytest.raises(ValueError, match=r"wide\.png is 9 x 8 and .*bad\.png is 8 x 8"):
        ImageDataset([four[1]._replace(mask=wide)], 8)
    broken = tmp_path / "broken.png"
    broken.write_text("text")
    with pytest.raises(ValueError, match=r"broken\.png can't be decoded"):
        ImageDataset([four[0]._replace(image=broken)], 8)
    with pytest.raises(ValueError, match=r"one of squash, pad; found 'crop'"):
        ImageDataset(four, 8, resize="crop")
    with pytest.raises(ValueError, match="image file for good"):
        ImageDataset([four[0]._replace(image=None)], 8)[0]
