"""Tests of mixed precision: that it is in force, and that nothing that must be exact is half."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gainmtl import fit, fostered
from gainmtl.baselines.detector import Detector
from gainmtl.baselines.unet import UNet
from gainmtl.datasets import Data, load
from gainmtl.detector_fit import fit_detector
from gainmtl.distillation import ReverseDistillation
from gainmtl.inspector import Inspector
from gainmtl.model import GAINMTL
from gainmtl.precision import full
from gainmtl.strategies import foster

BACKBONE = "test_efficientnet"


@pytest.fixture(scope="module")
def data() -> Data:
    return load("synthetic", image_size=64, train=16, val=8, test=8)


def convolutions(model: nn.Module) -> list[torch.dtype]:
    """Fills with the type of what every convolution gives from now on."""
    seen: list[torch.dtype] = []

    def look(module: nn.Module, given: object, said: Tensor) -> None:
        seen.append(said.dtype)

    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(look)
    return seen


MODELS: dict[str, Callable[[], Inspector]] = {
    "S1": lambda: GAINMTL(BACKBONE, "S1"),
    "S5": lambda: GAINMTL(BACKBONE, "S5"),
    "S6": lambda: GAINMTL(BACKBONE, "S6"),
    "fostered": lambda: GAINMTL(BACKBONE, foster("S1", 1.0), output_stride=4),
    "second order": lambda: GAINMTL(BACKBONE, foster("S1", 1.0, layer=16), output_stride=4),
    "attention branch": lambda: GAINMTL(BACKBONE, fostered.ATTENTION_BRANCH, output_stride=4),
    "U-Net": lambda: UNet(BACKBONE),
    "detector": lambda: Detector(BACKBONE),
}


@pytest.mark.parametrize("name", MODELS)
def test_half_where_asked_and_full_in_the_loss(
    name: str, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = MODELS[name]()
    step = type(model).training_step
    losses: list[Tensor] = []

    def watched(*given: Any) -> dict[str, Tensor]:
        terms = step(*given)
        losses.extend(terms.values())
        return terms

    monkeypatch.setattr(type(model), "training_step", watched)
    seen = convolutions(model)
    history = fit(
        model, data, 1, precision="bf16-mixed", accelerator="cpu", batch_size=8, progress=False
    )
    assert {one.dtype for one in losses} == {torch.float32}
    assert torch.bfloat16 in seen
    terms = history.select_dtypes(float).to_numpy()
    assert np.isfinite(terms).all()
    assert all(p.dtype == torch.float32 for p in model.parameters())
    out = model(model.preprocess(data.test[0].image[None]))
    assert out.logits.dtype == torch.float32  # a trained model answers in full


def test_a_student_too(data: Data) -> None:
    torch.manual_seed(0)
    student = ReverseDistillation(BACKBONE)
    seen = convolutions(student)
    history = fit_detector(
        student, data, 1, precision="bf16-mixed", accelerator="cpu", batch_size=8, progress=False
    )
    assert torch.bfloat16 in seen
    assert np.isfinite(history["distillation"]).all()
    assert student.level_maps(torch.rand(1, 3, 64, 64))[0].dtype == torch.float32


def test_full_precision_is_not_touched(data: Data) -> None:
    torch.manual_seed(0)
    model = MODELS["S5"]()
    seen = convolutions(model)
    fit(model, data, 1, accelerator="cpu", batch_size=8, progress=False)
    assert set(seen) == {torch.float32}


def test_full() -> None:
    for kind, wanted in (
        (torch.float16, torch.float32), (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32), (torch.float64, torch.float64),
    ):  # fmt: skip
        values = torch.ones(2, dtype=kind)
        assert full(values).dtype == wanted
        assert (full(values) is values) is (kind == wanted)
