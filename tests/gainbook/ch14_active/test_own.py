"""One's own images: the file of labels, its mistakes, and three rounds as a user plays them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from gainbook.chapters.ch14_active.methods import WITHOUT_MASKS
from gainbook.chapters.ch14_active.own_labels import add_batch, read_labels
from gainbook.chapters.ch14_active.own_page import listing, sentences
from gainbook.chapters.ch14_active.own_round import (
    Images,
    cross_checked,
    encode_images,
    find_images,
    play_round,
    views_of,
)
from PIL import Image

from gainmtl.backbone import Backbone

NAMES = [f"{i}.png" for i in range(8)]


def write(path: Path, *rows: str, header: str = "image,label") -> Path:
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def test_a_missing_file_is_no_error(tmp_path: Path) -> None:
    labels = read_labels(tmp_path / "labels.csv", NAMES)
    assert labels.known == {}
    assert "does not exist yet" in labels.notes[0]


def test_rows_open_skipped_and_removed(tmp_path: Path) -> None:
    path = write(tmp_path / "l.csv", "0.png,crack", "1.png, ", "2.png,Skip", "gone.png,crack")
    labels = read_labels(path, NAMES)
    assert labels.known == {"0.png": "crack"}
    assert (labels.open, labels.skipped, labels.removed) == (("1.png",), ("2.png",), ("gone.png",))
    gone, empty = labels.notes
    assert "1 image of l.csv is not in the folder any more (gone.png)" in gone
    assert "1 image of l.csv has no label yet (1.png)" in empty


def test_a_removed_image_without_a_label_is_not_waited_for(tmp_path: Path) -> None:
    labels = read_labels(write(tmp_path / "l.csv", "0.png,crack", "gone.png,"), NAMES)
    assert labels.open == ()


@pytest.mark.parametrize(
    ("rows", "classes", "words"),
    [
        (["0.png,crakc"], ["normal", "crack"], "row 2: the label 'crakc' of 0.png is none of"),
        (["0.png,crakc"], ["normal", "crack"], "did you mean 'crack'"),
        (["0.png,crack", "1.png,crack", "2.png,crakc"], None, "occurs once and looks like 'crack'"),
        (["0.png,crack", "0.png,stain"], None, "rows 2 and 3 label 0.png as 'crack' and 'stain'"),
    ],
)
def test_a_wrong_row_is_named(
    rows: list[str], classes: list[str] | None, words: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=words):
        read_labels(write(tmp_path / "l.csv", *rows), NAMES, classes)


def test_alike_names_are_fine_if_they_are_listed_or_frequent(tmp_path: Path) -> None:
    path = write(tmp_path / "l.csv", "0.png,crack a", "1.png,crack a", "2.png,crack b")
    assert read_labels(path, NAMES, ["crack a", "crack b"]).classes == ("crack a", "crack b")
    rows = [f"{i}.png,{'spot' if i < 3 else 'spots'}" for i in range(7)]
    assert len(read_labels(write(tmp_path / "m.csv", *rows), NAMES).classes) == 2


def test_capital_letters_make_no_class(tmp_path: Path) -> None:
    path = write(tmp_path / "l.csv", "0.png,crack", "1.png,crack", "2.png,Crack")
    labels = read_labels(path, NAMES)
    assert labels.classes == ("crack",)
    assert "'Crack' counts as 'crack'" in labels.notes[0]


def test_files_of_spreadsheets(tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    path.write_bytes("﻿image;label;who\r\na\\0.png;crack;me\r\n".encode())
    assert read_labels(path, ["a/0.png"]).known == {"a/0.png": "crack"}
    add_batch(path, ["a/1.png"])
    assert path.read_text("utf-8").splitlines() == [
        "image;label;who", "a\\0.png;crack;me", "a/1.png;;",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="expected the columns image and label"):
        read_labels(write(tmp_path / "m.csv", header="file,class"), NAMES)
    path.write_bytes("image,label\n0.png,Bläschen".encode("latin-1"))
    with pytest.raises(ValueError, match="save it as 'CSV UTF-8'"):
        read_labels(path, NAMES)


def test_heads_of_the_check_do_not_see_the_group() -> None:
    rng = np.random.default_rng(0)
    codes = np.arange(40) % 2
    x = rng.normal(size=(40, 30)).astype(np.float32)  # the features hold nothing about the class
    groups = [str(i) for i in range(40)]
    own = cross_checked(np.concatenate([x, x]), np.tile(codes, 2), groups * 2, 2)
    assert own is not None
    # Two photographs of each part: a head that saw the other one would be right nearly always.
    assert 0.2 < (own.argmax(1) == np.tile(codes, 2)).mean() < 0.8
    leaking = cross_checked(
        np.concatenate([x, x]), np.tile(codes, 2), [str(i) for i in range(80)], 2
    )
    assert leaking is not None
    assert (leaking.argmax(1) == np.tile(codes, 2)).mean() > 0.8
    assert cross_checked(x[:3], np.array([0, 0, 1]), groups[:3], 2) is None


COLOURS = {"red": (220, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 220)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 images whose class is their colour; the file names do not hold it."""
    root = tmp_path_factory.mktemp("parts")
    rng = np.random.default_rng(1)
    for i in range(36):
        colour = np.array(list(COLOURS.values())[i % 3])
        pixels = np.clip(colour + rng.normal(0, 12, (40, 40, 3)), 0, 255).astype(np.uint8)
        path = root / "line 1" / f"{i:02d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(path)
    return root


def truth(name: str) -> str:
    return list(COLOURS)[int(Path(name).stem) % 3]


