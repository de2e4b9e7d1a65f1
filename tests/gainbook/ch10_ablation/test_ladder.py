"""The ladder as data: every step named, one change each, and a split that leaks on purpose."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gainbook.chapters.ch10_ablation import ladder
from gainbook.chapters.ch10_ablation.ladder import (
    HONEST,
    LEAKING,
    LEAVE_ONE_OUT,
    RUNGS,
    S1,
    S5,
    SIX,
    STANDARDS,
    STEPS,
    changes,
    needs_masks,
)
from gainbook.chapters.ch10_ablation.study import PARTS
from gainbook.lab import catalogue, run_system
from gainbook.lab.parameters import Parameters
from PIL import Image

from gainmtl.strategies import get_strategy


def test_changes_by_hand() -> None:
    assert changes("S2", "S1") == ["+ cam guidance (0.3)"]
    assert changes("S1", "S2") == ["− cam guidance"]
    assert changes("S5", "S5") == []
    assert changes("S3", "S2") == [
        "classification 1 → 0.3",
        "+ attended classification (1)",
        "+ guidance (0.5)",
        "+ mining (0.2)",
        "+ CBAM before the attention",
    ]
    assert "− CBAM before the attention" in changes("S2", "S3")
    assert changes("S6", "S5") == [
        "+ true mask in the attention while training (0.5, fading to none)"
    ]


def test_every_step_changes_one_thing_but_attention() -> None:
    for step in STEPS:
        words = changes(step.system.strategy, step.before.strategy)
        assert len(words) == (4 if step.name == "attention" else 1), step.name


def test_the_steps_lead_from_s1_to_s6() -> None:
    assert [step.before for step in STEPS] == list(RUNGS[:-1])
    assert [step.system for step in STEPS] == list(RUNGS[1:])
    assert [s.strategy for s in SIX] == [f"S{k}" for k in range(1, 7)]
    assert len({system.output_stride for system in RUNGS}) == 1


def test_left_out_of_s5_is_one_term() -> None:
    for step in LEAVE_ONE_OUT:
        more = changes(step.system.strategy, step.before.strategy)
        assert len(more) == (2 if step.name == "localization" else 1)
    last = get_strategy("S5-no-counterfactual")
    assert last.weights == get_strategy("S4").weights
    assert last.windows == get_strategy("S4").windows


def test_masks_are_needed_from_s2_on() -> None:
    assert [needs_masks(s.strategy) for s in SIX] == [False] + [True] * 5


@pytest.mark.parametrize("part", PARTS)
def test_a_part_compares_what_it_runs_each_pair_once(part: str) -> None:
    tags = [system.tag for system in PARTS[part].systems]
    assert len(tags) == len(set(tags))
    pairs = [(a.tag, b.tag) for a, b in PARTS[part].pairs]
    assert len(pairs) == len(set(pairs))
    assert {tag for pair in pairs for tag in pair} == set(tags)
    assert not any((b, a) in pairs for a, b in pairs)


def test_the_page_has_every_pair_it_draws() -> None:
    compared = {(a.tag, b.tag) for a, b in PARTS["ladder"].pairs}
    wanted = [step.pair for step in (ladder.GRID_STEP, *STEPS, *ladder.WHOLE_STEPS)]
    wanted += [step.pair for step in ladder.FROM_S1]
    wanted += [(s, b) for s in ladder.CANDIDATES for b in STANDARDS]
    wanted += [(ladder.S5_AVERAGED, b) for b in (S5, ladder.S1_AVERAGED)]
    wanted += [(ladder.S5_NO_MINING, b) for b in (S5, S1, *STANDARDS)]
    assert {(a.tag, b.tag) for a, b in wanted} <= compared
    assert [step.system for step in ladder.FROM_S1] == list(RUNGS[1:])


def test_folders_are_shared_with_other_chapters() -> None:
    assert (S1.tag, S5.tag) == (catalogue.S1_FINE.tag, catalogue.S5.tag)
    assert STANDARDS == (catalogue.S1_COARSE, catalogue.S1_OWN, ladder.S1_AVERAGED)
    assert ladder.S1_AVERAGED.options == (("pooling", "mean"),)


def photographed(root: Path) -> Path:
    """20 tiles of the magnetic-tile layout, photographed three times each, half of them cracked."""
    rng = np.random.default_rng(0)
    for kind, tiles in (("MT_Free", range(10)), ("MT_Crack", range(10, 20))):
        for tile in tiles:
            for exposure in range(3):
                stem = root / kind / "Imgs" / f"exp{exposure}_num_{1000 * (tile + 1) + exposure}"
                stem.parent.mkdir(parents=True, exist_ok=True)
                noise = rng.integers(0, 255, (16, 16), np.uint8)
                Image.fromarray(noise).save(stem.with_suffix(".jpg"))
                mask = np.zeros((16, 16), np.uint8)
                mask[3:6, 3:6] = 255 * (kind == "MT_Crack")
                Image.fromarray(mask).save(stem.with_suffix(".png"))
    return root


def test_folds_by_tile_share_no_tile_and_the_leaking_ones_do(tmp_path: Path) -> None:
    root = str(photographed(tmp_path))
    given = Parameters(dataset="magnetic-tile", data_root=root, image_size=16, folds=5)
    for honest, leaky in zip(HONEST, LEAKING, strict=True):
        assert (honest.split, leaky.split) == ("", "leaking")
        assert "split" not in honest.condition
        assert leaky.condition["split"] == "leaking"
        assert leaky.tag != honest.tag
        assert leaky.strategy == honest.strategy
    tested: dict[str, set[str]] = {"": set(), "leaking": set()}
    for fold in range(5):
        parts = {split: run_system.load_fold(given, 0, split)(fold) for split in tested}
        for split, data in parts.items():
            seen = set(data.train.groups) | set(data.val.groups)  # type: ignore[attr-defined]
            both = seen & set(data.test.groups)  # type: ignore[attr-defined]
            assert bool(both) == (split == "leaking")
            tested[split] |= {data.test[i].name for i in range(len(data.test.labels))}  # type: ignore[attr-defined]
        assert parts[""].fingerprint != parts["leaking"].fingerprint
    assert tested[""] == tested["leaking"]
    assert len(tested[""]) == 60


def test_counterfactual_pictures_are_a_use_of_the_mask() -> None:
    plain, integrated = ladder.COPY_PASTE
    assert ladder.needs_masks(plain.strategy)
    assert not ladder.needs_masks("S1")
    words = ladder.changes(plain.strategy, "S1")
    assert words == ["+ counterfactual pictures (0.5)"]
    assert ladder.changes(integrated.strategy, "S5") == words
    assert ladder.changes("S1", plain.strategy) == ["− counterfactual pictures"]
    pairs = {(a.name, b.name) for a, b in ladder.COPY_PASTE_PAIRS}
    assert ("S5-copy-paste", "S1-copy-paste") in pairs
    assert ("S5-copy-paste", "S1") in pairs
