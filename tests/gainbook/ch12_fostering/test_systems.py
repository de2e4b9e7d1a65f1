"""The fostered systems: folders and rows of their own; without a weight the plain classifier."""

from __future__ import annotations

import math
from typing import Any

import pytest
from gainbook.chapters import find_system
from gainbook.chapters.ch12_fostering.systems import (
    ALL,
    BETAS,
    BRANCH,
    branch,
    extras,
    fostered,
    fostered_branch,
    fostered_types,
    fostered_with_share,
    paper_sweep,
)
from gainbook.lab import catalogue, run_system
from gainbook.lab.systems import System

from gainmtl.strategies import Strategy
from gainmtl.training.recipe import Recipe

SYSTEMS = [
    *(fostered(beta) for beta in BETAS),
    *(fostered(1.0, measure) for measure in ("ca", "cd")),
    *(fostered(1.0, layer=stride) for stride in (8, 16)),
    *(fostered(beta, plain=catalogue.PLAIN) for beta in (0.0, 1.0)),
    catalogue.SOFT,
    *(fostered_with_share(beta, share) for beta in (0.0, 1.0) for share in (0.05, 0.2)),
    *(fostered_types(beta) for beta in (0.0, 1.0)),
    *(branch(rounds) for rounds in (1, 2, 3)),
    *(fostered_branch(1.0, rounds) for rounds in (1, 2)),
]


def test_no_weight_is_what_other_chapters_train() -> None:
    assert fostered(0.0) is catalogue.AVERAGED
    assert fostered(0.0, plain=catalogue.PLAIN) is catalogue.PLAIN
    assert fostered_with_share(0.0, 0.2, 1) == catalogue.with_share(0.2, 1)


def test_every_system_has_a_folder_and_a_row_of_its_own() -> None:
    assert len({s.tag for s in SYSTEMS}) == len(SYSTEMS)
    assert len({(s.name, str(s.condition)) for s in SYSTEMS}) == len(SYSTEMS)


def test_they_differ_in_the_fostering_alone() -> None:
    system: System = fostered(0.3, "ca")
    assert system.condition == {
        "output_stride": 4, "pooling": "mean", "beta": 0.3, "measure": "ca"
    }  # fmt: skip
    assert isinstance(system.strategy, Strategy)
    assert system.strategy.weights.asdict() | {"fostering": 0.0} == {
        **dict.fromkeys(system.strategy.weights.asdict(), 0.0),
        "classification": 1.0,
    }
    assert (system.options, system.changes, system.masks) == (catalogue.AVERAGED.options, (), ())
    other = fostered(0.3, "ca", plain=catalogue.PLAIN)
    assert (other.strategy, other.options) == (system.strategy, ())
    some = fostered_with_share(0.3, 0.05)
    assert some.masks == catalogue.with_share(0.05, 0).masks
    assert isinstance(some.strategy, Strategy)
    assert some.strategy.weights.fostering == 0.3
    assert some.strategy.weights.cam_guidance == catalogue.GAIN.weights.cam_guidance


def test_extras_are_pairs_of_those() -> None:
    pairs = extras(1.0)
    tags = {system.tag for system in SYSTEMS}
    assert {system.tag for pair in pairs for system in pair} <= tags
    assert len({first.tag for first, _ in pairs}) == len(pairs)
    assert (fostered_types(1.0), fostered_types(0.0)) not in extras(1.0, types=False)
    longer = extras(1.0, rounds=2)
    assert longer[-1] == (fostered_branch(1.0, 2), branch(2))
    assert {system.tag for pair in longer for system in pair} <= tags


def test_every_system_is_found_by_its_tag() -> None:
    compared = [
        s for beta in BETAS[1:] for k in (1, 2, 3) for pair in extras(beta, k) for s in pair
    ]
    for system in (*SYSTEMS, *ALL, *compared):
        # The label is the page's own.
        assert find_system(system.tag)._replace(label="") == system._replace(label="")
    assert len({s.tag for s in ALL}) == len(ALL)


def test_an_unknown_weight_is_refused() -> None:
    for tag in ("S1-fostered-ce0.30-stride4", "S1-fostered-ce0-stride4"):
        with pytest.raises(ValueError, match="strategy: expected one of"):
            find_system(tag)


def test_the_papers_two_networks() -> None:
    plain, sharp = paper_sweep(192).values()
    assert isinstance(sharp.strategy, Strategy)
    assert sharp.strategy.weights.fostering == pytest.approx(100 * math.log(36))
    assert (sharp.strategy.fostering_zero, sharp.output_stride) == ("map", 32)
    assert not sharp.strategy.fostering_certain
    assert sharp.strategy.weights_at(0.0) == sharp.strategy.weights
    assert plain.changes == sharp.changes
    assert plain.tag != sharp.tag
    Recipe(**dict(plain.changes))
    model: Any = run_system.build(sharp, "resnet18", None)
    assert (model.pooling, model.output_stride) == ("mean", 32)


def test_a_round_is_so_many_times_the_epochs_and_the_first_is_the_recipe_of_all() -> None:
    assert branch(1) is BRANCH
    assert fostered_branch(1.0).tag == "attention-branch-fostered-ce1-stride4"
    longer = branch(3, 4)
    assert (longer.tag, longer.changes) == (
        "attention-branch-epochs12-stride4", (("epochs", 12),)
    )  # fmt: skip
    assert fostered_branch(0.3, 3, 4).changes == longer.changes
