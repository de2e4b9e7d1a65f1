"""Every system is found by its name, whatever it varies; other names are refused with a reason."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from gainbook.chapters.ch10_ablation import ladder as ablation
from gainbook.chapters.ch12_fostering import fostered
from gainbook.lab import components, reference
from gainbook.lab.protocol import FACTS, Pooled
from gainbook.lab.reference import System
from gainbook.lab.systems import KNOWN, find_system

from gainmtl.evaluation.scoring import Scores
from gainmtl.strategies import get_strategy

VARIED = [
    *(components.with_share(s, d) for s in (0.05, 0.2) for d in (0, 2)),
    *(components.with_quality(quality) for quality in ("dilated", "box")),
    *(fostered.fostered(beta) for beta in (*fostered.BETAS, 0.025, 1e-5, 30.0)),
    *(fostered.fostered(1.0, measure) for measure in ("ca", "cd")),
    fostered.fostered(0.3, layer=16),
    fostered.fostered_with_share(0.3, 0.05),
    fostered.fostered_with_share(1.0, 0.2, 2),
    *(fostered.fostered_types(beta) for beta in (0.0, 0.3)),
    *(fostered.branch(rounds) for rounds in (1, 2, 3)),
    *(fostered.fostered_branch(0.3, rounds) for rounds in (1, 3)),
]


@pytest.mark.parametrize("system", VARIED, ids=lambda system: system.tag)
def test_what_a_family_varies_is_read_off_the_name(system: System) -> None:
    assert find_system(system.tag) == system


def test_systems_with_a_constant_and_strategies_on_any_grid() -> None:
    assert find_system("S5-stride4") is reference.S5
    assert find_system("U-Net") is reference.UNET
    assert find_system("S5-unstaged-stride4") is components.UNSTAGED
    assert find_system("S4-stride4") is ablation.S4
    found = find_system("S5-no-mining-stride8")
    assert (found.strategy, found.output_stride) == ("S5-no-mining", 8)
    assert all(find_system(tag).tag == tag for tag in KNOWN)


def test_extras_of_any_beta_are_found() -> None:
    for beta in (0.1, 3.0):
        for pair in fostered.extras(beta, rounds=2):
            # A label is the page's own.
            found = [find_system(system.tag)._replace(label="") for system in pair]
            assert found == [system._replace(label="") for system in pair]


@pytest.mark.parametrize(
    ("tag", "words"),
    [
        ("S1-fostered-ce0.30-stride4", "goes by the name of 'S1-fostered-ce0.3-stride4'"),
        ("S1-fostered-ce0-stride4", "goes by the name of 'S1-stride4'"),
        ("S1-fostered-cx1-stride4", "strategy: expected one of"),
        ("S9-stride4", "strategy: expected one of"),
        ("attention-bare", "expected a name as S4-stride4 or one of attention-bare-stride4"),
    ],
)
def test_other_names_are_refused(tag: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        find_system(tag)


def test_s4_is_s5_without_its_counterfactual() -> None:
    """Chapters 8 and 10 train it once: everything that training depends on is the same."""
    s4, s5_without = ablation.S4, reference.S5_WITHOUT_TERM
    assert s4.trained_as is s5_without
    renamed = dataclasses.replace(get_strategy(s5_without.strategy), name="S4")
    assert get_strategy(s4.strategy) == renamed
    kept = {"tag", "strategy", "label", "trained_as"}
    mine, theirs = (s._asdict().items() for s in (s4, s5_without))
    assert {k: v for k, v in mine if k not in kept} == {k: v for k, v in theirs if k not in kept}
    assert (s4.name, s4.folder) == ("S4", "S5-no-counterfactual-stride4")


def test_its_folds_are_read_where_the_other_left_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def validate(fresh: Any, load: Any, folder: Path, **given: Any) -> Pooled:
        asked.append(folder)
        nothing = pd.DataFrame()
        return Pooled(fresh().strategy.name, given["condition"], [], Scores(nothing, {}), nothing,
                      (), 0.0, ())  # fmt: skip

    monkeypatch.setattr(reference, "cross_validate", validate)
    p: Any = SimpleNamespace(
        output_dir=str(tmp_path), seeds=(0,), folds=2, weights=None, backbone="test_efficientnet",
        epochs=1, batch_size=8, learning_rate=1e-3, accelerator="cpu", devices=1,
        precision="32-true",
    )  # fmt: skip
    (found,) = reference.run(p, ablation.S4)
    assert (found.system, found.condition) == ("S4", {"output_stride": 4})
    assert asked == [tmp_path / "S5-no-counterfactual-stride4" / "seed0"]
    assert not reference.is_finished(p, ablation.S4)
    for fold in range(2):
        (asked[0] / f"fold{fold}").mkdir(parents=True)
        (asked[0] / f"fold{fold}" / FACTS).touch()
    assert reference.is_finished(p, ablation.S4)
