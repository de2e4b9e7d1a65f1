"""Which pixels of mask files are defect: one rule, decided from the values of all masks of a set.

Tools store masks as 0/255, 0/1, class ids, palette images, drawings on a transparent layer, or
resampled with faint borders. `mask_rule` tells these apart by the values of the whole set; a single
file is not enough, since for example 255 may be the defect or the unclear rim around defects.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from gainmtl.datasets.images import Stamp, check_readable, check_sizes, file_stamp
from gainmtl.datasets.records import Record
from gainmtl.runner import frame_count, open_image, upright

VOID = 255
"""By convention the value of pixels without a class, in masks of class ids."""
LARGEST_ID = 63
"""If no level is larger, a few levels are ids, though they fill no area."""
SURE_ID = 15
"""Beside 255, levels up to this one are ids, though they fill no area."""
MOST_IDS = 32
"""More different values than this are grey levels, not class ids."""
FLAT_SHARE = 0.1
"""Levels fill areas if more of their pixels than this have eight neighbours of the same level."""

Levels = NDArray[Any]


class MaskReading(NamedTuple):
    """The levels of one mask file."""

    background: int
    """Number of background pixels."""
    counts: Mapping[int, int]
    """Number of pixels for each level."""
    flat: Mapping[int, int]
    """Of these, the pixels whose eight neighbours have the same level; none in lossy files."""


class MaskFacts(NamedTuple):
    """Size and levels of one mask file."""

    size: tuple[int, int]
    """(H, W)"""
    readings: Mapping[str, MaskReading]
    """By name. Except for grey files there are two, of which the set decides one."""
    frames: int
    """Frames or pages of the file, of which the first is read."""


class Cut(NamedTuple):
    """Levels that are defect: > `above`, and not `void`."""

    above: int
    void: int | None = None


MaskRule = Mapping[str, Cut]
"""The cut for each reading that is used."""
_READINGS = {
    "grey": "grey values",
    "colour": "largest colour channels",
    "paper": "differences from white",
    "entry": "palette entries",
    "ink": "palette entries, with black as background,",
    "layer": "opacities",
    "paint": "largest colour channels of opaque pixels",
}


def read_mask(path: str | Path, rule: MaskRule | None = None) -> Tensor:
    """(1, H, W) bool: where the file is defect, by the rule of its set or, without one, its own.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a damaged file or floating-point pixels; names the file.
    """
    with open_image(path) as image:
        readings = _readings(upright(image))
    name = next((name for name in readings if rule and name in rule), None)
    if rule is None or name is None:
        rule = mask_rule([mask_facts(Path(path))])
        name = next(name for name in readings if name in rule)
    levels, cut = readings[name][0], rule[name]
    marked = levels > cut.above
    if cut.void is not None:
        marked &= levels != cut.void
    return torch.from_numpy(marked)[None]


def mask_facts(path: Path) -> MaskFacts:
    """The facts of a mask file; decodes it once per version of the file.

    Raises:
        FileNotFoundError, ValueError: as `read_mask`.
    """
    return _facts_of(file_stamp(path))


def checked_facts(image: Path, mask: Path) -> MaskFacts:
    """`mask_facts`, after a comparison of the sizes of image and mask.

    Raises:
        ValueError: image and mask differ in size, or a file can't be read; names the files.
    """
    facts = mask_facts(mask)
    check_sizes(image, check_readable(image), mask, facts.size)
    return facts


def mask_rule(masks: Iterable[MaskFacts]) -> MaskRule:
    """The rule for a set of masks; see `_cut` for the levels.

    In palette images the background is black or entry 0, and in images with transparency it is
    transparent or black, whichever covers more pixels of the set. In opaque colour images it is
    black, or white in sets that are nowhere black.
    """
    families: dict[tuple[str, ...], list[Mapping[str, MaskReading]]] = {}
    for facts in masks:
        families.setdefault(tuple(facts.readings), []).append(facts.readings)
    rule = {}
    for names, files in families.items():
        name = max(names, key=lambda n: sum(readings[n].background for readings in files))
        rule[name] = _cut([readings[name] for readings in files])
    return rule


def _cut(masks: Sequence[MaskReading]) -> Cut:
    """Two levels: the higher is defect. Class ids: all except the lowest level, and except 255 if
    it occurs only beside ids. Grey levels: what exceeds half of the highest, because resampled
    masks have faint borders.

    Levels are ids if there are few, and all are small or the fainter half of them fills areas.
    """
    total: Counter[int] = Counter()
    flat: Counter[int] = Counter()
    for mask in masks:
        total.update(mask.counts)
        flat.update(mask.flat)
    levels = sorted(total)
    if len(levels) <= 2:
        return Cut(levels[0] if len(levels) == 2 else 0)
    ids = [level for level in levels[1:] if level != VOID]
    few = len(ids) <= MOST_IDS
    largest = LARGEST_ID if _fill(ids, total, flat) else SURE_ID
    if few and VOID in total and ids[-1] <= largest:
        alone = any(VOID in mask.counts and mask.counts.keys().isdisjoint(ids) for mask in masks)
        return Cut(levels[0], None if alone else VOID)
    half = levels[-1] // 2
    faint = [level for level in levels[1:] if level <= half]
    areas = levels[-1] <= LARGEST_ID or _fill(faint, total, flat)
    return Cut(levels[0] if few and areas else half)


def _fill(levels: Sequence[int], total: Counter[int], flat: Counter[int]) -> bool:
    """Whether these levels fill areas; those of a faint border don't."""
    return sum(flat[v] for v in levels) > FLAT_SHARE * sum(total[v] for v in levels)


