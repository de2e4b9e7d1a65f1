"""What a user should know of a set's files: sentences for `Data.report` and for a warning."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from gainmtl.datasets.images import file_stamp, header_of, largest_value
from gainmtl.datasets.mask_names import named_like_masks
from gainmtl.datasets.masks import MaskRule, has_content, marked_share, mask_facts
from gainmtl.datasets.records import Reading
from gainmtl.runner import FULL_DEPTH, named

DEEP_SAMPLE = 64
"""At most so many images with more than 8 bits are decoded to find their largest value."""


def findings(reading: Reading, rule: MaskRule, root: Path) -> tuple[str, ...]:
    """A sentence, with the first file names, for each kind of file that may be a mistake.

    Raises:
        ValueError: a file that can't be read; names it.
    """
    images = [record.image for record in reading.records if record.image is not None]
    masks = [record.mask for record in reading.records if record.mask is not None]
    shares = {path: marked_share(mask_facts(path), rule) for path in masks}
    kinds = (
        ("Files or folders that are not read", reading.left_out),
        ("Masks that match no image", reading.unmatched),
        (
            "Masks of normal images that have content; they are not used",
            [path for path in reading.normal_masks if has_content(mask_facts(path))],
        ),
        ("Masks that mark every pixel", [path for path in masks if shares[path] == 1]),
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
    return (*sentences, *_inverted(list(shares.values())), *_depth(images))


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
