from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from gainmtl.datasets.records import Record
from gainmtl.datasets.splits import assign_folds, split_validation


def _records(spec: list[tuple[str, dict[str, int]]]) -> list[Record]:
    """Records of groups given as (name, images by defect type)."""
    return [
        Record(None, None, kind != "normal", kind, None, group, f"{group}/{kind}/{i}")
        for group, kinds in spec
        for kind, count in kinds.items()
        for i in range(count)
    ]


@pytest.fixture
def parts() -> list[Record]:
    """41 groups: 10 with cracks, 6 with holes, 25 normal; some of the defective hold normals."""
    rng = np.random.default_rng(3)
    spec = []
    for i in range(41):
        kind = "crack" if i < 10 else "hole" if i < 16 else "normal"
        kinds = {kind: int(rng.integers(1, 7))}
        if i % 4 == 0:
            kinds["normal"] = kinds.get("normal", 0) + 2
        spec.append((f"g{i:02d}", kinds))
    return _records(spec)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("folds", [2, 3, 5])
def test_folds_are_whole_groups_with_a_share_of_everything(
    parts: list[Record], folds: int, seed: int
) -> None:
    fold = assign_folds(parts, folds, seed)
    assert set(fold.tolist()) == set(range(folds))
    by_group: dict[str, set[int]] = {}
    for record, k in zip(parts, fold, strict=True):
        by_group.setdefault(record.group, set()).add(int(k))
    assert all(len(ks) == 1 for ks in by_group.values())
    for kind in ("crack", "hole"):
        groups = Counter(
            next(iter(by_group[g])) for g in {r.group for r in parts if r.defect_type == kind}
        )
        shares = [groups[k] for k in range(folds)]
        assert max(shares) - min(shares) <= 1, kind
    defective = Counter(next(iter(by_group[g])) for g in {r.group for r in parts if r.is_defective})
    assert max(defective.values()) - min(defective[k] for k in range(folds)) <= 1
    images = np.bincount(fold, minlength=folds)
    assert images.max() - images.min() <= 6


def test_a_group_with_two_types_counts_for_the_rarer_one() -> None:
    # Two groups hold holes, four cracks. Stratified by the rarer type, each fold gets one hole.
    records = _records(
        [("a", {"crack": 5, "hole": 1}), ("b", {"hole": 1}), ("c", {"crack": 1}),
         ("d", {"crack": 1}), ("e", {"crack": 1}), ("f", {"normal": 1}), ("g", {"normal": 1})]
    )  # fmt: skip
    for seed in range(10):
        fold = dict(zip([r.group for r in records], assign_folds(records, 2, seed), strict=True))
        assert fold["a"] != fold["b"]


@pytest.mark.parametrize("seed", range(10))
def test_groups_left_over_level_the_defective_groups(seed: int) -> None:
    # Six groups of each of three types over five folds: the three left over go to three folds.
    sizes = np.random.default_rng(seed).integers(1, 9, 18)
    records = _records([(f"g{i:02d}", {"abc"[i % 3]: int(n)}) for i, n in enumerate(sizes)])
    fold = assign_folds(records, 5, seed)
    groups = Counter(dict(zip([r.group for r in records], fold.tolist(), strict=True)).values())
    assert sorted(groups.values()) == [3, 3, 4, 4, 4]


def test_the_leaking_split_ignores_groups(parts: list[Record]) -> None:
    fold = assign_folds(parts, 5, 0, random_split=True)
    sides = {(r.group, int(k)) for r, k in zip(parts, fold, strict=True)}
    assert len(sides) > len({r.group for r in parts})
    for kind in ("crack", "hole", "normal"):
        counts = np.bincount(fold[[r.defect_type == kind for r in parts]], minlength=5)
        assert counts.max() - counts.min() <= 1


def test_order_of_records_is_of_no_consequence(parts: list[Record]) -> None:
    fold = assign_folds(parts, 5, 7)
    assert (assign_folds(parts[::-1], 5, 7)[::-1] == fold).all()
    assert (assign_folds(parts, 5, 8) != fold).any()
    val = split_validation(parts, 0.2, 7)
    assert (split_validation(parts[::-1], 0.2, 7)[::-1] == val).all()


def test_the_same_in_every_process(parts: list[Record]) -> None:
    # Written down, since the order of Python's sets changes from process to process. Whoever
    # changes these lines makes all reference results those of other folds.
    first = {r.group: int(k) for r, k in zip(parts, assign_folds(parts, 5, 1), strict=True)}
    assert (
        "".join(str(first[g]) for g in sorted(first)) == "23404310123042131424110023240123330443210"
    )
    val = {r.group for r, c in zip(parts, split_validation(parts, 0.15, 1), strict=True) if c}
    assert sorted(val) == ["g05", "g08", "g17", "g26", "g32", "g38"]


@pytest.mark.parametrize("seed", range(5))
def test_validation_takes_its_share_of_groups_of_each_kind(parts: list[Record], seed: int) -> None:
    chosen = split_validation(parts, 0.25, seed)
    groups = {r.group for r, c in zip(parts, chosen, strict=True) if c}
    assert not groups & {r.group for r, c in zip(parts, chosen, strict=True) if not c}
    defective = {r.group for r in parts if r.is_defective}
    assert len(groups & defective) == 4  # round(.25 * 16)
    assert len(groups - defective) == 6  # round(.25 * 25)
    cracks = groups & {r.group for r in parts if r.defect_type == "crack"}
    assert len(cracks) in (2, 3)  # 2.5 of 10


def test_validation_of_small_sets() -> None:
    records = _records([("a", {"crack": 2}), ("b", {"normal": 1}), ("c", {"normal": 1})])
    # The only defective group trains; one of two normal ones validates, however small the share.
    chosen = split_validation(records, 0.01, 0)
    assert not chosen[:2].any()
    assert chosen.sum() == 1
    assert not split_validation(records, 0.0, 0).any()
    assert split_validation(records, 0.99, 0).sum() == 1
    with pytest.raises(ValueError, match=r"share in \[0, 1\); found 1"):
        split_validation(records, 1, 0)


def test_too_few_groups() -> None:
    records = _records([("a", {"crack": 9}), ("b", {"normal": 9}), ("c", {"normal": 9})])
    with pytest.raises(ValueError, match=r"groups as folds \(4\); found 3"):
        assign_folds(records, 4, 0)
    with pytest.raises(ValueError, match=r"defective groups as folds \(3\); found 1"):
        assign_folds(records, 3, 0)
    with pytest.raises(ValueError, match="at least 2 folds; found 1"):
        assign_folds(records, 1, 0)
    assert len(assign_folds(records, 4, 0, random_split=True)) == 27
