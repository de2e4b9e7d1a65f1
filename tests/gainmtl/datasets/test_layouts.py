from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gainmtl.datasets import list_images
from gainmtl.datasets.layouts import LAYOUTS, read_layout, read_records


def test_folder_without_split_reads_types_and_masks(folder_set: Path) -> None:
    records = read_records("folder", folder_set)
    assert len(records) == 18
    assert {r.split for r in records} == {None}
    by_name = {r.name: r for r in records}
    hole = by_name["images/defective/hole/4.png"]
    assert (hole.is_defective, hole.defect_type) == (True, "hole")
    assert hole.mask == folder_set / "masks" / "4.png"
    assert by_name["images/defective/crack/5.png"].mask is None
    assert by_name["images/normal/3.png"].defect_type == "normal"
    assert all(r.group == r.name for r in records)
    assert [r.name for r in records] == sorted(r.name for r in records)


def test_folder_with_split_and_masks_of_the_same_path(tmp_path: Path, write, spot) -> None:
    for split in ("train", "val", "test"):
        write(f"images/{split}/normal/a.png")
        write(f"images/{split}/defective/1.JPG", format="JPEG")
        write(f"masks/{split}/defective/1_mask.png", spot)
    write("images/train/.hidden/x.png")
    (tmp_path / "images" / "notes.txt").write_text("not an image")
    records = read_records("folder", tmp_path)
    assert Counter(r.split for r in records) == {"train": 2, "val": 2, "test": 2}
    for r in records:
        if r.is_defective:
            assert r.defect_type == "defective"
            assert r.mask == tmp_path / f"masks/{r.split}/defective/1_mask.png"


def test_folder_mask_path_may_leave_folders_out(tmp_path: Path, write, spot) -> None:
    write("images/train/defective/1.png")
    write("images/test/defective/1.png")
    write("masks/train/1.png", spot)
    masks = {r.split: r.mask for r in read_records("folder", tmp_path)}
    assert masks == {"train": tmp_path / "masks/train/1.png", "test": None}


def test_folder_ambiguous_mask(tmp_path: Path, write, spot) -> None:
    write("images/train/defective/1.png")
    write("images/test/defective/1.png")
    write("masks/1.png", spot)
    with pytest.raises(ValueError, match=r"masks/1\.png matches both .*test.* and .*train"):
        read_records("folder", tmp_path)


def test_folder_two_masks_for_one_image(tmp_path: Path, write, spot) -> None:
    write("images/defective/1.png")
    write("masks/1.png", spot)
    write("masks/1_mask.png", spot)
    with pytest.raises(ValueError, match=r"one mask per image; found .*1\.png and .*1_mask\.png"):
        read_records("folder", tmp_path)


def test_folder_masks_that_match_nothing(tmp_path: Path, write, spot) -> None:
    write("images/defective/1.png")
    write("masks/one.png", spot)
    message = r"None of the 1 files .* found one\.png, expected for example"
    with pytest.raises(ValueError, match=message):
        read_records("folder", tmp_path)


@pytest.mark.parametrize("stray", ["images/x.png", "images/train/defect/x.png", "images/ok/x.png"])
def test_folder_image_outside_the_layout(tmp_path: Path, write, stray: str) -> None:
    write("images/train/normal/a.png")
    write(stray)
    with pytest.raises(ValueError, match="outside the layout") as error:
        read_records("folder", tmp_path)
    assert Path(stray).name in str(error.value)
    assert "images/{train,test}/{normal,defective}" in str(error.value)


def test_folder_mixed_split(tmp_path: Path, write) -> None:
    write("images/train/normal/a.png")
    write("images/normal/b.png")
    with pytest.raises(ValueError, match="some have one, some do not"):
        read_records("folder", tmp_path)


def test_defect_type_called_normal(tmp_path: Path, write) -> None:
    write("images/defective/normal/a.png")
    with pytest.raises(ValueError, match="other than 'normal'"):
        read_records("folder", tmp_path)


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_missing_root_and_empty_root_show_the_layout(tmp_path: Path, layout: str) -> None:
    for root in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(FileNotFoundError) as error:
            read_records(layout, root)
        assert LAYOUTS[layout].tree in str(error.value)
        assert str(root) in str(error.value)


