"""Draws: nested, no part on two sides, one type left out, looks apart."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from gainbook.chapters.ch02_contrast.draws import (
    MIXED,
    SYNTHETIC,
    LabelDraw,
    defective_parts,
    load_draw,
    types_of,
)
from gainbook.chapters.ch02_contrast.frozen import contaminating

from gainmtl.types import NORMAL

FEW: dict[str, Any] = {"normal": 10, "val": 8, "most": 6, "test_normal": 5, "test_type": 2}


@pytest.fixture(scope="module")
def draw() -> LabelDraw:
    return load_draw(SYNTHETIC, None, 0, FEW, 32, train=60, val=40, test=60)


def test_a_draw_has_the_numbers_that_were_asked_for(draw: LabelDraw) -> None:
    assert (len(draw.normal), len(draw.val), len(draw.parts)) == (10, 8, 6)
    types = draw.types[draw.test]
    assert (types == NORMAL).sum() == 5
    assert all((types == kind).sum() <= 2 for kind in draw.kinds())
    assert len(draw.images) == 10 + 8 + 6 + len(draw.test)


def test_no_part_is_used_twice_and_kinds_are_where_they_belong(draw: LabelDraw) -> None:
    groups = np.array(draw.images.groups)
    uses = [draw.normal, draw.val, draw.defective(), draw.test]
    used = [set(groups[rows]) for rows in uses]
    assert sum(map(len, used)) == len(set().union(*used))
    assert not draw.images.labels[np.concatenate(uses[:2])].any()
    assert draw.images.labels[draw.defective()].all()


def test_fewer_parts_are_the_first_of_more(draw: LabelDraw) -> None:
    assert draw.defective(4).tolist() == draw.defective(6)[:4].tolist()
    assert draw.part_of[draw.defective(3)].tolist() == [0, 1, 2]
    assert (draw.part_of[draw.test] == -1).all()
    with pytest.raises(ValueError, match="at most 6 defective parts, got 7"):
        draw.defective(7)


def test_a_type_left_out_is_nowhere_in_training(draw: LabelDraw) -> None:
    kind = draw.types[draw.parts[0]][0]
    assert kind not in draw.types[draw.defective(None, kind)]
    kept = draw.defective(2, kind)
    assert len(kept) == 2
    assert kept.tolist() == draw.defective(None, kind)[:2].tolist()


def test_another_seed_is_another_draw(draw: LabelDraw) -> None:
    other = load_draw(SYNTHETIC, None, 1, FEW, 32, train=60, val=40, test=60)
    assert set(other.images.names) != set(draw.images.names)


def test_training_data_repeats_the_defects_and_keeps_validation_normal(draw: LabelDraw) -> None:
    data: Any = draw.training_data(draw.defective(2), least=5)
    assert data.train.labels.sum() == 5
    assert len(set(data.train.names)) == 12
    assert not data.val.labels.any()
    assert len(data.test) == len(draw.test)
    assert draw.training_data(draw.defective(0), least=5).train.labels.sum() == 0  # type: ignore[attr-defined]


def test_contaminating_images_are_the_last_to_be_found(draw: LabelDraw) -> None:
    assert contaminating(draw, 2).tolist() == [draw.parts[5][0], draw.parts[4][0]]
    assert len(contaminating(draw, 0)) == 0


def test_a_part_has_all_its_images() -> None:
    found = defective_parts(
        np.array([1, 2, 4]), ["x", "a", "b", "x", "a"], np.random.default_rng(0)
    )
    assert sorted(part.tolist() for part in found) == [[1, 4], [2]]


def test_a_tile_with_defects_of_two_types_is_mixed() -> None:
    box = [SimpleNamespace(defect_type=kind) for kind in ("open", "short")]
    dataset = SimpleNamespace(defect_types=["open", "short", NORMAL], boxes=[box, box[1:], []])
    assert types_of(dataset).tolist() == [MIXED, "short", NORMAL]
