"""The layout for your own data: `images/` by split and label, and `masks/`."""

from __future__ import annotations

from pathlib import Path

from gainmtl.datasets.records import (
    Record,
    apply_groups_file,
    no_category,
    unique_stems,
    walk_images,
)
from gainmtl.types import NORMAL

FOLDER_TREE = """
  images/{train,test}/{normal,defective}/*.png   (val/ beside train/ and test/ is optional; or
  images/{normal,defective}/*.png                 without a split: then folds are made)
  masks/...                                       the image's path or file name, any suffix
  Sub-folders of defective/ are the defect types."""


def read_folder(root: Path, category: str | None = None) -> list[Record]:
    """`images/[split/]{normal,defective}/[type/]file` and masks of the same path or name.

    A mask belongs to a defective image if its path below `masks/`, without the suffix and without
    a final `_mask`, is the image's path below `images/`, where folders may be left out:
    `masks/7.png` and `masks/test/7.png` both match `images/test/defective/7.jpg`.

    Raises:
        FileNotFoundError: no folder `images/`.
        ValueError: a file outside the layout, an ambiguous mask, masks of which none matches, or
            a split for some images only.
    """
    no_category(category, "folder")
    images = root / "images"
    if not images.is_dir():
        raise FileNotFoundError(f"{root} has no folder images/. Expected:{FOLDER_TREE}")
    masks: dict[tuple[str, ...], Path] = {}
    for path in walk_images(root / "masks") if (root / "masks").is_dir() else []:
        relative = path.relative_to(root / "masks")
        key = (*relative.parts[:-1], relative.stem.removesuffix("_mask"))
        if key in masks:
            unique_stems([masks[key], path], strip="_mask")
        masks[key] = path
    records: list[Record] = []
    owner: dict[Path, Path] = {}
    for path in walk_images(images):
        parts = path.relative_to(images).parts
        split = parts[0] if parts[0] in ("train", "val", "test") else None
        label, *kinds = parts[1:-1] if split else parts[:-1] or ("",)
        if label not in (NORMAL, "defective") or (label == NORMAL and kinds):
            raise ValueError(f"{path} is outside the layout. Expected:{FOLDER_TREE}")
        is_defective = label == "defective"
        defect_type = ("/".join(kinds) or "defective") if is_defective else NORMAL
        mask = matching_mask((*parts[:-1], path.stem), masks) if is_defective else None
        if mask is not None and owner.setdefault(mask, path) != path:
            raise ValueError(
                f"{mask} matches both {owner[mask]} and {path}. "
                "Put the masks into the same sub-folders as the images."
            )
        name = path.relative_to(root).as_posix()
        records.append(Record(path, mask, is_defective, defect_type, split, name, name))
    if masks and not owner and any(record.is_defective for record in records):
        example = next(record.name for record in records if record.is_defective)
        raise ValueError(
            f"None of the {len(masks)} files in {root / 'masks'} matches a defective image: "
            f"found {next(iter(masks.values())).name}, expected for example a mask for {example}. "
            "Give each mask the file name of its image."
        )
    if len({record.split is None for record in records}) == 2:
        raise ValueError(
            f"Expected a split for all images in {images} or for none; some have one, some do not. "
            f"Expected:{FOLDER_TREE}"
        )
    grouped = apply_groups_file(records, root, images)
    return grouped or apply_groups_file(records, root, root) or records


def matching_mask(image: tuple[str, ...], masks: dict[tuple[str, ...], Path]) -> Path | None:
    """The mask whose key is the longest subsequence of `image` that ends with its file name.

    Raises:
        ValueError: two masks with keys of that length.
    """
    candidates = []
    for dropped in range(1 << (len(image) - 1)):
        kept = [part for i, part in enumerate(image[:-1]) if not dropped >> i & 1]
        key = (*kept, image[-1])
        if key in masks:
            candidates.append((len(key), masks[key]))
    if not candidates:
        return None
    longest = max(length for length, _ in candidates)
    best = sorted({path for length, path in candidates if length == longest})
    if len(best) > 1:
        raise ValueError(
            f"Expected one mask for {'/'.join(image)}; found {best[0]} and {best[1]}. "
            "Put the masks into the same sub-folders as the images."
        )
    return best[0]
