"""Files as the runner and the training code find and read them: links, suffixes, depth, size."""

from __future__ import annotations

import os
import struct
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, features

from gainmtl import runner
from gainmtl.datasets.images import read_image, read_size
from gainmtl.datasets.masks import read_mask
from gainmtl.datasets.records import list_images, walk_images
from gainmtl.evaluation.inputs import _from_pil
from gainmtl.evaluation.prediction import Maps

RAMP = np.random.default_rng(0).integers(0, 256, (20, 28), dtype=np.uint8)


def save(path: Path, grey: int = 90, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 6), grey).save(path, **options)
    return path


def test_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    save(folder / "a/1.png")
    save(tmp_path / "elsewhere/2.png")
    save(tmp_path / "elsewhere/deep/3.png")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "4.png").symlink_to(folder / "a/1.png")
    (folder / "a/loop").symlink_to(folder)
    (tmp_path / "elsewhere/deep/up").symlink_to(tmp_path / "elsewhere")
    images, left_out = runner.walk(folder)
    names = [path.relative_to(folder).as_posix() for path in images]
    assert names == ["4.png", "a/1.png", "linked/2.png", "linked/deep/3.png"]
    assert [path.name for path in left_out] == ["loop", "up"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_a_pipe_is_no_image(tmp_path: Path) -> None:
    save(tmp_path / "1.png")
    os.mkfifo(tmp_path / "2.png")
    found = runner.walk(tmp_path)
    assert ([p.name for p in found.images], [p.name for p in found.left_out]) == (
        ["1.png"], ["2.png"],
    )  # fmt: skip


def test_links_to_nothing_are_named(tmp_path: Path) -> None:
    save(tmp_path / "1.png")
    (tmp_path / "2.png").symlink_to(tmp_path / "gone.png")
    # An image stays in the list, and reading it is an error.
    assert [path.name for path in walk_images(tmp_path)] == ["1.png", "2.png"]
    for read in (read_image, read_size, runner.read_pixels):
        with pytest.raises(FileNotFoundError, match=r"2\.png; there is no such file"):
            read(tmp_path / "2.png")
    (tmp_path / "defective").symlink_to(tmp_path / "gone")
    with pytest.raises(FileNotFoundError, match=r"defective; it is a link to .*gone"):
        list_images(tmp_path)
    (tmp_path / "defective").unlink()
    (tmp_path / "self").symlink_to(tmp_path / "self")
    with pytest.raises(OSError, match=r"self.*"):
        list_images(tmp_path)


def test_a_folder_without_permission_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "a/1.png")
    save(tmp_path / "closed/2.png")
    real = os.scandir

    def scandir(path: Any) -> Any:
        # The permission bits would not stop a test run by root.
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(PermissionError, match=r"closed can't be read \(Permission denied\)"):
        list_images(tmp_path)


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [("jfif", "JPEG"), ("jpe", "JPEG"), ("gif", "GIF"), ("ppm", "PPM"), ("pgm", "PPM"),
     ("jp2", "JPEG2000"), ("tga", "TGA"), ("dib", "DIB"), ("TIF", "TIFF"), ("pcx", "PCX")],
)  # fmt: skip
def test_suffixes(tmp_path: Path, suffix: str, kind: str) -> None:
    if kind == "JPEG2000" and not features.check("jpg_2000"):
        pytest.skip("this Pillow can't write JPEG 2000")
    path = save(tmp_path / f"a.{suffix}", format=kind)
    assert list_images(tmp_path) == [path]
    assert np.abs(runner.read_pixels(path).astype(int) - 90).max() <= 1