def fill(path: Path, change: dict[str, str] | None = None) -> None:
    """A person writes every missing label, some of them wrong."""
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table["label"] = [
        (change or {}).get(image, label or truth(image))
        for image, label in zip(table["image"], table["label"], strict=True)
    ]
    table.to_csv(path, index=False)


def play(root: Path, path: Path, budget: int = 6, method: str = "margin"):  # type: ignore[no-untyped-def]
    """What the notebook does in a run."""
    images = find_images(root)
    labels = read_labels(path, images.names)
    torch.manual_seed(0)
    backbone = Backbone("test_efficientnet")
    levels = encode_images(images, backbone, 32, path.parent, views_of(method))
    found = play_round(images, labels, levels, method, budget, 0)
    if found.batch:
        add_batch(path, found.batch)
    return images, labels, found, "\n".join(sentences(images, labels, found, path.name))


def test_three_rounds_with_every_mistake(folder: Path, tmp_path: Path) -> None:
    root, path = tmp_path / "parts", tmp_path / "labels.csv"
    shutil.copytree(folder, root)
    *_, found, text = play(root, path)
    assert (len(found.batch), found.used) == (6, "typiclust")
    assert "6 images are next, chosen by TypiClust" in text
    # A missing label: nothing else is chosen, and nothing is added to the file.
    before = path.read_text("utf-8")
    fill(path)
    first = found.batch[0]
    fill(path, {first: ""})
    *_, found, text = play(root, path)
    assert f"1 image of labels.csv has no label yet ({first})" in text
    assert found.batch == ()
    assert len(path.read_text("utf-8").splitlines()) == len(before.splitlines())
    # Filled in, the second round chooses by the method.
    fill(path)
    *_, found, text = play(root, path)
    assert (len(found.batch), found.used) == (6, "margin")
    # An unknown class name is refused; the file stays.
    fill(path, {found.batch[0]: "gren"})
    with pytest.raises(ValueError, match="'gren' .* looks like 'green'"):
        play(root, path)
    # A wrong label is doubted; an image that was removed is left out.
    wrong, gone = found.batch[0], found.batch[1]
    lie = next(colour for colour in COLOURS if colour != truth(wrong))
    fill(path, {wrong: lie})
    (root / gone).unlink()
    *_, found, text = play(root, path, budget=8)
    assert f"1 image of labels.csv is not in the folder any more ({gone})" in text
    assert found.doubtful["image"].tolist() == [wrong]
    assert f"the most doubtful first: {wrong} is labelled '{lie}', predicted" in text
    assert len(found.batch) == 8
    # Corrected, the third round has no doubt.
    fill(path, {wrong: truth(wrong)})
    *_, found, text = play(root, path, budget=50)
    assert found.doubtful.empty
    assert len(found.batch) == 35 - 11 - 8  # all that is left
    assert found.predictions is not None
    assert set(found.predictions["predicted"]) <= set(COLOURS)
    fill(path)
    *_, found, text = play(root, path)
    assert found.batch == ()
    assert "No image is left to choose." in text
    assert found.figures()["accuracy"] == 1


def test_the_page_shows_the_batch_and_the_doubts(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    images, labels, found, _ = play(folder, path, budget=12)
    page = listing(images, labels, found, path.name)
    assert page.count("<img ") == 12
    assert "predicted" not in page
    wrong = found.batch[0]
    fill(path, {wrong: next(colour for colour in COLOURS if colour != truth(wrong))})
    images, labels, found, _ = play(folder, path, budget=3)
    page = listing(images, labels, found, path.name)
    assert "Labels to check" in page
    assert page.count("<img ") == 4
    assert "data:image/jpeg;base64," in page
    assert str(folder) not in page


@pytest.mark.parametrize("method", WITHOUT_MASKS)
def test_every_method_works_on_own_images(method: str, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    play(folder, path, method=method)
    fill(path)
    found = play(folder, path, method=method)[2]
    assert len(set(found.batch)) == 6
    assert found.used == method


def test_one_class_is_not_enough_for_a_head(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    play(folder, path)
    table = pd.read_csv(path, dtype=str).assign(label="all the same")
    table.to_csv(path, index=False)
    *_, found, text = play(folder, path)
    assert found.used == "typiclust"
    assert found.predictions is None
    assert "A head needs two classes" in text


def test_changed_images_are_encoded_again(backbone: Backbone, tmp_path: Path) -> None:
    root = tmp_path / "one"
    root.mkdir()
    Image.new("RGB", (40, 40), (200, 0, 0)).save(root / "a.png")
    first = encode_images(find_images(root), backbone, 32, tmp_path, ("plain",))["plain"]
    Image.new("RGB", (41, 40), (0, 0, 200)).save(root / "a.png")
    second = encode_images(find_images(root), backbone, 32, tmp_path, ("plain",))["plain"]
    assert np.abs(first.fine.astype(float) - second.fine.astype(float)).max() > 0


def test_groups_and_masks_of_a_folder(tmp_path: Path) -> None:
    for name in ("a/1.png", "a/2.png", "masks/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (8, 8)).save(tmp_path / name)
    assert find_images(tmp_path) == Images(tmp_path, ("a/1.png", "a/2.png"), ("a/1.png", "a/2.png"))
    write(tmp_path / "groups.csv", "a/1.png,x", "a/2.png,x", header="image,group")
    assert find_images(tmp_path).groups == ("x", "x")
    with pytest.raises(FileNotFoundError, match="expected a folder of images"):
        find_images(tmp_path / "none")
