"""Pretraining on formulas: resumable to the bit, a file that a backbone reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from gainbook.chapters.ch13_distillation import pretraining
from gainbook.chapters.ch13_distillation.pretraining import (
    Pretraining,
    pretrain,
    pretraining_card,
    rate_at,
)
from safetensors.torch import load_file

from gainmtl.backbone import Backbone

PLAN = Pretraining("test_convnext", classes=3, image_size=32, epochs=2, steps=2, batch_size=4)
TEACHERS = Path(__file__).resolve().parents[3] / "book" / "weights"


def test_a_stopped_run_ends_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    history = pretrain(PLAN, whole, "cpu")
    assert list(history["epoch"]) == [0, 1]
    save = pretraining._save

    def stop(*given: object) -> None:
        save(*given)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pretraining, "_save", stop)
        with pytest.raises(KeyboardInterrupt):
            pretrain(PLAN, parts, "cpu")
    assert not parts.exists()
    pretrain(PLAN, parts, "cpu")
    first, second = load_file(whole), load_file(parts)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    with pytest.raises(ValueError, match="another plan"):
        pretrain(PLAN._replace(steps=3), parts, "cpu")
    again = pretrain(PLAN, parts, "cpu")  # finished: nothing is trained
    assert len(again) == 2


@pytest.mark.parametrize("name", ["test_convnext", "test_resnet"])
def test_a_backbone_reads_the_result(name: str, tmp_path: Path) -> None:
    path = tmp_path / "one.safetensors"
    pretrain(PLAN._replace(backbone=name, epochs=1, steps=1), path, "cpu", keep_half=True)
    backbone = Backbone(name, str(path))
    assert backbone.mean == (0.5, 0.5, 0.5)
    assert backbone.is_pretrained
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["trained_on"]["classes"] == 3
    assert 0 <= card["trained_on"]["accuracy"] <= 1


def test_the_rate_warms_up_and_falls_to_a_hundredth() -> None:
    rates = [rate_at(step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert max(rates) == 1
    assert rates[-1] == pytest.approx(0.01, abs=2e-3)


def test_mixed_precision_keeps_the_weights_in_single(tmp_path: Path) -> None:
    path = tmp_path / "one.safetensors"
    plain = pretrain(PLAN, tmp_path / "plain.safetensors", "cpu")
    mixed = pretrain(PLAN._replace(precision="bf16-mixed"), path, "cpu")
    assert {value.dtype for value in load_file(path).values()} == {torch.float32}
    losses = mixed["loss"].to_numpy(), plain["loss"].to_numpy()
    assert (losses[0] != losses[1]).all()  # it is computed otherwise
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
    with pytest.raises(ValueError, match="got '16-mixed'"):
        pretrain(PLAN._replace(precision="16-mixed"), tmp_path / "no.safetensors", "cpu")


@pytest.mark.parametrize("backbone", ["test_resnet", "test_convnext"])
def test_the_books_teachers_have_learned_something(backbone: str) -> None:
    """A detector on a teacher at chance is no evidence about the teacher's family."""
    facts = pretraining_card(TEACHERS / f"{backbone}_formulas.safetensors")
    assert facts["backbone"] == backbone
    assert facts["accuracy"] > 20 / facts["classes"]


def test_other_weights_have_no_card(tmp_path: Path) -> None:
    assert pretraining_card(None) == {}
    assert pretraining_card("imagenet") == {}
    path = tmp_path / "other.safetensors"
    path.with_suffix(".json").write_text(json.dumps({"mean": [0.5, 0.5, 0.5]}))
    assert pretraining_card(path) == {}
