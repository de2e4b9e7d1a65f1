"""The identity of a run: what changes pixels or the network is in it, for every kind of model."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gainmtl.anomaly.fitting import fit_detector
from gainmtl.anomaly.memory_bank import MemoryBank
from gainmtl.anomaly.reverse_distillation import ReverseDistillation
from gainmtl.baselines.unet import UNet
from gainmtl.datasets import Data, load
from gainmtl.model import GAINMTL
from gainmtl.training.checkpoint import CHECKPOINT
from gainmtl.training.fitting import fit
from gainmtl.training.identity import check_identity, run_identity
from gainmtl.training.recipe import Recipe

BACKBONE = "test_efficientnet"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images twice as high as wide, so that "pad" and "squash" differ."""
    root, rng = tmp_path_factory.mktemp("parts"), np.random.default_rng(0)
    for kind in ("normal", "defective"):
        for k in range(12):
            path = root / "images" / kind / f"{k}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (48, 24), dtype=np.uint8)).save(path)
    return root


def parts(root: Path, resize: str = "squash") -> Data:
    return load("folder", root, image_size=32, folds=3, resize=resize)


def build(kind: type[Any], **options: Any) -> Any:
    torch.manual_seed(0)
    return kind(BACKBONE, "S1", **options) if kind is GAINMTL else kind(BACKBONE, **options)


def train(model: Any, data: Data, folder: Path | None, **more: Any) -> None:
    detector = isinstance(model, MemoryBank | ReverseDistillation)
    function: Any = fit_detector if detector else fit
    arguments = {"epochs": 1, "batch_size": 8, "accelerator": "cpu", "progress": False, **more}
    function(model, data, output_dir=folder, **arguments)


@pytest.mark.parametrize("kind", [GAINMTL, UNet, MemoryBank, ReverseDistillation])
@pytest.mark.parametrize(
    ("options", "resize", "named"),
    [
        ({}, "pad", r"resize \('squash', here 'pad'\)"),
        ({"create_kwargs": {"drop_path_rate": 0.5}}, "squash",
         r"create_kwargs\.drop_path_rate \(not set, here 0\.5\)"),
    ],
)  # fmt: skip
def test_other_pixels_or_another_network(
    kind: type[Any], options: dict[str, Any], resize: str, named: str, root: Path, tmp_path: Path
) -> None:
    train(build(kind), parts(root), tmp_path)
    with pytest.raises(ValueError, match=f"holds a run with another {named}; give another"):
        train(build(kind, **options), parts(root, resize), tmp_path)
    train(build(kind), parts(root), tmp_path)


def test_another_normalisation(root: Path, tmp_path: Path) -> None:
    train(build(GAINMTL), parts(root), tmp_path)
    other = build(GAINMTL)
    other.backbone.mean = (0.1, 0.2, 0.3)
    with pytest.raises(ValueError, match="holds a run with another normalisation"):
        train(other, parts(root), tmp_path)


def test_a_bank_with_another_limit_of_false_alarms(root: Path, tmp_path: Path) -> None:
    train(build(MemoryBank), parts(root), tmp_path)
    with pytest.raises(ValueError, match=r"another max_false_alarms \(0\.05, here 0\.5\)"):
        train(build(MemoryBank), parts(root), tmp_path, max_false_alarms=0.5)


@pytest.mark.parametrize("resize", ["squash", "pad"])
def test_an_identity_from_before_an_entry_existed(resize: str, root: Path, tmp_path: Path) -> None:
    """It is that of a run with the entry's default: continued with it, refused with another."""
    model, data, recipe = build(GAINMTL), parts(root, resize), dataclasses.asdict(Recipe())
    stored = run_identity(model, data, recipe={**recipe}, precision="32-true", devices=1)
    for later in ("resize", "create_kwargs", "normalisation", "devices"):
        del stored[later]
    del stored["recipe"]["restarts"]
    expected = run_identity(model, data, recipe=recipe, precision="32-true", devices=1)
    if resize == "squash":
        check_identity("fit", tmp_path, stored, expected, Recipe())
    else:
        with pytest.raises(ValueError, match=r"another resize \('squash', here 'pad'\); give"):
            check_identity("fit", tmp_path, stored, expected, Recipe())
    expected["recipe"]["restarts"] = 1
    with pytest.raises(ValueError, match=r"another recipe\.restarts \(2, here 1\)"):
        check_identity("fit", tmp_path, stored | {"resize": resize}, expected, Recipe())


def test_every_difference_is_named_up_to_four(tmp_path: Path) -> None:
    stored, wanted = ({f"e{k}": k * factor for k in range(1, 7)} for factor in (1, 2))
    with pytest.raises(
        ValueError, match=r"e1 \(1, here 2\), .*, e4 \(4, here 8\) and 2 more; give"
    ):
        check_identity("fit", tmp_path, stored, wanted, None)
    with pytest.raises(ValueError, match=r"another e7 \(0, here not set\)"):
        check_identity("fit", tmp_path, {**wanted, "e7": 0}, wanted, None)


def test_a_run_on_other_devices(root: Path) -> None:
    one, two = (run_identity(build(GAINMTL), parts(root), devices=n) for n in (1, 2))
    with pytest.raises(ValueError, match=r"another devices \(1, here 2\)"):
        check_identity("fit", root, one, two, None)


def test_recipes_of_detectors_are_in_it(root: Path, tmp_path: Path) -> None:
    train(build(ReverseDistillation), parts(root), tmp_path)
    assert (tmp_path / CHECKPOINT).is_file()
    with pytest.raises(ValueError, match=r"another recipe\.schedule \('cosine', here 'constant'\)"):
        train(build(ReverseDistillation), parts(root), tmp_path, schedule="constant")