def rule_for(records: Iterable[Record]) -> MaskRule:
    """`mask_rule` of the masks of these records; decodes each mask once.

    Raises:
        ValueError: a mask differs in size from its image, or a file can't be read; names the files.
    """
    return mask_rule(
        checked_facts(record.image, record.mask)
        for record in records
        if record.image is not None and record.mask is not None
    )


def marked_share(facts: MaskFacts, rule: MaskRule) -> float:
    """Share of the pixels that are defect."""
    name = next(name for name in facts.readings if name in rule)
    counts, cut = facts.readings[name].counts, rule[name]
    marked = sum(n for level, n in counts.items() if level > cut.above and level != cut.void)
    return marked / max(1, facts.size[0] * facts.size[1])


def has_content(facts: MaskFacts, rule: MaskRule | None = None) -> bool:
    """Whether a pixel differs from the background, in the reading of `rule` or in every one."""
    names = [name for name in facts.readings if rule is None or name in rule]
    return all(any(facts.readings[name].counts.keys() - {0}) for name in names)


def describe_rule(rule: MaskRule) -> str:
    """The rule as a sentence; empty without masks."""
    parts = [
        f"{_READINGS[name]} above {cut.above}"
        + ("" if cut.void is None else f" except {cut.void}, which is taken as unclear rim,")
        for name, cut in sorted(rule.items())
    ]
    return f"Defect in the masks: {'; '.join(parts).rstrip(',')}." if parts else ""


def _readings(image: Image.Image) -> dict[str, tuple[Levels, int]]:
    """The levels (H, W) of an upright mask, 0 for background, and the number of background pixels,
    for each possible reading."""
    if image.mode == "F":
        raise ValueError("floating-point pixels; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        return _reading("grey", np.asarray(image))
    layered = "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa", "La")
    if image.mode in ("L", "1") and not layered:
        return _reading("grey", np.asarray(image.convert("L")))
    if image.mode == "P" and not layered:
        index = np.asarray(image)
        palette = np.zeros((256, 3), np.uint8)
        entries = np.reshape(image.getpalette("RGB") or [], (-1, 3))
        palette[: len(entries)] = entries
        used = np.flatnonzero(np.bincount(index.ravel(), minlength=256))
        if (palette[used] == used[:, None]).all():
            return _reading("grey", index)
        numbers = np.where(palette.any(1), np.where(np.arange(256), np.arange(256), 256), 0)
        return _reading("entry", index) | _reading("ink", numbers[index])
    rgba = np.asarray(image.convert("RGBA"))
    alpha, colour = rgba[..., 3], rgba[..., :3].max(-1)
    if alpha.min(initial=255) == 255:
        paper = 255 - rgba[..., :3].min(-1)
        found = _reading("colour", colour) | _reading("paper", paper)
        # White is a background only where nothing is black.
        return {**found, "paper": (paper, 0)} if found["colour"][1] else found
    opaque = alpha > 127
    paint = np.where(opaque, colour, 0)
    black = int((opaque & (colour == 0)).sum())
    return {"layer": (alpha, int((alpha == 0).sum())), "paint": (paint, black)}


def _reading(name: str, levels: Levels) -> dict[str, tuple[Levels, int]]:
    return {name: (levels, int((levels == 0).sum()))}


# Cached by file stamp: five folds of a set read each mask once, and a replaced file is read again.
@lru_cache(maxsize=1 << 18)
def _facts_of(mask: Stamp) -> MaskFacts:
    with open_image(mask[0]) as image:
        frames, lossy = frame_count(image), image.format in ("JPEG", "MPO")
        readings = _readings(upright(image))
    facts = {
        name: MaskReading(
            background, _counts(levels), {} if lossy else _counts(levels[_flat(levels)])
        )
        for name, (levels, background) in readings.items()
    }
    shape = next(iter(readings.values()))[0].shape
    return MaskFacts((shape[0], shape[1]), facts, frames)


def _counts(levels: Levels) -> dict[int, int]:
    if levels.dtype != np.uint8:
        values, counts = np.unique(levels, return_counts=True)
        return dict(zip(values.tolist(), counts.tolist(), strict=True))
    # In parts, since bincount converts to 64 bits. It is 4 to 6 times as fast as np.unique.
    parts = np.array_split(levels.ravel(), 1 + levels.size // (1 << 20))
    total = np.sum([np.bincount(part, minlength=256) for part in parts], 0)
    return {level: int(count) for level, count in enumerate(total) if count}


def _flat(levels: Levels) -> NDArray[np.bool_]:
    """(H, W): whether all pixels of the 3 x 3 neighbourhood have the same level."""
    same = np.zeros(levels.shape, np.bool_)
    if min(levels.shape) >= 3:
        rows = (levels[1:-1] == levels[:-2]) & (levels[1:-1] == levels[2:])
        same[1:-1, 1:-1] = (
            rows[:, 1:-1] & rows[:, :-2] & rows[:, 2:]
            & (levels[1:-1, 1:-1] == levels[1:-1, :-2])
            & (levels[1:-1, 1:-1] == levels[1:-1, 2:])
        )  # fmt: skip
    return same