def test_groups_file_decides(folder_set: Path) -> None:
    table = folder_set / "images" / "groups.csv"
    names = [r.name.removeprefix("images/") for r in read_records("folder", folder_set)]
    rows = [f"{name},g{i // 3}" for i, name in enumerate(names)]
    table.write_text("image,group\n" + "\n".join([*rows, "gone.png,g9"]))
    assert [r.group for r in read_records("folder", folder_set)] == [
        f"g{i // 3}" for i in range(18)
    ]

    table.write_text("image,group\n" + "\n".join(rows[1:]))
    with pytest.raises(ValueError, match=r"1 of 18 have none, the first is images/defective/crack"):
        read_records("folder", folder_set)

    table.write_text("image,group\n" + "\n".join([*rows, f"{names[0]},other"]))
    with pytest.raises(ValueError, match="has 'g0' and 'other'"):
        read_records("folder", folder_set)

    table.write_text("file,group\n")
    with pytest.raises(ValueError, match=r"columns image and group .* found file, group"):
        read_records("folder", folder_set)


@pytest.mark.parametrize(
    "name", ["masks", "Mask", "gt", "ground_truth", "Ground Truth", "labels", "annotations",
             "segmentation", "train", "Training", "test", "val", "validation"],
)  # fmt: skip
@pytest.mark.parametrize(
    ("layout", "folder"),
    [("folder", "images/defective"), ("folder", "images/train/defective/hole"),
     ("mvtec", "test/hole"), ("mvtec", "train/good"), ("visa", "Data/Images/Anomaly")],
)  # fmt: skip
def test_masks_and_splits_are_no_defect_types(
    tmp_path: Path, write, layout: str, folder: str, name: str
) -> None:
    if layout == "mvtec":
        write("train/good/0.png")
    write(f"{folder}/1.png")
    stray = write(f"{folder}/{name}/1.png")
    with pytest.raises(ValueError, match=rf"as the folder of .*{name}/1.png; found '{name}'.*Move"):
        read_records(layout, tmp_path)
    stray.parent.rename(stray.parent.with_name(f"{name} torn"))
    assert read_records(layout, tmp_path)


WRITINGS: dict[str, Callable[[str], str]] = {
    "commas": lambda text: text,
    "semicolons": lambda text: text.replace(",", ";"),
    "tabs": lambda text: text.replace(",", "\t"),
    "spaces": lambda text: text.replace(",", " ; ").replace("\n", " \n"),
    "quoted": lambda text: '"' + text.replace(",", '", "').replace("\n", '"\n"') + '"',
    "byte order mark": lambda text: "\ufeff" + text,
    "empty rows": lambda text: text.replace("\n", "\n,\n\n") + "\n,,,\n",
    "backslashes": lambda text: text.replace("/", "\\"),
    "from here": lambda text: text.replace("\n", "\n./"),
    "decomposed": lambda text: unicodedata.normalize("NFD", text),
    "composed": lambda text: unicodedata.normalize("NFC", text),
}


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("writing", WRITINGS)
def test_writings_of_a_groups_file(tmp_path: Path, write, writing: str, form: str) -> None:
    names = [unicodedata.normalize(form, f"normal/Gehäuse 결함 {i}.png") for i in range(4)]
    for name in names:
        write(f"images/{name}")
    text = "\n".join(["image,group", *(f"{name},g{i // 2}" for i, name in enumerate(names))])
    (tmp_path / "images/groups.csv").write_text(WRITINGS[writing](text), "utf-8")
    assert [r.group for r in read_records("folder", tmp_path)] == ["g0", "g0", "g1", "g1"]


