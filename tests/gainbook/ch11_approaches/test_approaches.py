"""The six approaches: how each is built, and which learning rate each has."""

from __future__ import annotations

import pytest
import torch
from gainbook.chapters import find_system
from gainbook.chapters.ch11_approaches import approaches
from gainbook.chapters.ch11_approaches.approaches import (
    INTEGRATED,
    RATES,
    SEGMENTATION,
    SIX,
    choose_rate,
    tuned,
)
from gainbook.chapters.ch11_approaches.study import SYSTEMS
from gainbook.lab import run_system
from gainbook.lab.protocol import REFERENCE
from gainbook.lab.systems import System

from gainmtl import io
from gainmtl.baselines.fcos import BoxDetector
from gainmtl.baselines.unet import UNet
from gainmtl.model import GAINMTL
from gainmtl.training.recipe import Recipe


def test_six_folders_six_names_and_what_they_need() -> None:
    assert (
        len({s.tag for s in SIX}) == len({s.label for s in SIX}) == len({s.name for s in SIX}) == 6
    )
    assert set(approaches.NEEDS) == {s.tag for s in SIX}
    assert len({s.tag for s in approaches.ALL}) == len({s.label for s in approaches.ALL}) == 7
    assert dict(approaches.AVERAGED.options)["pooling"] == "mean"
    for name, change in RATES.items():
        Recipe(**REFERENCE | change)
        assert set(change) <= {"learning_rate"}, name


@pytest.mark.parametrize("system", approaches.ALL, ids=lambda s: s.tag)
def test_every_one_is_built_by_its_name_from_the_same_weights(system: System) -> None:
    torch.manual_seed(0)
    model = run_system.build(find_system(system.tag), "test_efficientnet", None)
    assert type(model) is {"U-Net": UNet, "FCOS": BoxDetector}.get(system.tag, GAINMTL)
    assert model.strategy.name == system.name
    torch.manual_seed(0)
    other = run_system.build(INTEGRATED, "test_efficientnet", None)
    mine, theirs = (m.backbone.state_dict() for m in (model, other))
    assert all(torch.equal(mine[key], theirs[key]) for key in theirs)


def test_another_rate_needs_more_than_chance() -> None:
    assert choose_rate({"reference": 0.90, "rate-half": 0.919, "rate-double": 0.5}) == "reference"
    assert choose_rate({"reference": 0.90, "rate-half": 0.93, "rate-double": 0.95}) == "rate-double"
    assert choose_rate({"rate-half": 0.93}) == "reference"  # nothing to compare with
    assert choose_rate({}) == "reference"


def test_a_tuned_system_is_a_run_of_its_own() -> None:
    trials = [
        {"system": "U-Net", "trial": name, "figures": {"auroc": [value, 0, 1]}}
        for name, value in (("reference", 0.8), ("rate-half", 0.9), ("rate-double", 0.7))
    ]
    other = tuned(SEGMENTATION, trials)
    assert (other.tag, other.condition["recipe"]) == ("U-Net-rate-half", "rate-half")
    assert dict(other.changes)["learning_rate"] == REFERENCE["learning_rate"] / 2
    assert tuned(INTEGRATED, trials) is INTEGRATED
    assert tuned(SEGMENTATION, []) is SEGMENTATION
    assert find_system(other.tag) == other


def test_every_rate_has_a_folder_of_its_own() -> None:
    assert len({s.tag for s in SYSTEMS}) == len(SYSTEMS) == len(approaches.ALL) * len(RATES)


def test_kinds_are_known_or_named() -> None:
    assert io.class_of("") is GAINMTL
    with pytest.raises(ValueError, match="unknown kind 'x' of model"):
        io.class_of("x")
