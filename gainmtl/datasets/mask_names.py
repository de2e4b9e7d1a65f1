"""Matching of mask files to images by their names: one rule for all layouts."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from gainmtl.datasets.records import Reading, Record

_ENDING = re.compile(r"[_\-. ](mask|gt|ground_?truth|label)$", re.IGNORECASE)


class _Image(NamedTuple):
    record: Record
    folders: tuple[str, ...]
    """In plain form."""
    stem: str


def match_masks(
    records: Sequence[Record],
    images: Path,
    masks: Sequence[Path],
    folder: Path,
    left_out: Sequence[Path] = (),
) -> Reading:
    """The records of images below `images`, each defective one with its mask among `masks`.

    A mask matches an image of the same file name without the suffix, with or without a final
    `_mask`, `_gt`, `_label` or `_ground_truth`. Its folders below `folder` are folders of the
    image below `images` in the same order; some may be left out. A mask also matches if its folder
    has the image's name and contains no other file. Upper and lower case, and composed and
    decomposed letters, are equal. Among several matches the one with more folders counts.

    Raises:
        ValueError: two masks for one image, one mask for two images, or masks of which none
            matches although there are defective images.
    """
    defective = [record for record in records if record.is_defective]
    owner = _assign(defective, images, masks, folder)
    rest = [path for path in masks if path not in owner]
    normal = _assign([r for r in records if not r.is_defective], images, rest, folder, strict=False)
    unmatched = [path for path in rest if path not in normal]
    if defective and unmatched and not owner:
        raise ValueError(
            f"None of the {len(masks)} files in {folder} matches a defective image: found "
            f"{unmatched[0].name}, expected for example a mask for {defective[0].name}. "
            "Give each mask the file name of its image."
        )
    mask_of = {record.name: mask for mask, record in owner.items()}
    found = [record._replace(mask=mask_of.get(record.name)) for record in records]
    return Reading(found, left_out, unmatched, sorted(normal))


def named_like_masks(images: Sequence[Path]) -> list[Path]:
    """Images such as `7_mask.png` beside an image `7.jpg`, and those of a folder of which all have
    the name, with or without such an ending, of an image in the folder above."""
    stems = {path.with_suffix("") for path in images}
    plain = {path: _ENDING.sub("", path.stem) for path in images}
    others = {p.parent for p, name in plain.items() if p.parent.parent / name not in stems}
    return [
        path for path, name in plain.items()
        if path.parent not in others or (name != path.stem and path.parent / name in stems)
    ]  # fmt: skip


def _assign(
    records: Sequence[Record],
    images: Path,
    masks: Sequence[Path],
    folder: Path,
    strict: bool = True,
) -> dict[Path, Record]:
    """The image of each mask that matches one; without `strict`, ambiguity is no error."""
    images_by_name: dict[str, list[_Image]] = {}
    for record in records:
        assert record.image is not None
        path = record.image
        image = _Image(record, _plain_folders(path.relative_to(images).parts[:-1]), path.stem)
        for name in {_plain(path.stem), _plain(path.name)}:
            images_by_name.setdefault(name, []).append(image)
    claims: dict[str, list[tuple[int, Path]]] = {}
    for mask in masks:
        depth, matched = _matches(mask.relative_to(folder), images_by_name)
        for image in matched:
            claims.setdefault(image.record.name, []).append((depth, mask))
    owner: dict[Path, Record] = {}
    for record in records:
        claimed = claims.get(record.name, [])
        best = sorted(mask for depth, mask in claimed if depth == max(claimed)[0])
        if strict and len(best) > 1:
            raise ValueError(
                f"Expected one mask per image; found {best[0]} and {best[1]} for {record.image}. "
                "Remove one of them, merge them, or put masks into the same sub-folders as images."
            )
        for mask in best:
            if owner.setdefault(mask, record) is not record and strict:
                raise ValueError(
                    f"{mask} matches both {owner[mask].image} and {record.image}. "
                    "Put the masks into the same sub-folders as the images."
                )
    return owner


def _matches(mask: Path, images: Mapping[str, Sequence[_Image]]) -> tuple[int, list[_Image]]:
    """The images that a mask may belong to, and the number of the mask's folders."""
    *folders, stem = mask.with_suffix("").parts
    # An image may itself be called 7_mask: the whole name counts first.
    readings = [(folders, stem), (folders, _ENDING.sub("", stem))]
    if folders:
        *above, inner = folders
        readings += [(above, inner), (above, _ENDING.sub("", inner))]
    for above, name in readings:
        plain = _plain_folders(above)
        matched = [
            image for image in images.get(_plain(name), ()) if _is_subsequence(plain, image.folders)
        ]
        if matched:
            same = [image for image in matched if _composed(image.stem) == _composed(name)]
            return len(above), same or matched
    return 0, []


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _plain(name: str) -> str:
    """The name in one Unicode form and in lower case."""
    return _composed(_composed(name).casefold())


def _plain_folders(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(map(_plain, names))


def _is_subsequence(short: Sequence[str], long: Sequence[str]) -> bool:
    rest = iter(long)
    return all(part in rest for part in short)
