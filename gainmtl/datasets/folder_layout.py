"""The layout for one's own data: `images/` by split and label, `masks/` beside it."""

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
  images/{train,test}/{normal,defective}/*.png   (val/ beside train/ and test/ is read too; or
  images/{normal,defective}/*.png                 without a split: folds are made then)
  masks/...                                       the image's path or file name, any ending
  Sub-folders of defective/ name the defect type."""


def read_folder(root: Path, category: str | None = None) -> list[Record]:
    """`images/[split/]{normal,defective}/[type/]file` and masks of the same path or name.

    A mask belongs to a defective image when its path below `masks/`, without the ending and
    without a final `_mask`, is the image's path below `images/` with any folders left out:
    `masks/7.png` and `masks/test/7.png` both serve `images/test/defective/7.jpg`.
    """
    no_category(category, "folder")
    images = root / "images"
    if not images.is_dir():
        raise FileNotFoundError(f"{root} holds no folder images/. Expected:{FOLDER_TREE}")
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
            raise ValueError(f"{path} stands outside the layout. Expected:{FOLDER_TREE}")
        is_defective = label == "defective"
        defect_type = ("/".join(kinds) or "defective") if is_defective else NORMAL
        mask = matching_mask((*parts[:-1], path.stem), masks) if is_defective else None
        if mask is not None and owner.setdefault(mask, path) != path:
            raise ValueError(
                f"{mask} could belong to {owner[mask]} and to {path}. "
                "Put the masks into the same sub-folders as the images."
            )
        name = path.relative_to(root).as_posix()
        records.append(Record(path, mask, is_defective, defect_type, split, name, name))
    if masks and not owner and any(record.is_defective for record in records):
        example = next(record.name for record in records if record.is_defective)
        raise ValueError(
            f"None of the {len(masks)} files in {root / 'masks'} matches a defective image: "
            f"found for example {next(iter(masks.values())).name}, expected one for {example}."
        )
    if len({record.split is None for record in records}) == 2:
        raise ValueError(f"Some images of {images} have a split, some none. Expected:{FOLDER_TREE}")
    grouped = apply_groups_file(records, root, images)
    return grouped or apply_groups_file(records, root, root) or records


def matching_mask(image: tuple[str, ...], masks: dict[tuple[str, ...], Path]) -> Path | None:
    """The mask whose key is the longest that keeps the order and the last part of `image`."""
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
