"""Fewer and coarser masks: nested by draw, missing is not empty, nothing else changes."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from gainmtl import datasets
from gainmtl.datasets.annotation import MASK_QUALITIES, coarsen, limit_masks
from gainmtl.datasets.data import Data


@pytest.fixture(scope="module")
def data() -> Data:
    return datasets.load("synthetic", image_size=32, train=80, val=8, test=8, views=2)


def marked_groups(data: Data) -> set[str]:
    train = data.train
    return {
        group
        for group, label, mask in zip(train.groups, train.labels, train.has_mask, strict=True)  # type: ignore[attr-defined]
        if label and mask
    }


def test_everything_and_exact_is_the_same_data(data: Data) -> None:
    assert limit_masks(data) is data
    assert limit_masks(data, draw=3) is data


@pytest.mark.parametrize("draw", [0, 1])
def test_shares_are_nested_and_of_their_size(data: Data, draw: int) -> None:
    everything = marked_groups(data)
    small, large = (marked_groups(limit_masks(data, s, draw)) for s in (0.2, 0.5))
    assert small < large < everything
    assert len(large) == round(0.5 * len(everything))
    assert len(marked_groups(limit_masks(data, 1e-6, draw))) == 1
    assert not marked_groups(limit_masks(data, 0.0, draw))


def test_draws_differ(data: Data) -> None:
    chosen = {frozenset(marked_groups(limit_masks(data, 0.2, draw))) for draw in range(4)}
    assert len(chosen) > 1


def test_what_is_not_marked_is_missing_and_not_empty(data: Data) -> None:
    limited = limit_masks(data, 0.2)
    kept = marked_groups(limited)
    for index in range(len(data.train)):  # type: ignore[arg-type]
        before, after = data.train[index], limited.train[index]
        assert torch.equal(before.image, after.image)
        assert before.is_defective == after.is_defective
        if before.is_defective and before.group not in kept:
            assert not after.has_mask
            assert not after.mask.any()
        else:
            assert after.has_mask == before.has_mask
            assert torch.equal(before.mask, after.mask)
    counts = limited.counts["train"]
    assert counts["defective_without_mask"] == sum(
        not s.has_mask
        for s in (limited.train[i] for i in range(len(limited.train)))  # type: ignore[arg-type]
    )
    assert limited.counts["test"] == data.counts["test"]
    assert limited.test is data.test


def test_quality_changes_every_mask_and_no_count(data: Data) -> None:
    limited = limit_masks(data, quality="box")
    assert limited.counts == data.counts
    rows = np.flatnonzero(data.train.labels)  # type: ignore[attr-defined]
    for index in rows[:10]:
        exact, box = data.train[int(index)].mask, limited.train[int(index)].mask
        assert torch.equal(box, coarsen(exact, "box"))
        assert (box >= exact).all()


def test_another_annotation_is_another_run(data: Data) -> None:
    made = [
        limit_masks(data, share, draw, quality).fingerprint
        for share, draw, quality in (
            (1, 0, "exact"), (0.2, 0, "exact"), (0.2, 1, "exact"), (0.5, 0, "exact"),
            (1, 0, "box"), (1, 0, "dilated"), (0.2, 0, "box"),
        )
    ]  # fmt: skip
    assert len(set(made)) == len(made)
    assert limit_masks(data, 1, 5, "box").fingerprint == limit_masks(data, 1, 0, "box").fingerprint


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"share": 1.5}, "share"), ({"draw": -1}, "draw"), ({"quality": "fine"}, "quality")],
)
def test_impossible_values_are_named(data: Data, changes: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        limit_masks(data, **changes)  # type: ignore[arg-type]


def test_dials_know_the_same_qualities() -> None:
    for quality in MASK_QUALITIES:
        train = datasets.load("synthetic", image_size=32, mask_quality=quality, train=2).train
        assert dataclasses.is_dataclass(train.settings)  # type: ignore[attr-defined]


def test_designs_are_kept_for_a_later_choice_by_design(data: Data) -> None:
    train: Any = data.train
    train.designs = tuple(str(i % 3) for i in range(len(train)))
    try:
        limited: Any = limit_masks(data, 0.5).train
        assert limited.designs == train.designs
    finally:
        del train.designs
