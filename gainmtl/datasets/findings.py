"""What a user should know of a set's files: sentences for `Data.report` and for a warning."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import median

from gainmtl.datasets.images import file_stamp, header_of, largest_value
from gainmtl.datasets.mask_names import named_like_masks
from gainmtl.datasets.masks import MaskRule, has_content, marked_share, mask_facts
from gainmtl.datasets.records import GROUPS_FILE, Reading, Record, content_hash
from gainmtl.runner import FULL_DEPTH, named

DEEP_SAMPLE = 64
"""At most so many images with more than 8 bits are decoded to find their largest value."""
SMALL_SHARE = 0.1
"""Where masks usually mark less of the image, one that marks more than half may be inverted."""


def findings(reading: Reading, rule: MaskRule, root: Path, parts: Iterable[str]) -> tuple[str, ...]:
    """A sentence, with the first file names, for each kind of file that may be a mistake.

    Args:
        parts: "train", "val" or "test" for each record.

    Raises:
        ValueError: a file that can't be read; names it.
    """
    images = [record.image for record in reading.records if record.image is not None]
    masks = [record.mask for record in reading.records if record.mask is not None]
    shares = {path: marked_share(mask_facts(path), rule) for path in masks}
    # Masks without a mark are no evidence of the usual size of a defect.
    usual = median([share for share in shares.values() if share] or [0])
    kinds = (
        ("Files or folders that are not read", reading.left_out),
        (
            "Groups files that are not used; expected groups.csv in the folder of the set",
            reading.groups_files,
        ),
        ("Masks that match no image", reading.unmatched),
        (
            "Masks of normal images that have content; they are not used",
            [path for path in reading.normal_masks if has_content(mask_facts(path))],
        ),
        ("Masks that mark every pixel", [path for path in masks if shares[path] == 1]),
        (
            f"Masks that mark more than half of the image, the usual one {usual:.1%}; they may be "
            "inverted",
            [path for path in masks if 0.5 < shares[path] < 1 and usual < SMALL_SHARE],
        ),
        (
            "Masks that have content and mark nothing",
            [p for p in masks if not shares[p] and has_content(mask_facts(p), rule)],
        ),
        (
            "Files with several frames or pages, of which only the first is read",
            [path for path in images if header_of(path).frames > 1]
            + [path for path in masks if mask_facts(path).frames > 1],
        ),
        ("Images that are named like masks of other images", named_like_masks(images)),
    )
    sentences = [f"{what}: {len(paths)} ({named(paths, root)})." for what, paths in kinds if paths]
    return (
        *sentences,
        *_copies(zip(reading.records, parts, strict=True), root),
        *_inverted(list(shares.values())),
        *_depth(images),
    )


def _copies(records: Iterable[tuple[Record, str]], root: Path) -> Iterator[str]:
    """On files of equal content that differ in label, part or group. Copies within one group are
    harmless, because no split divides it."""
    same: dict[str | None, list[tuple[Record, str]]] = defaultdict(list)
    for record, part in records:
        same[content_hash(record.image)].append((record, part))
    found: list[tuple[bool, bool, Path]] = []
    for copies in same.values():
        alike = len({record.defect_type for record, _ in copies}) == 1
        together = len({part for _, part in copies}) == 1
        if not alike or not together or len({record.group for record, _ in copies}) > 1:
            found += [(alike, together, r.image) for r, _ in copies if r.image is not None]
    if found:
        apart = sum(not together for _, together, _ in found)
        contrary = sum(not alike for alike, _, _ in found)
        yield (
            f"Images with the same content as another image: {len(found)}, of them {apart} across "
            f"training, validation and test, and {contrary} with different labels "
            f"({named([path for _, _, path in sorted(found)], root)}). Remove the copies, or give "
            f"them one label and, in {GROUPS_FILE}, one group."
        )


def _inverted(shares: Sequence[float]) -> Iterator[str]:
    share = sum(shares) / max(1, len(shares))
    if 0.5 < share < 1:
        yield (
            f"The masks mark {share:.0%} of the pixels on average. Check that the background is "
            "black."
        )


def _depth(images: Sequence[Path]) -> Iterator[str]:
    deep = [path for path in images if header_of(path).is_deep]
    sample = deep[:: -(-len(deep) // DEEP_SAMPLE) or 1]
    top = max((largest_value(file_stamp(path)) for path in sample), default=FULL_DEPTH)
    if top < FULL_DEPTH:
        used = (top + 128) // 257 + 1
        yield (
            f"{len(deep)} images have more than 8 bits per channel, but the largest value in "
            f"{len(sample)} of them is {top}: of the 256 grey levels {used} are used. "
            "Scale the values so that white is 65535."
        )
