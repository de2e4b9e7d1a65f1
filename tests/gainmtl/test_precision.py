"""Mixed precision: convolutions in half precision; losses, maps and logits in float32."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gainmtl import fit
from gainmtl.anomaly.fitting import fit_detector
from gainmtl.anomaly.reverse_distillation import ReverseDistillation
from gainmtl.attention import GuidedAttention
from gainmtl.baselines.attention_branch import AttentionBranchNetwork
from gainmtl.baselines.fcos import BoxDetector
from gainmtl.baselines.unet import UNet
from gainmtl.datasets import Data, load
from gainmtl.fostering import layer_map
from gainmtl.heads import LinearHead, LocalizationHead
from gainmtl.interface import DefectModel
from gainmtl.model import GAINMTL
from gainmtl.precision import batch_to_float32, to_float32
from gainmtl.strategies import foster
from gainmtl.types import collate

BACKBONE = "test_efficientnet"


@pytest.fixture(scope="module")
def data() -> Data:
    return load("synthetic", image_size=64, train=16, val=8, test=8)


def convolutions(model: nn.Module) -> list[torch.dtype]:
    """A list that collects the dtypes of all further outputs of convolutions."""
    dtypes: list[torch.dtype] = []

    def record(module: nn.Module, inputs: object, output: Tensor) -> None:
        dtypes.append(output.dtype)

    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(record)
    return dtypes


MODELS: dict[str, Callable[[], DefectModel]] = {
    "S1": lambda: GAINMTL(BACKBONE, "S1"),
    "S5": lambda: GAINMTL(BACKBONE, "S5"),
    "S6": lambda: GAINMTL(BACKBONE, "S6"),
    "fostered": lambda: GAINMTL(BACKBONE, foster("S1", 1.0), output_stride=4),
    "second order": lambda: GAINMTL(BACKBONE, foster("S1", 1.0, layer=16), output_stride=4),
    "attention branch": lambda: AttentionBranchNetwork(BACKBONE, output_stride=4),
    "U-Net": lambda: UNet(BACKBONE),
    "detector": lambda: BoxDetector(BACKBONE),
}


@pytest.mark.parametrize("name", MODELS)
def test_convolutions_in_half_precision_and_losses_in_float32(
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
    assert out.logits.dtype == torch.float32


def test_reverse_distillation_in_mixed_precision(data: Data) -> None:
    torch.manual_seed(0)
    student = ReverseDistillation(BACKBONE)
    seen = convolutions(student)
    history = fit_detector(
        student, data, 1, precision="bf16-mixed", accelerator="cpu", batch_size=8, progress=False
    )
    assert torch.bfloat16 in seen
    assert np.isfinite(history["distillation"]).all()
    assert student.level_maps(torch.rand(1, 3, 64, 64))[0].dtype == torch.float32


def test_32_true_computes_everything_in_float32(data: Data) -> None:
    torch.manual_seed(0)
    model = MODELS["S5"]()
    seen = convolutions(model)
    fit(model, data, 1, accelerator="cpu", batch_size=8, progress=False)
    assert set(seen) == {torch.float32}


def test_to_float32() -> None:
    for kind, wanted in (
        (torch.float16, torch.float32), (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32), (torch.float64, torch.float64),
    ):  # fmt: skip
        values = torch.ones(2, dtype=kind)
        assert to_float32(values).dtype == wanted
        assert (to_float32(values) is values) is (kind == wanted)


def test_the_last_product_is_not_rounded() -> None:
    """Under autocast the output of a head is that of float32 for the same features."""
    torch.manual_seed(0)
    features = torch.randn(2, 16, 8, 8).bfloat16().float()
    head = LinearHead(16)
    attention, localization = GuidedAttention(16), LocalizationHead(16)
    inside = {
        "attention": (attention.features, attention.logits),
        "localization": (localization.features, localization.logits),
    }
    exactly = head(features)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        assert torch.equal(head(features).class_cam, exactly.class_cam)
        for name, (before, last) in inside.items():
            hidden = before(features)
            with torch.autocast("cpu", enabled=False):
                wanted = last(to_float32(hidden))
            if name == "attention":
                found = attention(features) * attention.temperature
            else:
                found = localization(features, (8, 8))
            assert torch.allclose(found, wanted, atol=1e-6), name
            assert not torch.equal(wanted, wanted.bfloat16().float())


def test_a_layer_map_is_summed_in_float32() -> None:
    torch.manual_seed(0)
    layer = torch.randn(1, 64, 16, 16, requires_grad=True)
    weight = torch.randn(64)
    with torch.autocast("cpu", torch.bfloat16):
        half = layer.bfloat16()
        half.retain_grad()
        score = (half.float().mean((2, 3)) * weight).sum(1)
        found = layer_map(score, half)
    wanted = (weight[None, :, None, None] * half.float()).sum(1, keepdim=True)
    assert found.dtype == torch.float32
    assert torch.allclose(found, wanted, rtol=0, atol=0.02 * float(wanted.detach().abs().max()))


@pytest.mark.parametrize("name", MODELS)
def test_a_batch_in_half_precision(name: str, data: Data) -> None:
    """Fabric converts the batch to half precision for several devices."""
    torch.manual_seed(0)
    model = MODELS[name]().train()
    batch = collate([data.train[i] for i in range(8)])
    halved = batch._replace(image=batch.image.bfloat16(), mask=batch.mask.bfloat16())
    for progress in (0.1, 0.9):
        with torch.autocast("cpu", torch.bfloat16):
            terms = model.training_step(halved, progress)
        assert {value.dtype for value in terms.values()} == {torch.float32}
        assert all(torch.isfinite(value) for value in terms.values())


def test_every_image_of_a_batch_becomes_float32(data: Data) -> None:
    batch = collate([data.train[i]._replace(twin=data.train[i].image) for i in range(2)])
    assert batch.twin is not None
    image, mask, twin = (x.bfloat16() for x in (batch.image, batch.mask, batch.twin))
    restored = batch_to_float32(batch._replace(image=image, mask=mask, twin=twin))
    for name in ("image", "mask", "twin"):
        assert getattr(restored, name).dtype == torch.float32
        assert torch.allclose(getattr(restored, name), getattr(batch, name), atol=0.01)


def test_outputs_of_baselines_are_float32(data: Data) -> None:
    torch.manual_seed(0)
    images = torch.rand(2, 3, 64, 64)
    network = AttentionBranchNetwork(BACKBONE, output_stride=4)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        assert UNet(BACKBONE).map_logits(images).dtype == torch.float32
        outputs, _, _ = BoxDetector(BACKBONE)._head_outputs(images)
        assert {values.dtype for values in outputs.values()} == {torch.float32}
        branch = network.encode(images).branch
        assert {value.dtype for value in branch} == {torch.float32}