@pytest.mark.parametrize(
    ("text", "encoding", "message"),
    [
        ("Gehäuse", "latin-1", "UTF-8 in"),
        ("결함", "cp949", "UTF-8 in"),
        ("1", "utf-16", "UTF-8 in"),
        ("1", "utf-16-le", "UTF-8 in"),
        ('"' + 200_000 * "a", "utf-8", "line 2 can't be read"),
        (None, "utf-8", "found none"),
    ],
)
@pytest.mark.parametrize("layout", ["folder", "visa"])
def test_tables_that_can_not_be_read(
    tmp_path: Path, write, layout: str, text: str | None, encoding: str, message: str
) -> None:
    write({"folder": "images/normal/1.png", "visa": "candle/Data/Images/Normal/1.JPG"}[layout])
    table = tmp_path / {"folder": "groups.csv", "visa": "split_csv/1cls.csv"}[layout]
    table.parent.mkdir(exist_ok=True)
    table.write_text("" if text is None else f"image,group,split\n{text},x,train\n", encoding)
    with pytest.raises(ValueError, match=message) as error:
        read_records(layout, tmp_path)
    assert str(table) in str(error.value)


def test_two_groups_files(folder_set: Path) -> None:
    names = [r.name for r in read_records("folder", folder_set)]
    for table, prefix in (("groups.csv", ""), ("images/groups.csv", "images/")):
        rows = (f"{name.removeprefix(prefix)},g{i // 2}" for i, name in enumerate(names))
        (folder_set / table).write_text("\n".join(["image,group", *rows]))
    reading = read_layout("folder", folder_set)
    assert (reading.groups_files, reading.left_out) == ([], [])
    assert reading.records[3].group == "g1"
    other = folder_set / "groups.csv"
    other.write_text(other.read_text().replace("g8", "g9"))
    with pytest.raises(ValueError, match=rf"{other} and .*different groups, first for {names[16]}"):
        read_layout("folder", folder_set)


@pytest.mark.parametrize(
    ("layout", "image", "table"),
    [
        ("mvtec", "bottle/test/hole/1.png", "groups.csv"),
        ("mvtec", "bottle/test/hole/1.png", "bottle/test/groups.csv"),
        ("mvtec", "bottle/test/hole/1.png", "bottle/GROUPS.CSV"),
        ("visa", "candle/Data/Images/Normal/1.JPG", "candle/Data/groups.csv"),
        ("magnetic-tile", "MT_Free/Imgs/exp1_num_1.jpg", "MT_Free/groups.csv"),
    ],
)
def test_groups_files_in_another_place(
    tmp_path: Path, write, layout: str, image: str, table: str
) -> None:
    if layout == "mvtec":
        write("bottle/train/good/1.png")
    write(image)
    (tmp_path / table).write_text("image,group\n")
    assert read_layout(layout, tmp_path).groups_files == [tmp_path / table]


def _mvtec(write, spot, category: str) -> None:
    write(f"{category}/train/good/000.png")
    write(f"{category}/test/good/000.png")
    write(f"{category}/test/scratch/000.png")
    write(f"{category}/test/scratch/001.png")
    write(f"{category}/ground_truth/scratch/000_mask.png", spot)


def test_mvtec(tmp_path: Path, write, spot) -> None:
    _mvtec(write, spot, "bottle")
    records = read_records("mvtec", tmp_path, "bottle")
    assert records == read_records("mvtec", tmp_path)
    assert records == read_records("mvtec", tmp_path / "bottle")
    found = [(r.name, r.split, r.defect_type, r.mask and r.mask.name) for r in records]
    assert found == [
        ("test/good/000.png", "test", "normal", None),
        ("test/scratch/000.png", "test", "scratch", "000_mask.png"),
        ("test/scratch/001.png", "test", "scratch", None),
        ("train/good/000.png", "train", "normal", None),
    ]
    _mvtec(write, spot, "cable")
    with pytest.raises(ValueError, match="one of bottle, cable; found None"):
        read_records("mvtec", tmp_path)
    with pytest.raises(ValueError, match="one of bottle, cable; found 'cabel'"):
        read_records("mvtec", tmp_path, "cabel")


