"""PASCAL VOC (Everingham et al., IJCV 2010): photographs of objects, as torchvision unpacks them.

Several classes may stand in one picture, so the set's own task is one question per class: does the
picture show it? That question is `category` here: pictures with the class take the place of the
defective ones, all others that of the normal ones.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from gainmtl.datasets.records import Box, Record, apply_groups_file
from gainmtl.types import NORMAL

VOC_TREE = """
  JPEGImages/*.jpg
  Annotations/*.xml
  ImageSets/Main/<class>_{train,val}.txt          (category names the class; the root may also be
                                                   the folder that holds VOCdevkit/VOC2012)"""


def read_voc(root: Path, category: str | None = None) -> list[Record]:
    """One class of VOC against the rest: the official lists, of which "val" is the test part.

    The labels of the official test part are not public. A picture whose only objects of the class
    are marked as difficult (0 in the list) is left out, as in the official measure. The mask of a
    picture with the class is the union of the class's boxes, `Record.boxes`.

    Raises:
        FileNotFoundError: a folder, picture or annotation is not there.
        ValueError: no class is chosen or an unknown one, or a list or annotation can't be read.
    """
    base = next(
        (b for b in (root, root / "VOC2012", root / "VOCdevkit/VOC2012") if _is_voc(b)), None
    )
    if base is None:
        raise FileNotFoundError(f"No PASCAL VOC in {root}. Expected:{VOC_TREE}")
    lists = base / "ImageSets/Main"
    known = sorted(p.name.removesuffix("_train.txt") for p in lists.glob("*_train.txt"))
    if category not in known:
        raise ValueError(f"Expected category to be one of {', '.join(known)}; found {category!r}.")
    records = []
    for listed, split in (("train", "train"), ("val", "test")):
        path = lists / f"{category}_{listed}.txt"
        if not path.is_file():
            raise FileNotFoundError(f"There is no list {path}. Expected:{VOC_TREE}")
        for line in path.read_text("utf-8").splitlines():
            if not line.strip():
                continue
            stem, label = _entry(line, path)
            if label == 0:
                continue
            image = base / "JPEGImages" / f"{stem}.jpg"
            if not image.is_file():
                raise FileNotFoundError(f"{path} names {stem}, but there is no {image}.")
            boxes = read_boxes(base / "Annotations" / f"{stem}.xml", category) if label > 0 else ()
            name = image.relative_to(base).as_posix()
            records.append(
                Record(
                    image, None, label > 0, category if label > 0 else NORMAL, split, name, name,
                    boxes or None,
                )
            )  # fmt: skip
    return apply_groups_file(records, base, base) or records


def read_boxes(path: Path, category: str) -> tuple[Box, ...]:
    """The boxes (top, left, bottom, right) of a class in an annotation file, difficult ones too.

    Pixels count from 0 and the last row and column are outside; the file counts from 1 and both
    ends are inside.

    Raises:
        FileNotFoundError, ValueError: there is no such file, or it is no VOC annotation.
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


def _is_voc(folder: Path) -> bool:
    return all((folder / name).is_dir() for name in ("JPEGImages", "ImageSets/Main"))


def _entry(line: str, path: Path) -> tuple[str, int]:
    parts = line.split()
    if len(parts) != 2 or parts[1] not in ("-1", "0", "1"):
        raise ValueError(f"Expected a name and -1, 0 or 1 per line of {path}; found {line!r}.")
    return parts[0], int(parts[1])
