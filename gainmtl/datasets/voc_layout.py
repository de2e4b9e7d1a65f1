"""PASCAL VOC (Everingham et al., IJCV 2010): photographs of objects, as torchvision unpacks them.

An image may show several classes, so the set's task is binary per class: does the image show it?
`category` is that class. Images with the class are labelled defective, all others normal.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from gainmtl.datasets.records import Box, Reading, Record
from gainmtl.types import NORMAL

VOC_TREE = """
  JPEGImages/*.jpg
  Annotations/*.xml
  ImageSets/Main/<class>_{train,val}.txt          (category is the class; the root may also be
                                                   the folder that contains VOCdevkit/VOC2012)"""


def read_voc(root: Path, category: str | None = None) -> Reading:
    """One class of VOC against the rest; the official list "val" is the test part.

    The labels of the official test part are not public. An image whose only objects of the class
    are marked as difficult (0 in the list) is left out, as in the official evaluation. The mask of
    an image with the class is the union of the class's boxes, `Record.boxes`.

    Raises:
        FileNotFoundError: a missing folder, image or annotation.
        ValueError: no class or an unknown one, or a list or annotation that can't be read.
    """
    places = (root, root / "VOC2012", root / "VOCdevkit/VOC2012")
    needed = ("JPEGImages", "ImageSets/Main")
    base = next((b for b in places if all((b / name).is_dir() for name in needed)), None)
    if base is None:
        raise FileNotFoundError(f"No PASCAL VOC in {root}. Expected:{VOC_TREE}")
    lists = base / "ImageSets/Main"
    known = sorted(p.name.removesuffix("_train.txt") for p in lists.glob("[!.]*_train.txt"))
    if category not in known:
        raise ValueError(f"Expected category to be one of {', '.join(known)}; found {category!r}.")
    records = []
    for listed, split in (("train", "train"), ("val", "test")):
        path = lists / f"{category}_{listed}.txt"
        if not path.is_file():
            raise FileNotFoundError(f"Expected the list {path}; no such file. Expected:{VOC_TREE}")
        for line in path.read_text("utf-8").splitlines():
            if not line.strip():
                continue
            stem, label = _entry(line, path)
            if label == 0:
                continue
            image = base / "JPEGImages" / f"{stem}.jpg"
            if not image.is_file():
                raise FileNotFoundError(
                    f"Expected the image {image}, which {path} lists; there is no such file."
                )
            shows = label > 0
            boxes = read_boxes(base / "Annotations" / f"{stem}.xml", category) if shows else ()
            kind, name = category if shows else NORMAL, image.relative_to(base).as_posix()
            records.append(Record(image, None, shows, kind, split, name, name, boxes or None))
    return Reading(records)


def read_boxes(path: Path, category: str) -> tuple[Box, ...]:
    """The boxes (top, left, bottom, right) of a class in an annotation file, difficult ones too.

    Returned boxes count pixels from 0, with bottom and right exclusive; the file counts from 1,
    with both ends inclusive.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is not a VOC annotation.
    """
    if not path.is_file():
        raise FileNotFoundError(f"Expected an annotation at {path}; there is no such file.")
    boxes = []
    try:
        for thing in ElementTree.parse(path).getroot().iter("object"):
            if thing.findtext("name", "").strip() != category:
                continue
            left, top, right, bottom = (
                round(float(thing.findtext(f"bndbox/{side}", "")))
                for side in ("xmin", "ymin", "xmax", "ymax")
            )
            boxes.append((top - 1, left - 1, bottom, right))
    except (ElementTree.ParseError, ValueError) as error:
        raise ValueError(f"Expected a VOC annotation; {path} can't be read ({error}).") from error
    return tuple(boxes)


def _entry(line: str, path: Path) -> tuple[str, int]:
    parts = line.split()
    if len(parts) != 2 or parts[1] not in ("-1", "0", "1"):
        raise ValueError(f"Expected a name and -1, 0 or 1 per line of {path}; found {line!r}.")
    return parts[0], int(parts[1])
