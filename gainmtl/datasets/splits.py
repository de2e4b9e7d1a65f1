"""Folds and validation parts that keep groups together and are stratified by defect type.

A part that was photographed several times must not be on both sides of a split: a network
recognises the part, and the test measures memory. Groups are therefore assigned as a whole,
stratum by stratum. The stratum of a group is its rarest defect type (rarest by number of groups),
or "normal" if it has none.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gainmtl.datasets.records import Record
from gainmtl.types import NORMAL


def assign_folds(
    records: Sequence[Record], folds: int, seed: int, random_split: bool = False
) -> NDArray[np.int64]:
    """(N,) the fold, 0 … folds-1, in which each record is tested.

    Strata are assigned in order, rarest first. Within a stratum, groups are shuffled and sorted by
    their number of images of that type. Each goes to the fold with the fewest groups of the
    stratum, then the fewest images of the type. So folds differ by at most one group in every
    defect type. Normal groups come last and even out the numbers of images.

    Args:
        random_split: the *leaking* split, which assigns every image on its own and ignores groups.
            It demonstrates the effect of leakage; its test results are too good.

    Raises:
        ValueError: fewer than two folds, or fewer groups, or fewer defective groups, than folds.
    """
    units = [record.name if random_split else record.group for record in records]
    members, strata = _strata(records, units)
    unit_word = "images" if random_split else "groups"
    if folds < 2:
        raise ValueError(f"Expected at least 2 folds; found {folds}.")
    for kind, count in (
        ("", len(members)),
        ("defective ", sum(len(g) for s, g in strata.items() if s != NORMAL)),
    ):
        if count < folds:
            raise ValueError(
                f"Expected at least as many {kind}{unit_word} as folds ({folds}); found {count}. "
                f"Use fewer folds or add {unit_word}."
            )
    rng = np.random.default_rng([seed, folds])
    images = np.zeros(folds, dtype=np.int64)
    defective_units = np.zeros(folds, dtype=np.int64)
    fold_of: dict[str, int] = {}
    for stratum, names in strata.items():
        units_here = np.zeros(folds, dtype=np.int64)
        images_here = np.zeros(folds, dtype=np.int64)
        size = {n: sum(records[i].defect_type == stratum for i in members[n]) for n in names}
        order = sorted((names[i] for i in rng.permutation(len(names))), key=lambda n: -size[n])
        ties = rng.permutation(folds)
        for position, name in enumerate(order):
            keys: tuple[NDArray[np.int64], ...]
            if stratum == NORMAL:
                keys = (ties, units_here, images)
            elif position >= len(order) - len(order) % folds:
                # The last groups, less than one per fold, even out the folds' defective groups.
                keys = (ties, images, images_here, defective_units, units_here)
            else:
                keys = (ties, images, images_here, units_here)
            fold = int(np.lexsort(keys)[0])
            fold_of[name] = fold
            images[fold] += len(members[name])
            images_here[fold] += size[name]
            units_here[fold] += 1
            defective_units[fold] += stratum != NORMAL
    return np.array([fold_of[unit] for unit in units], dtype=np.int64)


def split_validation(
    records: Sequence[Record], share: float, seed: int, random_split: bool = False
) -> NDArray[np.bool_]:
    """(N,) True for the validation records: `share` of the groups, stratified like the folds.

    Of the n defective groups, max(1, round(share * n)) are taken at equal steps from the list
    sorted by stratum, so that every type is taken about as often as its share; the same for
    normal groups. If there is only one defective or one normal group, it stays in training.

    Raises:
        ValueError: `share` is not in [0, 1).
    """
    if not 0 <= share < 1:
        raise ValueError(f"Expected a validation share in [0, 1); found {share}.")
    units = [record.name if random_split else record.group for record in records]
    _, strata = _strata(records, units)
    rng = np.random.default_rng([seed, len(records)])
    chosen: set[str] = set()
    kinds: dict[bool, list[str]] = {True: [], False: []}
    for stratum, names in strata.items():
        kinds[stratum != NORMAL] += [names[i] for i in rng.permutation(len(names))]
    for names in kinds.values():
        if share == 0 or len(names) < 2:
            continue
        count = min(max(1, round(share * len(names))), len(names) - 1)
        steps = (np.arange(count) + rng.random()) * len(names) / count
        chosen.update(names[int(step)] for step in steps)
    return np.array([unit in chosen for unit in units], dtype=np.bool_)


def add_validation(
    parts: NDArray[np.str_],
    records: Sequence[Record],
    share: float,
    seed: int,
    random_split: bool = False,
) -> None:
    """Mark validation records among the "train" ones of `parts` (N,), unless some are marked."""
    if not (parts == "val").any():
        rows = np.flatnonzero(parts == "train")
        chosen = split_validation(
            [records[row] for row in rows.tolist()], share, seed, random_split
        )
        parts[rows[chosen]] = "val"


def official_parts(records: Sequence[Record], root: str | Path, fold: int) -> NDArray[np.str_]:
    """(N,) "train", "val" or "test" of each record, by the set's own split, `Record.split`.

    Raises:
        ValueError: no such split or no test images, a fold other than 0, or a group in both.
    """
    if records[0].split is None:
        raise ValueError(f"{root} has no official split; use split='folds'.")
    if fold:
        raise ValueError(
            f"There is one test set, fold 0; found fold={fold}. Use fold=0, or split='folds' to "
            "pool all images and make folds by group."
        )
    parts = np.array([record.split for record in records])
    absent = {"train", "test"} - set(parts.tolist())
    if absent:
        raise ValueError(
            f"Expected images for train and test in {root}; found none for "
            f"{' and '.join(sorted(absent))}. Add them, or use split='folds'."
        )
    parts_of: dict[str, set[str | None]] = defaultdict(set)
    for record in records:
        parts_of[record.group].add(record.split)
    if both := sorted(group for group, found in parts_of.items() if len(found) > 1):
        raise ValueError(
            f"{len(both)} groups are in several parts of the official split, the first is "
            f"{both[0]!r}. Use split='folds', or correct groups.csv."
        )
    return parts


def _strata(
    records: Sequence[Record], units: Sequence[str]
) -> tuple[dict[str, list[int]], dict[str, list[str]]]:
    """The record indices of each unit, and the units of each stratum: rarest first, normal last."""
    members: dict[str, list[int]] = defaultdict(list)
    for index, unit in enumerate(units):
        members[unit].append(index)
    types = {u: {records[i].defect_type for i in rows} - {NORMAL} for u, rows in members.items()}
    frequency = Counter(kind for kinds in types.values() for kind in kinds)
    ranking = sorted(frequency, key=lambda kind: (frequency[kind], kind))
    strata: dict[str, list[str]] = {kind: [] for kind in [*ranking, NORMAL]}
    for unit in sorted(members):
        strata[next((kind for kind in ranking if kind in types[unit]), NORMAL)].append(unit)
    return members, {kind: names for kind, names in strata.items() if names}
