"""What `load` reports on files that may be a mistake, and the right value beside it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gainmtl import datasets

LAYOUTS = {
    "folder": ("images/normal", "images/defective/hole", "masks"),
    "mvtec": ("train/good", "test/hole", "ground_truth/hole"),
    "visa": ("Data/Images/Normal", "Data/Images/Anomaly", "Data/Masks/Anomaly"),
}


def load(root: Path, layout: str = "folder", **options: Any) -> datasets.Data:
    return datasets.load(layout, root, 16, **{"folds": 3, **options})


def write_set(write: Any, spot: Any, layout: str, name: Callable[[int], str]) -> None:
    good, bad, masks = LAYOUTS[layout]
    for i in range(9):
        write(f"{good}/{i}.png")
        write(f"{bad}/{i + 20}.png")
        write(f"{masks}/{name(i + 20)}", spot)


def masked(data: datasets.Data) -> int:
    return sum(int(part.has_mask[part.labels].sum()) for part in (data.train, data.val, data.test))  # type: ignore[attr-defined]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "name",
    ["{}.png", "{}_mask.png", "{}_Mask.PNG", "{}_gt.png", "{}_GT.bmp", "{}/{}_mask.png",
     "{}/mask.png", "{}/0.png", "{}.png.png", "{}-label.tif", "{}_ground_truth.gif"],
)  # fmt: skip
def test_names_of_masks(tmp_path: Path, write, spot, layout: str, name: str) -> None:
    write_set(write, spot, layout, lambda i: name.format(i, i))
    data = load(tmp_path, layout)
    assert masked(data) == 9
    assert data.findings == ()


def test_names_are_compared_after_normalisation(tmp_path: Path, write, spot) -> None:
    for i in range(4):
        write(f"images/normal/{i}.png")
    for i, word in enumerate(["결함", "Ärger", "CRACK", "straße"]):
        write(f"images/defective/{unicodedata.normalize('NFC', word)} {i}.png")
        write(f"masks/{unicodedata.normalize('NFD', word).swapcase()} {i}_Mask.png", spot)
    assert masked(load(tmp_path, folds=2)) == 4


def test_images_that_end_like_masks(tmp_path: Path, write, spot) -> None:
    for i in range(6):
        write(f"images/normal/{i}.png")
        write(f"images/defective/{i}_mask.png")
        write(f"masks/{i}_mask{'_mask' if i % 2 else ''}.png", spot)
    assert masked(load(tmp_path)) == 6


def test_masks_among_the_images(tmp_path: Path, write, spot) -> None:
    write_set(write, spot, "folder", lambda i: f"{i}.png")
    write("images/defective/hole/20_mask.png", spot)
    message = r"named like masks of other images: 1 \(images/defective/hole/20_mask\.png\)"
    with pytest.warns(UserWarning, match=message):
        load(tmp_path)


@pytest.mark.parametrize("name", ["{}.png", "{}_gt.bmp"])
def test_masks_in_a_folder_among_the_images(tmp_path: Path, write, spot, name: str) -> None:
    for i in range(6):
        write(f"images/normal/{i}.png")
        write(f"images/defective/{i}.png")
        write(f"images/defective/drawn/{name.format(i)}", spot + np.uint8(i))
    with pytest.warns(UserWarning, match=r"like masks of other images: 6 \(images/defective/drawn"):
        load(tmp_path)
    write("images/defective/drawn/8.png")  # so "drawn" is a type
    assert load(tmp_path).findings == ()


@pytest.mark.parametrize(
    ("copies", "across", "contrary"),
    [
        (("train/normal/0", "test/normal/0"), 2, 0),
        (("train/normal/1", "train/normal/2"), 0, 0),
        (("test/normal/3", "test/defective/3"), 0, 2),
        (("train/defective/4", "test/normal/4", "test/normal/5"), 3, 3),
    ],
)
def test_copies(tmp_path: Path, write, copies: Any, across: int, contrary: int) -> None:
    for place in ("train/normal", "train/defective", "test/normal", "test/defective"):
        for i in range(6):
            write(f"images/{place}/{i}.png")
    assert load(tmp_path, validation=0).findings == ()
    paths = [tmp_path / f"images/{name}.png" for name in copies]
    for path in paths[1:]:
        path.write_bytes(paths[0].read_bytes())
    with pytest.warns(UserWarning, match="same content as another image"):
        data = load(tmp_path, validation=0)
    names = ", ".join(sorted(path.relative_to(tmp_path).as_posix() for path in paths))
    assert data.findings == (
        f"Images with the same content as another image: {len(paths)}, of them {across} across "
        f"training, validation and test, and {contrary} with different labels ({names}). Remove "
        "the copies, or give them one label and, in groups.csv, one group.",
    )


def test_copies_within_a_group_do_no_harm(folder_set: Path, write) -> None:
    write("images/normal/0.png", 91)
    with pytest.warns(UserWarning, match="same content as another image: 2"):
        load(folder_set)
    names = [path.relative_to(folder_set) for path in folder_set.glob("images/**/*.png")]
    rows = [f"{name},{'one' if name.stem in '01' else name}" for name in names]
    (folder_set / "groups.csv").write_text("\n".join(["image,group", *rows]))
    assert load(folder_set).findings == ()


def test_files_are_read_once(folder_set: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    whole = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: (read.append(path), whole(path))[1])
    load(folder_set)
    assert len(read) == len(set(read)) == 18 + 5


def test_names_that_differ_in_case_only(tmp_path: Path, write, spot) -> None:
    for i in range(6):
        write(f"images/normal/{i}.png")
    for stem in ("a", "A", "b", "B"):
        write(f"images/defective/{stem}.png")
    write("masks/A.png", spot)
    write("masks/a.png", spot)
    write("masks/B.png", spot)
    records = datasets.load("folder", tmp_path, 16, folds=2).train.records  # type: ignore[attr-defined]
    records += datasets.load("folder", tmp_path, 16, folds=2).val.records  # type: ignore[attr-defined]
    records += datasets.load("folder", tmp_path, 16, folds=2).test.records  # type: ignore[attr-defined]
    found = {r.image.stem: r.mask and r.mask.stem for r in records if r.is_defective}
    assert found == {"a": "a", "A": "A", "b": None, "B": "B"}


def test_several_masks_in_the_folder_of_an_image(tmp_path: Path, write, spot) -> None:
    write_set(write, spot, "mvtec", lambda i: f"{i}/0.png")
    write("ground_truth/hole/21/1.png", spot)
    with pytest.raises(ValueError, match=r"one mask per image; found .*21/0\.png and .*21/1\.png"):
        load(tmp_path, "mvtec")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_masks_that_match_nothing_are_named(tmp_path: Path, write, spot, layout: str) -> None:
    write_set(write, spot, layout, lambda i: f"{i}.png")
    folder = LAYOUTS[layout][2]
    for i in range(5):
        write(f"{folder}/other {i}.png", spot)
    message = f"Masks that match no image: 5 ({folder}/other 0.png, {folder}/other 1.png"
    with pytest.warns(UserWarning, match=re.escape(message)):
        data = load(tmp_path, layout)
    assert message in data.report()
    assert "and 2 more)." in data.report()
    assert masked(data) == 9


@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_mask_matches(tmp_path: Path, write, spot, layout: str) -> None:
    write_set(write, spot, layout, lambda i: f"other {i}.png")
    with pytest.raises(ValueError, match=r"None of the 9 files in .* matches a defective image"):
        load(tmp_path, layout)


def test_masks_of_normal_images(tmp_path: Path, write, spot) -> None:
    write_set(write, spot, "folder", lambda i: f"{i}.png")
    write("masks/1.png", 0)  # empty, as it should be
    write("masks/2.png", spot)
    with pytest.warns(UserWarning, match="Masks of normal images"):
        data = load(tmp_path)
    assert data.findings == (
        "Masks of normal images that have content; they are not used: 1 (masks/2.png).",
    )
    assert masked(data) == 9


def test_masks_that_mark_all_or_nothing(tmp_path: Path, write, spot) -> None:
    write_set(write, spot, "folder", lambda i: f"{i}.png")
    # Of a resampled set: the borders have many grey levels.
    write("masks/20.png", np.arange(64, dtype=np.uint8).reshape(8, 8) * 4)
    write("masks/21.png", 255)
    faint = spot // 3
    write("masks/22.png", faint)
    write("masks/23.png", 0)
    with pytest.warns(UserWarning, match="mark every pixel"):
        data = load(tmp_path)
    assert data.findings == (
        "Masks that mark every pixel: 1 (masks/21.png).",
        "Masks that have content and mark nothing: 1 (masks/22.png).",
    )
    assert "grey values above 127." in data.report()
    assert sum(c["empty_masks"] for c in data.counts.values()) == 2


def test_inverted_masks(tmp_path: Path, write, spot) -> None:
    write_set(write, 255 - spot, "folder", lambda i: f"{i}.png")
    with pytest.warns(UserWarning, match="mark 94% of the pixels on average"):
        load(tmp_path)


@pytest.mark.parametrize("usual", [1, 20])
def test_one_inverted_mask(tmp_path: Path, write, usual: int) -> None:
    """A mask that marks most is doubtful only where the others mark little."""
    marks = np.arange(64).reshape(8, 8)
    write_set(write, np.uint8(255) * (marks < usual), "folder", lambda i: f"{i}.png")
    write("masks/21.png", np.uint8(255) * (marks >= usual))
    if usual == 20:
        assert load(tmp_path).findings == ()
        return
    with pytest.warns(UserWarning, match="may be inverted"):
        data = load(tmp_path)
    assert data.findings == (
        "Masks that mark more than half of the image, the usual one 1.6%; they may be inverted: 1 "
        "(masks/21.png).",
    )


@pytest.mark.parametrize(
    "name", ["Groups.csv", "groups.txt", "images/normal/groups.csv", "masks/groups.csv",
             "images/Group.CSV", "groups.csv.txt", "images/groups.xlsx"],
)  # fmt: skip
def test_groups_files_that_are_not_used(tmp_path: Path, write, spot, name: str) -> None:
    write_set(write, spot, "folder", lambda i: f"{i}.png")
    (tmp_path / name).write_text("image,group\n")
    with pytest.warns(UserWarning, match="not used; expected groups.csv in the folder of the set"):
        data = load(tmp_path)
    assert len(data.findings) == 1
    assert data.findings[0].endswith(f"of the set: 1 ({name}).")


def test_files_that_are_not_read(tmp_path: Path, write, spot) -> None:
    write_set(write, spot, "folder", lambda i: f"{i}.png")
    (tmp_path / "images/defective/photo.heic").write_text("unknown to Pillow")
    (tmp_path / "masks/notes.txt").write_text("no mask")
    (tmp_path / "images/groups.csv").write_text(
        "image,group\n"
        + "".join(f"normal/{i}.png,{i}\ndefective/hole/{i + 20}.png,{i}\n" for i in range(9))
    )
    with pytest.warns(UserWarning, match="not read"):
        data = load(tmp_path)
    assert data.findings == (
        "Files or folders that are not read: 2 (images/defective/photo.heic, masks/notes.txt).",
    )


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", [".ipynb_checkpoints", ".Trash", "__MACOSX", "@eaDir"])
def test_hidden_folders_are_no_defect_types(
    tmp_path: Path, write, spot, layout: str, name: str
) -> None:
    write_set(write, spot, layout, lambda i: f"{i}.png")
    folder = Path(LAYOUTS[layout][1]).parent
    write(f"{folder}/{name}/20.png")
    write(f"{name}/train/good/1.png")
    with pytest.warns(UserWarning, match=rf"not read: 1 \({folder}/{name}\)"):
        data = load(tmp_path, layout)
    assert sum(c["images"] for c in data.counts.values()) == 18
    assert data.types() == ("normal", "anomaly" if layout == "visa" else "hole")


def test_a_hidden_folder_is_no_category(tmp_path: Path, write, spot) -> None:
    for i in range(8):
        write(f"bottle/train/good/{i}.png")
        write(f"bottle/test/hole/{i}.png")
        write(f".Trash/train/good/{i}.png")
    assert load(tmp_path, "mvtec").counts["test"]["images"] == 8


def test_every_part_of_an_anomaly_set_is_read(tmp_path: Path, write) -> None:
    for i in range(8):
        write(f"train/Good/{i}.png")
        write(f"validation/good/{i}.png")
        write(f"test/hole/line 1/{i}.png")
    data = load(tmp_path, "mvtec")
    assert [c["images"] for c in data.counts.values()] == [8, 8, 8]
    assert data.types() == ("normal", "hole/line 1")
    write("test/7.png")
    with pytest.raises(ValueError, match=r"test/7\.png is outside the layout"):
        load(tmp_path, "mvtec")


def test_other_pictures_among_magnetic_tiles(tmp_path: Path, write, spot) -> None:
    for i in range(9):
        write(f"MT_{('Free', 'Crack', 'Fray')[i % 3]}/Imgs/exp1_num_{i * 200}.JPG", format="JPEG")
        write(f"MT_{('Free', 'Crack', 'Fray')[i % 3]}/Imgs/exp1_num_{i * 200}.PNG", spot)
    write("MT_Crack/Imgs/exp1_num_77.bmp")
    write("MT_Crack/Imgs/exp1_num_78.png", spot)
    with pytest.warns(UserWarning, match="magnetic-tile in"):
        data = load(tmp_path, "magnetic-tile")
    assert [text.split(" (")[0] for text in data.findings] == [
        "Files or folders that are not read: 1",
        "Masks that match no image: 1",
        "Masks of normal images that have content; they are not used: 3",
    ]
    assert masked(data) == 6


def test_the_link_to_a_folder_is_followed(tmp_path: Path, write, spot) -> None:
    write_set(write, spot, "folder", lambda i: f"{i}.png")
    (tmp_path / "images/defective").rename(tmp_path / "elsewhere")
    (tmp_path / "images/defective").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "masks").rename(tmp_path / "drawn")
    (tmp_path / "masks").symlink_to(tmp_path / "drawn")
    assert masked(load(tmp_path)) == 9
    (tmp_path / "drawn").rename(tmp_path / "lost")
    with pytest.raises(FileNotFoundError, match=r"/masks"):
        load(tmp_path)


def test_frames_and_pages(tmp_path: Path, write, spot) -> None:
    write_set(write, spot, "folder", lambda i: f"{i}.png")
    pages = [Image.new("L", (8, 8), grey) for grey in (30, 90)]
    pages[0].save(tmp_path / "images/normal/stack.tif", save_all=True, append_images=pages[1:])
    with pytest.warns(UserWarning, match=r"only the first is read: 1 \(images/normal/stack\.tif"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("top", "kind", "levels"),
    [(1023, np.uint16, 5), (4095, np.uint16, 17), (255, np.int32, 2), (65535, np.uint16, None)],
)
def test_depth(tmp_path: Path, write, top: int, kind: type, levels: int | None) -> None:
    for i in range(6):
        for j, label in enumerate(("normal", "defective")):
            values = np.roll(np.linspace(0, top, 64).astype(kind), 2 * i + j)
            write(f"images/{label}/{i}.tif", values.reshape(8, 8))
    if levels is None:
        assert load(tmp_path).findings == ()
        return
    with pytest.warns(UserWarning, match="more than 8 bits"):
        data = load(tmp_path)
    message = f"the largest value in 12 of them is {top}: of the 256 grey levels {levels} are used"
    assert message in data.report()