def test_visa_raw_with_and_without_its_split(tmp_path: Path, write, spot) -> None:
    write("candle/Data/Images/Normal/0000.JPG", format="JPEG")
    write("candle/Data/Images/Normal/0001.JPG", format="JPEG")
    write("candle/Data/Images/Anomaly/000.JPG", format="JPEG")
    write("candle/Data/Masks/Anomaly/000.png", spot)
    assert {r.split for r in read_records("visa", tmp_path)} == {None}
    rows = [
        "object,split,label,image,mask",
        "candle,train,normal,candle/Data/Images/Normal/0000.JPG,",
        "candle,test,normal,candle/Data/Images/Normal/0001.JPG,",
        "candle,test,anomaly,candle/Data/Images/Anomaly/000.JPG,candle/Data/Masks/Anomaly/000.png",
    ]
    table = tmp_path / "split_csv" / "1cls.csv"
    table.parent.mkdir()
    table.write_text("\n".join(rows))
    for records in (
        read_records("visa", tmp_path, "candle"),
        read_records("visa", tmp_path / "candle"),
    ):
        assert [(r.split, r.defect_type, r.mask is not None) for r in records] == [
            ("test", "anomaly", True),
            ("train", "normal", False),
            ("test", "normal", False),
        ]
    table.write_text("\n".join(rows[:-1]))
    with pytest.raises(ValueError, match=r"train or test for .*000\.JPG .*found None"):
        read_records("visa", tmp_path)
    table.write_text("\n".join(rows).replace(",", "; "))
    assert [r.split for r in read_records("visa", tmp_path)] == ["test", "train", "test"]
    for text in (rows[0], rows[0] + "\n\n,,,,\n"):
        table.write_text(text)
        with pytest.raises(ValueError, match=r"row for every image in .*1cls\.csv; found none"):
            read_records("visa", tmp_path)


def test_visa_in_mvtec_form(tmp_path: Path, write, spot) -> None:
    _mvtec(write, spot, "candle")
    assert read_records("visa", tmp_path, "candle") == read_records("mvtec", tmp_path, "candle")


def test_magnetic_tile_groups_by_runs_of_num(tmp_path: Path, write, spot) -> None:
    # Sorted: 10, 60, 160 | 261, 300 | 500: a step of 100 stays within the tile, 101 does not.
    for kind, exposure, number in [
        ("Free", 1, 10), ("Crack", 2, 60), ("Free", 1, 160), ("Blowhole", 3, 261), ("Free", 4, 300),
        ("Free", 1, 500),
    ]:  # fmt: skip
        stem = f"MT_{kind}/Imgs/exp{exposure}_num_{number}"
        write(f"{stem}.jpg")
        if kind != "Crack":
            write(f"{stem}.png", spot)
    records = read_records("magnetic-tile", tmp_path)
    number = {int(r.name.split("_")[-1][:-4]): r for r in records}
    groups = [number[n].group for n in (10, 60, 160, 261, 300, 500)]
    assert groups == ["run0000"] * 3 + ["run0001"] * 2 + ["run0002"]
    assert number[60].mask is None
    assert number[261].mask == tmp_path / "MT_Blowhole/Imgs/exp3_num_261.png"
    assert number[261].defect_type == "blowhole"
    assert number[10].mask is None
    assert not number[10].is_defective

    names = [r.name for r in records]
    (tmp_path / "groups.csv").write_text(
        "image,class,group\n" + "\n".join(f"{n},x,tile{i}" for i, n in enumerate(names))
    )
    assert [r.group for r in read_records("magnetic-tile", tmp_path)] == [
        f"tile{i}" for i in range(6)
    ]
    write("MT_Free/Imgs/photo.jpg")
    with pytest.raises(ValueError, match=r"name like exp1_num_2345\.jpg; found .*photo\.jpg"):
        read_records("magnetic-tile", tmp_path)


@pytest.mark.parametrize("layout", ["folder", "magnetic-tile"])
def test_layout_without_categories(tmp_path: Path, layout: str) -> None:
    with pytest.raises(ValueError, match="no categories; found category='x'"):
        read_records(layout, tmp_path, "x")


def test_list_images(tmp_path: Path, write) -> None:
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        list_images(tmp_path / "nowhere")
    (tmp_path / "readme.txt").write_text("no image")
    with pytest.raises(FileNotFoundError, match=r"found none\. Accepted suffixes: .* \.bmp"):
        list_images(tmp_path)
    b, a = write("b.PNG", format="PNG"), write("sub/a.tif", np.zeros((4, 4), np.uint8))
    write(".thumbnails/c.png")
    with pytest.warns(UserWarning, match=r"images: 2 \(\.thumbnails, readme\.txt\)\.$"):
        assert list_images(tmp_path) == [b, a]
