"""The shared systems: the parts of each, and that each is a run of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from gainbook.lab import catalogue
from gainbook.lab.systems import System

from gainmtl import io
from gainmtl.attention import CBAM, SqueezeExcitation
from gainmtl.model import GAINMTL
from gainmtl.strategies import Strategy, get_strategy

SYSTEMS = [value for value in vars(catalogue).values() if isinstance(value, System)]
MASKED = [
    catalogue.with_share(share, draw) for share in catalogue.MASK_SHARES for draw in range(3)
] + [catalogue.with_quality(quality) for quality in ("dilated", "box")]


def build(system: System) -> GAINMTL:
    return GAINMTL(
        "test_efficientnet", system.strategy, output_stride=4, **dict(system.options)
    ).eval()


def test_every_system_has_a_folder_and_a_row_of_its_own() -> None:
    # one training under two labels is one system
    every = list({system.tag: system for system in SYSTEMS + MASKED}.values())
    labels = {system._replace(label="") for system in SYSTEMS + MASKED}
    assert len(labels) == len(every)
    rows = {(get_strategy(s.strategy).name, str(s.condition)) for s in every}
    # S5 in stages is S5 once more, with the conflict of its terms measured
    assert len(rows) == len(every) - 1


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda s: s.tag)
def test_the_map_explains_the_verdict(system: System) -> None:
    torch.manual_seed(0)
    model = build(system)
    with torch.no_grad():
        out = model(model.preprocess(torch.rand(2, 3, 64, 64)))
    evidence = out.logits[:, 1] - out.logits[:, 0]
    torch.testing.assert_close(
        model.pool(out.cam) + model.evidence_bias, evidence, atol=1e-4, rtol=0
    )


@pytest.mark.parametrize(
    ("system", "refinement", "attention", "localization"),
    [
        (catalogue.PLAIN, None, False, False),
        (catalogue.WITH_SE, SqueezeExcitation, False, False),
        (catalogue.WITH_CBAM, CBAM, False, False),
        (catalogue.ATTENTION_BARE, None, True, False),
        (catalogue.ATTENTION_CBAM, CBAM, True, False),
        (catalogue.MINING_ALONE, None, False, False),
        (catalogue.LOCALIZATION_ALONE, None, False, True),
        (catalogue.TOGETHER, None, False, True),
    ],
    ids=lambda value: getattr(value, "tag", str(value)),
)
def test_parts(system: System, refinement: Any, attention: bool, localization: bool) -> None:
    model = build(system)
    assert type(model.refine) is (refinement or type(None))
    assert (model.attention is not None) == attention
    assert (model.attended_head is not None) == attention
    assert (model.localization is not None) == localization


def test_a_refinement_is_saved_and_loaded(tmp_path: Path) -> None:
    model = build(catalogue.WITH_SE)
    loaded = io.load(io.save(model, tmp_path / "model"))
    images = model.preprocess(torch.rand(1, 3, 64, 64))
    with torch.no_grad():
        assert torch.equal(model(images).logits, loaded(images).logits)
    with pytest.raises(ValueError, match="refinement: expected one of none, se, cbam"):
        GAINMTL("test_efficientnet", "S1", refinement="both")


def test_later_fields_of_a_strategy_are_stored_when_they_say_something() -> None:
    plain = io.strategy_to_dict(get_strategy("S5"))
    assert "focal_gamma" not in plain
    assert "localization_loss" not in plain
    assert io.strategy_from_dict(plain) == get_strategy("S5")
    changed = Strategy("x", catalogue.JOINT.weights, focal_gamma=2.0, localization_loss="dice")
    assert io.strategy_from_dict(io.strategy_to_dict(changed)) == changed
    for wrong in ({"focal_gamma": -1.0}, {"localization_loss": "mse"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Strategy("x", catalogue.JOINT.weights, **wrong)  # type: ignore[arg-type]
