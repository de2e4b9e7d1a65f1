"""The layout for your own data: `images/` by split and label, and `masks/`."""

from __future__ import annotations

from pathlib import Path

from gainmtl.datasets.mask_names import match_masks
from gainmtl.datasets.records import Reading, Record, check_types, no_category, walk, walk_if_there
from gainmtl.types import NORMAL

FOLDER_TREE = """
  images/{train,test}/{normal,defective}/*.png   (val/ beside train/ and test/ is optional; or
  images/{normal,defective}/*.png                 without a split: then folds are made)
  masks/...                                       the image's path or file name, any suffix
  Sub-folders of defective/ are the defect types."""


def read_folder(root: Path, category: str | None = None) -> Reading:
    """`images/[split/]{normal,defective}/[type/]file` and masks of the same path or name.

    Masks below `masks/` belong to the defective images by `match_masks`: `masks/7.png` and
    `masks/test/7_mask.png` both match `images/test/defective/7.jpg`.

    Raises:
        FileNotFoundError: no folder `images/`.
        OSError: a folder that can't be read.
        ValueError: a file outside the layout, a split or masks below a label, an ambiguous mask,
            masks of which none matches, or a split for some images only.
    """
    no_category(category, "folder")
    images, masks = root / "images", root / "masks"
    if not images.is_dir():
        raise FileNotFoundError(f"{root} has no folder images/. Expected:{FOLDER_TREE}")
    files, left_out = walk(images)
    mask_files, other = walk_if_there(masks)
    records: list[Record] = []
    for path in files:
        parts = path.relative_to(images).parts
        split = parts[0] if parts[0] in ("train", "val", "test") else None
        label, *kinds = parts[1:-1] if split else parts[:-1] or ("",)
        if label not in (NORMAL, "defective") or (label == NORMAL and kinds):
            raise ValueError(f"{path} is outside the layout. Expected:{FOLDER_TREE}")
        check_types(path, kinds, FOLDER_TREE)
        is_defective = label == "defective"
        defect_type = ("/".join(kinds) or "defective") if is_defective else NORMAL
        name = path.relative_to(root).as_posix()
        records.append(Record(path, None, is_defective, defect_type, split, name, name))
    if len({record.split is None for record in records}) == 2:
        raise ValueError(
            f"Expected a split for all images in {images} or for none; some have one, some do not. "
            f"Expected:{FOLDER_TREE}"
        )
    return match_masks(records, images, mask_files, masks, [*left_out, *other])
