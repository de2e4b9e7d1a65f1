"""PASCAL VOC's layout, on a tree of a few pictures: one class against the rest, boxes as masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gainmtl.datasets import load
from gainmtl.datasets.images import boxes_mask
from gainmtl.datasets.layouts import read_records
from gainmtl.datasets.voc_layout import read_boxes
from gainmtl.report.cases import cases_of


def annotation(*objects: tuple[str, tuple[float, ...], int]) -> str:
    things = "".join(
        f"<object><name>{name}</name><difficult>{hard}</difficult><bndbox>"
        + "".join(
            f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
        )
        + "</bndbox></object>"
        for name, box, hard in objects
    )
    return f"<annotation><filename>x.jpg</filename>{things}</annotation>"


@pytest.fixture
def voc(tmp_path: Path, write: Any) -> Path:
    """12 training and 6 validation pictures of 8 x 12; every third shows a dog, one a hard one."""
    for folder in ("Annotations", "ImageSets/Main"):
        (tmp_path / folder).mkdir(parents=True)
    for listed, count, grey in (("train", 12, 60), ("val", 6, 80)):
        lines = []
        for i in range(count):
            stem = f"{listed}_{i:03d}"
            write(f"JPEGImages/{stem}.jpg", np.full((8, 12, 3), grey + i, np.uint8))
            objects: list[Any] = [("cat", (1, 1, 4, 2), 0)]
            label = -1
            if i % 3 == 0:
                label = 1
                objects += [("dog", (3, 2, 6.4, 5), 0), ("dog", (12, 8, 12, 8), 1)]
            if i == 1:
                label = 0
                objects += [("dog", (3, 2, 6, 5), 1)]
            (tmp_path / f"Annotations/{stem}.xml").write_text(annotation(*objects))
            lines.append(f"{stem} {label:2d}")
        for kind in ("dog", "cat"):
            (tmp_path / f"ImageSets/Main/{kind}_{listed}.txt").write_text("\n".join(lines) + "\n\n")
    return tmp_path


def read_dogs(root: Path) -> list[Any]:
    return list(read_records("voc2012", root, "dog"))


def test_one_class_against_the_rest(voc: Path) -> None:
    records = read_dogs(voc)
    assert len(records) == 11 + 5
    assert {r.split for r in records} == {"train", "test"}
    assert [r.is_defective for r in records].count(True) == 4 + 2
    by_name = {r.name: r for r in records}
    assert "JPEGImages/train_001.jpg" not in by_name
    dog, none = by_name["JPEGImages/train_003.jpg"], by_name["JPEGImages/train_002.jpg"]
    assert (dog.defect_type, dog.mask, dog.group) == ("dog", None, dog.name)
    assert dog.boxes == ((1, 2, 5, 6), (7, 11, 8, 12))
    assert (none.defect_type, none.boxes) == ("normal", None)


def test_boxes_become_masks(voc: Path) -> None:
    data = load("voc2012", voc, image_size=16, category="dog", validation=0.3)
    assert data.split == "official"
    assert data.counts["test"]["defective"] == 2
    train: Any = data.train
    assert bool(train.has_mask.all())
    index = int(np.flatnonzero(train.labels)[0])
    sample = train[index]
    # Rows 1 to 4 of 8 and columns 2 to 5 of 12, at 16 x 16.
    assert sample.has_mask
    assert sample.mask[0, 2:10, 3:8].min() == 1
    assert sample.mask[0, 10:13].max() == 0
    assert sample.mask[0, 15, 15] == 1
    case = cases_of(train, "train")[index]
    whole = case.read_mask()
    assert whole is not None
    assert whole.shape == (1, 8, 12)
    assert int(whole.sum()) == 4 * 4 + 1


def test_the_fingerprint_knows_the_boxes(voc: Path) -> None:
    def fingerprint() -> str:
        return load("voc2012", voc, image_size=16, category="dog", validation=0.3).fingerprint

    before = fingerprint()
    (voc / "Annotations/train_000.xml").write_text(annotation(("dog", (1, 1, 2, 2), 0)))
    assert fingerprint() != before


def test_the_folder_above_will_do(voc: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    above = tmp_path_factory.mktemp("above")
    (above / "VOCdevkit").mkdir()
    (above / "VOCdevkit/VOC2012").symlink_to(voc)
    assert len(read_dogs(above)) == 16


def test_a_union_cut_at_the_border() -> None:
    mask = boxes_mask([(-3, -3, 2, 2), (1, 1, 9, 3)], (4, 4))
    expected = torch.zeros(1, 4, 4, dtype=torch.bool)
    expected[:, :2, :2] = True
    expected[:, 1:, 1:3] = True
    assert torch.equal(mask, expected)


def test_what_is_wrong_is_named(voc: Path) -> None:
    with pytest.raises(ValueError, match="one of cat, dog; found 'horse'"):
        load("voc2012", voc, category="horse")
    with pytest.raises(ValueError, match="one of cat, dog; found None"):
        load("voc2012", voc)
    (voc / "Annotations/train_000.xml").write_text("<annotation><object>")
    with pytest.raises(ValueError, match=r"train_000\.xml can't be read"):
        read_dogs(voc)
    (voc / "Annotations/train_000.xml").write_text(annotation(("dog", (1, 1, 2, float("nan")), 0)))
    with pytest.raises(ValueError, match=r"train_000\.xml can't be read"):
        read_dogs(voc)
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_boxes(voc / "Annotations/none.xml", "dog")
    (voc / "ImageSets/Main/dog_train.txt").write_text("train_000 maybe")
    with pytest.raises(ValueError, match=r"-1, 0 or 1 per line of .*found 'train_000 maybe'"):
        read_dogs(voc)
    (voc / "ImageSets/Main/dog_train.txt").write_text("train_999 1")
    with pytest.raises(FileNotFoundError, match="Expected the image .*train_999"):
        read_dogs(voc)
