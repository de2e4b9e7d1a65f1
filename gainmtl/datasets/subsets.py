"""Parts of a data set: normal images only, some exposures, a budget of labels, inner folds."""

from __future__ import annotations

import dataclasses
import re
from collections import defaultdict
from collections.abc import Collection
from itertools import chain
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import ConcatDataset, Dataset

from gainmtl.datasets.checks import whole
from gainmtl.datasets.data import Data, Described, counts_of
from gainmtl.datasets.records import Record
from gainmtl.datasets.splits import assign_folds
from gainmtl.types import Sample

EXPOSURE = re.compile(r"(?:^|/)exp(\d+)_num_\d+(?:\.\w+)?(?:, seed \d+)?$")
"""The exposure in a magnetic tile's file name, `exp1_num_2345.jpg`; a higher number is a brighter
photograph of the tile. Result rows pooled over seeds append the seed to the name."""


class SelectedDataset(Dataset[Sample]):
    """The samples of `dataset` at `indices` (N,), in their order; see `Described`.

    It has the `designs` and `boxes` of a `TileDataset`.
    """

    def __init__(self, dataset: Dataset[Sample], indices: NDArray[np.int64]) -> None:
        described = cast(Described, dataset)
        self.dataset, self.indices = dataset, indices
        self.labels, self.has_mask = described.labels[indices], described.has_mask[indices]
        self.names = tuple(described.names[i] for i in indices)
        self.groups = tuple(described.groups[i] for i in indices)
        self.defect_types = tuple(described.defect_types[i] for i in indices)
        empty = getattr(dataset, "empty_masks", np.zeros_like(described.labels))
        self.empty_masks = empty[indices]
        self.resize = getattr(dataset, "resize", "squash")
        for name in ("designs", "boxes"):
            if hasattr(dataset, name):
                setattr(self, name, tuple(getattr(dataset, name)[i] for i in indices))

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        return self.dataset[int(self.indices[range(len(self))[index]])]


class JoinedDataset(Dataset[Sample]):
    """The samples of several datasets one after the other; see `Described`."""

    def __init__(self, *parts: Dataset[Sample]) -> None:
        described: Any = parts
        self.dataset: ConcatDataset[Sample] = ConcatDataset(parts)
        self.labels = np.concatenate([part.labels for part in described])
        self.has_mask = np.concatenate([part.has_mask for part in described])
        self.empty_masks = np.concatenate(
            [getattr(part, "empty_masks", np.zeros_like(part.labels)) for part in described]
        )
        self.resize = getattr(parts[0], "resize", "squash")
        for name in ("names", "groups", "defect_types", "designs", "boxes"):
            if all(hasattr(part, name) for part in parts):
                setattr(self, name, tuple(chain.from_iterable(getattr(p, name) for p in parts)))

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        return self.dataset[index]


def inner_fold(data: Data, fold: int, folds: int, seed: int = 0) -> Data:
    """Fold `fold` of the training and validation parts of `data`; its test part is not used.

    The split is by group and stratified as `assign_folds`. The held-out images are the validation
    and the test part of the result.

    Raises:
        ValueError: a fold that does not exist, fewer than two folds, or fewer defective groups
            than folds.
    """
    whole("fold", fold, 0, folds - 1)
    joined = JoinedDataset(data.train, data.val)
    described = cast(Described, joined)
    columns = described.labels.tolist(), described.defect_types, described.groups, described.names
    records = [
        Record(None, None, is_defective, kind, None, group, name)
        for is_defective, kind, group, name in zip(*columns, strict=True)
    ]
    is_held = assign_folds(records, folds, seed) == fold
    held = SelectedDataset(joined, np.flatnonzero(is_held))
    kept = SelectedDataset(joined, np.flatnonzero(~is_held))
    inner = _replace_parts(
        data, {"train": kept, "val": held, "test": held}, f"inner folds {folds} {seed}"
    )
    return dataclasses.replace(inner, fold=fold, folds=folds)


def normal_only(data: Data) -> Data:
    """`data` without the defective images of its training and validation parts.

    An anomaly detector is trained and its threshold is set on normal images. The test part is
    unchanged, so a detector and a classifier of the same fold are tested on the same images.

    Raises:
        ValueError: no normal image in the training or the validation part.
    """
    parts = {}
    for name in ("train", "val"):
        dataset = getattr(data, name)
        parts[name] = SelectedDataset(dataset, np.flatnonzero(~cast(Described, dataset).labels))
        if not len(parts[name]):
            raise ValueError(
                f"{data.name}: expected normal images in the {name} part, found none; an anomaly "
                "detector learns only from normal images. Use another split, seed or validation "
                "share"
            )
    return _replace_parts(data, parts, "normal images only")


def exposure_of(name: str) -> int:
    """The number of the exposure in a magnetic tile's name.

    Raises:
        ValueError: a name without an exposure.
    """
    match = EXPOSURE.search(name)
    if match is None:
        raise ValueError(f"Expected a name with its exposure, like exp1_num_2345.jpg; found {name}")
    return int(match[1])