def test_what_is_left_out_is_named(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    for name in ("b.heic", "c.txt", "__MACOSX/d.png", ".hidden/e.png", "@eaDir/f.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("no image")
    with pytest.warns(UserWarning, match=r"images: 5 \(\.hidden, @eaDir, __MACOSX and 2 more\)"):
        assert [path.name for path in list_images(tmp_path)] == ["a.png"]


def turned(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """The upright image of stored pixels, by the table of EXIF: 0th row and 0th column."""
    flipped = pixels.swapaxes(0, 1) if orientation >= 5 else pixels
    up, left = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    return flipped[:: -1 if up else 1, :: -1 if left else 1]


KINDS: dict[str, Any] = {
    "RGB": np.stack([RAMP, 255 - RAMP, RAMP // 2], -1),
    "grey": RAMP,
    "16 bits": RAMP.astype(np.uint16) * 257,
    "palette": RAMP,
    "RGBA": np.stack([RAMP, RAMP, RAMP, np.full_like(RAMP, 255)], -1),
}


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("kind", KINDS)
def test_tiff_orientation(tmp_path: Path, kind: str, compression: str | None) -> None:
    for orientation in range(1, 9):
        image = Image.fromarray(KINDS[kind])
        if kind == "palette":
            image = Image.frombytes("P", image.size, image.tobytes())
            image.putpalette([value for i in range(256) for value in (i, 255 - i, i // 2)])
        path = tmp_path / f"{orientation}.tif"
        image.save(path, compression=compression, tiffinfo={0x0112: orientation})
        wanted = turned(RAMP, orientation)
        assert (runner.read_pixels(path)[..., 0] == wanted).all(), orientation
        assert read_size(path) == wanted.shape, orientation


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_orientation_in_other_formats(tmp_path: Path, suffix: str) -> None:
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = tmp_path / f"a.{suffix}"
        Image.fromarray(RAMP).save(path, exif=exif, quality=95)
        size = turned(RAMP, orientation).shape
        assert runner.read_pixels(path).shape[:2] == size == read_size(path)


def test_large_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)  # twice the limit is an error in Pillow
    with pytest.raises(Image.DecompressionBombError):
        Image.open(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert runner.read_pixels(path).shape == (6, 8, 3)
        assert read_size(path) == (6, 8)
    assert Image.MAX_IMAGE_PIXELS == 20
    monkeypatch.setattr(runner, "MAX_PIXELS", 47)
    for read in (runner.read_pixels, read_size):
        with pytest.raises(ValueError, match=r"a\.png .*8 x 6 pixels, more than the limit of 47"):
            read(path)
    assert Image.MAX_IMAGE_PIXELS == 20


def test_a_line_scan_picture_above_the_limit_of_pillow(tmp_path: Path) -> None:
    assert Image.MAX_IMAGE_PIXELS is not None
    size = (2048, 2 * Image.MAX_IMAGE_PIXELS // 2048 + 64)
    Image.new("1", size).save(tmp_path / "a.png")
    assert read_size(tmp_path / "a.png") == (size[1], size[0])


def test_the_limit_of_pillow_returns_after_several_threads(tmp_path: Path) -> None:
    path, limit = save(tmp_path / "a.png"), Image.MAX_IMAGE_PIXELS
    threads = [
        threading.Thread(target=lambda: [runner.read_pixels(path) for _ in range(20)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert limit is not None
    assert limit == Image.MAX_IMAGE_PIXELS


def test_depth(tmp_path: Path) -> None:
    values = np.arange(0, 65536, 7, dtype=np.uint16)[None]
    Image.fromarray(values).save(tmp_path / "a.tif")
    wanted = np.rint(values / 257)
    assert (runner.read_pixels(tmp_path / "a.tif")[..., 0] == wanted).all()
    Image.fromarray(values // 16).save(tmp_path / "b.png")
    with pytest.warns(UserWarning, match="no grey value above 16383"):
        runner.read_pixels(tmp_path / "b.png")
    Image.fromarray(values.astype(np.int32) * 2).save(tmp_path / "c.tif")
    with pytest.raises(ValueError, match=r"c\.tif .*grey values from 0 to 131068, expected 0 to"):
        runner.read_pixels(tmp_path / "c.tif")


def save_tagged(path: Path, values: NDArray[Any], tag: int, value: int, **options: Any) -> Path:
    """A TIFF with another value of a tag that is stored as one short number, 1 by default."""
    Image.fromarray(values).save(path, tiffinfo={339: 1, 274: 6}, **options)
    one, other = (struct.pack("<HHII", tag, 3, 1, number) for number in (1, value))
    assert path.read_bytes().count(one) == 1
    path.write_bytes(path.read_bytes().replace(one, other))
    return path


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
@pytest.mark.parametrize("bits", [1, 8, 16])
def test_white_is_zero(tmp_path: Path, bits: int, compression: str | None) -> None:
    """A picture or mask is inverted in any depth, and turned by its orientation."""
    values = {1: RAMP > 99, 8: RAMP, 16: RAMP.astype(np.uint16) * 257}[bits]
    wanted = 255 - (RAMP > 99) * np.uint8(255) if bits == 1 else 255 - RAMP
    path = save_tagged(tmp_path / "a.tif", values, 262, 0, compression=compression)
    wanted = turned(wanted, 6)
    assert (runner.read_pixels(path)[..., 0] == wanted).all()
    assert (read_mask(path)[0].numpy() == (wanted > 127)).all()
    with path.open("rb") as file, Image.open(file) as picture:
        assert (_from_pil(picture)[0].numpy() == wanted).all()


def test_signed_values(tmp_path: Path) -> None:
    path = save_tagged(tmp_path / "a.tif", RAMP, 339, 2)
    for read in (runner.read_pixels, read_mask, read_size):
        with pytest.raises(ValueError, match=r"a\.tif can't be decoded \(signed values of 8 bits"):
            read(path)


def test_the_first_of_several_frames_is_read(tmp_path: Path) -> None:
    frames = [Image.new("L", (8, 6), grey) for grey in (30, 60, 90)]
    for suffix in ("tif", "gif"):
        path = tmp_path / f"a.{suffix}"
        frames[0].save(path, save_all=True, append_images=frames[1:])
        with pytest.warns(UserWarning, match=rf"a\.{suffix} has 3 frames; only the first is read"):
            assert (runner.read_pixels(path) == 30).all()


def test_maps_of_a_prediction_are_kept_small() -> None:
    maps = Maps("squash")
    maps.add(torch.ones(4, 1, 8, 8)[0], (4000, 6000))
    maps.add(torch.zeros(4, 1, 8, 8)[0], None)
    kept = [values for values, _ in maps._maps]
    assert [values.untyped_storage().nbytes() for values in kept] == [256, 256]
    assert maps[0].shape == (4000, 6000)
    assert maps[-1].shape == (8, 8)
    assert [m.shape for m in maps[:2]] == [(4000, 6000), (8, 8)]
    assert len(list(maps)) == len(maps) == 2
