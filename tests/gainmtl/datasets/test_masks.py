"""The rule for masks: the same defect in many encodings, and what one set's values decide."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from gainmtl import datasets
from gainmtl.datasets.masks import describe_rule, marked_share, mask_facts, mask_rule, read_mask

DEFECT = np.zeros((24, 24), bool)
DEFECT[4:12, 6:16] = True
SECOND = np.zeros((24, 24), bool)
SECOND[16:22, 2:9] = True
RIM = np.zeros((24, 24), bool)
RIM[3:13, 5:17] = True
RIM &= ~DEFECT


def levels(defect: int, second: int = 0, rim: int = 0, background: int = 0) -> NDArray[np.int64]:
    values = np.full(DEFECT.shape, background)
    values[RIM] = rim or background
    values[DEFECT] = defect
    values[SECOND] = second or background
    return values


def grey(*values: int, bits: int = 8) -> Image.Image:
    return Image.fromarray(levels(*values).astype({8: np.uint8, 16: np.uint16, 32: np.int32}[bits]))


def palette(colours: list[int], index: NDArray[Any] | None = None) -> Image.Image:
    image = Image.fromarray((DEFECT if index is None else index).astype(np.uint8)).convert("L")
    image = Image.frombytes("P", image.size, image.tobytes())
    image.putpalette(colours)
    return image


def drawing(
    colour: tuple[int, ...], alpha: int, mode: str = "RGBA", canvas: tuple[int, ...] = (0, 0, 0, 0)
) -> Image.Image:
    pixels = np.full((*DEFECT.shape, 4), canvas, np.uint8)
    pixels[DEFECT] = (*colour, alpha)
    return Image.fromarray(pixels).convert(mode)


def rgb(colour: tuple[int, int, int]) -> Image.Image:
    return Image.fromarray((DEFECT[..., None] * np.array(colour)).astype(np.uint8))


ENCODINGS: dict[str, Image.Image] = {
    **{f"grey {v}": grey(v) for v in (1, 2, 15, 16, 50, 100, 127, 128, 200, 254, 255)},
    **{f"16 bits {v}": grey(v, bits=16) for v in (1, 255, 1023, 4095, 65535)},
    **{f"32 bits {v}": grey(v, bits=32) for v in (1, 255, 100000)},
    "no zero": grey(2, 0, 0, 1),
    "void rim": grey(1, 0, 255),
    "void rim of id 30": grey(30, 0, 255),
    "palette": palette([0, 0, 0, 128, 0, 0]),
    "palette, grey background": palette([128, 128, 128, 255, 0, 0]),
    "palette, white background": palette([255, 255, 255, 255, 0, 0]),
    "palette, white background, black defect": palette([255, 255, 255, 0, 0, 0]),
    "palette, black last": palette([255, 0, 0, 0, 0, 0], ~DEFECT),
    "palette, void rim": palette([0, 0, 0, 128, 0, 0] + [224, 224, 192] * 254, levels(1, 0, 255)),
    "black ink": drawing((0, 0, 0), 255),
    "white ink": drawing((255, 255, 255), 255),
    "red brush": drawing((255, 0, 0), 100),
    "black ink, two channels": drawing((0, 0, 0), 255, "LA"),
    "white on opaque black": drawing((255, 255, 255), 255, canvas=(0, 0, 0, 255)),
    "black on transparent white": drawing((0, 0, 0), 255, canvas=(255, 255, 255, 0)),
    "red": rgb((255, 0, 0)),
    "dark blue": rgb((0, 0, 50)),
    "red on white": Image.fromarray(np.where(DEFECT[..., None], (255, 0, 0), 255).astype(np.uint8)),
    "ids in three channels": rgb((1, 1, 1)),
    "one bit": Image.fromarray(DEFECT),
}


@pytest.mark.parametrize("name", ENCODINGS)
def test_one_defect_in_many_encodings(tmp_path: Path, name: str) -> None:
    path = tmp_path / "mask.tif"
    ENCODINGS[name].save(path)
    rule = mask_rule([mask_facts(path)])
    assert (read_mask(path, rule)[0].numpy() == DEFECT).all()
    assert (read_mask(path)[0].numpy() == DEFECT).all()
    assert marked_share(mask_facts(path), rule) == DEFECT.mean()


@pytest.mark.parametrize(
    "name", ["grey 1", "16 bits 4095", "void rim", "palette, white background", "red brush"]
)
@pytest.mark.parametrize("layout", ["folder", "mvtec", "visa", "magnetic-tile"])
def test_every_layout_has_the_same_rule(tmp_path: Path, layout: str, name: str) -> None:
    good, bad, mask = {
        "folder": ("images/normal/{}.png", "images/defective/{}.png", "masks/{}.png"),
        "mvtec": ("train/good/{}.png", "test/hole/{}.png", "ground_truth/hole/{}_mask.png"),
        "visa": ("Data/Images/Normal/{}.png", "Data/Images/Anomaly/{}.png",
                 "Data/Masks/Anomaly/{}.png"),
        "magnetic-tile": ("MT_Free/Imgs/exp1_num_{}.jpg", "MT_Hole/Imgs/exp1_num_{}.jpg",
                          "MT_Hole/Imgs/exp1_num_{}.png"),
    }[layout]  # fmt: skip
    for i in range(12):
        path = tmp_path / (bad if i % 2 else good).format(200 * i)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (24, 24), 90 + i).save(path)
        if i % 2:
            path = tmp_path / mask.format(200 * i)
            path.parent.mkdir(parents=True, exist_ok=True)
            ENCODINGS[name].save(path)
    data = datasets.load(layout, tmp_path, 24)
    index = int(np.flatnonzero(data.test.labels)[0])
    assert (data.test[index].mask[0].numpy() == DEFECT).all()
    assert data.findings == ()
    assert "Defect in the masks: " in data.report()


def rule_of(tmp_path: Path, *images: Image.Image) -> tuple[list[NDArray[np.bool_]], str]:
    """The masks of a set, and its rule in words."""
    paths = [tmp_path / f"{i}.png" for i in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        image.save(path)
    rule = mask_rule(mask_facts(path) for path in paths)
    return [read_mask(path, rule)[0].numpy() for path in paths], describe_rule(rule)


@pytest.mark.parametrize("values", [(1, 30), (1, 2), (16, 30), (100, 255), (85, 170), (1, 200)])
def test_class_ids(tmp_path: Path, values: tuple[int, int]) -> None:
    both = DEFECT | SECOND
    assert (rule_of(tmp_path, grey(*values))[0][0] == both).all()
    apart = rule_of(tmp_path, grey(values[0]), grey(values[1]))[0]
    assert (apart[0] == DEFECT).all()
    assert (apart[1] == DEFECT).all()


def test_the_set_decides_whether_255_is_void(tmp_path: Path) -> None:
    (masks, words) = rule_of(tmp_path, grey(1, 0, 255), grey(2))
    assert all((mask == DEFECT).all() for mask in masks)
    assert "above 0 except 255" in words
    (masks, words) = rule_of(tmp_path, grey(1), grey(255))
    assert all((mask == DEFECT).all() for mask in masks)
    assert "except" not in words


def test_resampled_masks_are_cut_at_half(tmp_path: Path) -> None:
    for top in (255, 100):
        small = grey(top).resize((240, 240), Image.Resampling.BILINEAR)
        (masks, words) = rule_of(tmp_path, small)
        assert (masks[0] == (np.asarray(small) > top // 2)).all()
        assert f"above {top // 2}" in words
    # Antialiased with few levels: the faint ones fill no area.
    edge = levels(255).astype(np.uint8)
    edge[RIM] = 60
    (masks, _) = rule_of(tmp_path, Image.fromarray(edge))
    assert (masks[0] == DEFECT).all()


def test_compression_noise_is_no_defect(tmp_path: Path) -> None:
    path = tmp_path / "mask.jpg"
    grey(255).save(path, quality=80)
    stored = np.asarray(Image.open(path))
    assert 2 < len(np.unique(stored))
    assert (read_mask(path)[0].numpy() == (stored > 127)).all()
    assert (read_mask(path)[0].numpy() == DEFECT).all()


def test_palettes_of_a_set_agree(tmp_path: Path) -> None:
    # In the second file entry 0 covers more, but over the set black does.
    large = np.ones_like(DEFECT)
    large[0] = False
    small = [palette([255, 0, 0, 0, 0, 0], ~DEFECT)] * 3
    (masks, words) = rule_of(tmp_path, *small, palette([255, 0, 0, 0, 0, 0], ~large))
    assert [mask.mean() for mask in masks] == [DEFECT.mean()] * 3 + [large.mean()]
    assert "black as background" in words


def test_empty_masks(tmp_path: Path) -> None:
    (masks, _) = rule_of(tmp_path, grey(0), grey(1))
    assert not masks[0].any()
    assert not rule_of(tmp_path, grey(0))[0][0].any()
    assert describe_rule(mask_rule([])) == ""


def test_transposed_masks(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    grey(1).save(tmp_path / "a.png", exif=exif)
    assert (read_mask(tmp_path / "a.png")[0].numpy() == np.rot90(DEFECT, -1)).all()


@pytest.mark.real_data
@pytest.mark.skipif("GAINMTL_DATA" not in os.environ, reason="GAINMTL_DATA is not set")
def test_masks_of_the_magnetic_tiles() -> None:
    paths = sorted((Path(os.environ["GAINMTL_DATA"]) / "magnetic-tile").glob("MT_[!F]*/Imgs/*.png"))
    rule = mask_rule(mask_facts(path) for path in paths)
    assert describe_rule(rule) == "Defect in the masks: grey values above 127."
    for path in paths[::20]:
        assert (read_mask(path, rule)[0].numpy() == (np.asarray(Image.open(path)) > 127)).all()