def limit_exposures(data: Data, exposures: Collection[int]) -> Data:
    """`data` with only these exposures in its training and validation parts.

    The test part is unchanged, so the same parts are tested in every exposure, while the model and
    its threshold come from the given ones. Without exposures: `data` itself.

    Raises:
        ValueError: a name without an exposure, or a part of `data` without any of `exposures`.
    """
    if not exposures:
        return data
    parts = {}
    for name in ("train", "val"):
        dataset = getattr(data, name)
        numbers = [exposure_of(image) for image in cast(Described, dataset).names]
        kept = [number in exposures for number in numbers]
        if not any(kept):
            raise ValueError(
                f"exposures: expected some among {name}'s {sorted(set(numbers))}, "
                f"got {sorted(exposures)}"
            )
        parts[name] = SelectedDataset(dataset, np.flatnonzero(kept))
    return _replace_parts(data, parts, f"exposures {' '.join(map(str, sorted(exposures)))}")


def limit_labels(
    data: Data, defective: int | None = None, normal: int | None = None, draw: int = 0
) -> Data:
    """`data` with a budget of labelled images for training and validation together.

    The n images of a kind are divided like those of `data`, with at least one for a validation part
    that has any, because the threshold and the choice of the epoch need labels too. Each part keeps
    the first images of an order that `draw` seeds, so with equal `draw` the images of a smaller
    budget are a subset of those of a larger one. Types of defects, and designs, keep about their
    shares (`_spread`). The test part is unchanged.

    Args:
        defective: number of defective images, at least 2; None: all.
        normal: number of normal images, at least 2; None: all.

    Raises:
        ValueError: a budget below 2 or above the number of images; a negative draw.
    """
    whole("draw", draw, 0, 2**31)
    if defective is None and normal is None:
        return data
    kept: dict[str, list[int]] = {"train": [], "val": []}
    for name, is_defective, count in (("defective", True, defective), ("normal", False, normal)):
        orders = {part: _spread(getattr(data, part), is_defective, draw) for part in kept}
        total = sum(map(len, orders.values()))
        if count is not None:
            count = whole(name, count, 2, total)
            validation = _share(count, len(orders["val"]), total)
            orders["val"] = orders["val"][:validation]
            orders["train"] = orders["train"][: count - validation]
        for part, order in orders.items():
            kept[part] += order
    parts = {
        part: SelectedDataset(getattr(data, part), np.array(sorted(rows), dtype=np.int64))
        for part, rows in kept.items()
    }
    return _replace_parts(data, parts, f"labels {defective} {normal} {draw}")


def limit_test(data: Data, images: int | None, draw: int = 0) -> Data:
    """`data` with `images` test images, defective and normal ones by their shares; None: all.

    They are the first ones of orders that `draw` seeds, so a smaller test part is a subset of a
    larger one. Types of defects, and designs, keep about their shares (`_spread`).

    Raises:
        ValueError: less than 2 images, or more than the test part has; a negative draw.
    """
    whole("draw", draw, 0, 2**31)
    if images is None:
        return data
    normal, defective = (_spread(data.test, label, draw) for label in (False, True))
    total = len(normal) + len(defective)
    count = whole("number of test images", images, 2, total)
    bad = _share(count, len(defective), total)
    rows = np.array(sorted(defective[:bad] + normal[: count - bad]), dtype=np.int64)
    return _replace_parts(data, {"test": SelectedDataset(data.test, rows)}, f"test {count} {draw}")


def _share(count: int, part: int, total: int) -> int:
    """The share part / total of `count`, rounded; it and the rest are 0 only where they must be."""
    share = max(min(part, 1), int(count * part / total + 0.5))
    return min(share, count - min(total - part, 1))


def _spread(dataset: Dataset[Sample], is_defective: bool, draw: int) -> list[int]:
    """Indices of the images of one label, in a random order without clusters.

    Image r (from 0, in random order) of the n of one type and design is at (r + u) / n, with one
    random u per type and design: every first part of the order has all of them by their shares.
    """
    part: Any = dataset
    designs = getattr(part, "designs", part.defect_types)
    strata: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, (label, *stratum) in enumerate(
        zip(part.labels, part.defect_types, designs, strict=True)
    ):
        if label == is_defective:
            strata[tuple(stratum)].append(index)
    rng = np.random.default_rng(draw)
    places = {
        rows[i]: (rank + u) / len(rows)
        for _, rows in sorted(strata.items())
        for u in [rng.random()]
        for rank, i in enumerate(rng.permutation(len(rows)))
    }
    return sorted(places, key=lambda index: places[index])


def _replace_parts(data: Data, parts: dict[str, SelectedDataset], rule: str) -> Data:
    """`data` with other parts; `rule` enters the fingerprint."""
    return dataclasses.replace(
        data,
        **parts,  # type: ignore[arg-type]
        fingerprint=f"{data.fingerprint}, {rule}",
        counts={**data.counts, **{name: counts_of(part) for name, part in parts.items()}},
    )
