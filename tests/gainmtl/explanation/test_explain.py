"""The five methods on our own network, and the randomisation check for them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gainmtl.explanation.gradient import Target
from gainmtl.explanation.methods import METHODS, explain, head_logits, survival
from gainmtl.model import GAINMTL


@pytest.fixture
def model() -> GAINMTL:
    torch.manual_seed(0)
    return GAINMTL("test_efficientnet", "S1", output_stride=8, width=8).eval()


@pytest.fixture
def images() -> Tensor:
    return torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def test_cam_is_the_models_own_map(model: GAINMTL, images: Tensor) -> None:
    with torch.no_grad():
        assert torch.equal(explain(model, images).raw, model(images).cam)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_a_map_on_the_grid(method: str, model: GAINMTL, images: Tensor) -> None:
    found = explain(model, images, method)
    assert found.raw.shape == (3, 1, 8, 8)
    assert not found.raw.requires_grad
    assert float(found.map.min()) >= 0
    alone = torch.cat([explain(model, image[None], method).raw for image in images])
    torch.testing.assert_close(found.raw, alone, atol=1e-5, rtol=1e-4)


def test_grad_cam_is_cam_over_the_cells_with_log_mean_exp_too(
    model: GAINMTL, images: Tensor
) -> None:
    assert model.pooling == "lse"
    cam = explain(model, images).map
    torch.testing.assert_close(explain(model, images, "grad_cam").map * 64, cam)


@pytest.mark.parametrize("method", METHODS)
def test_a_loss_on_the_map_reaches_the_first_layer(
    method: str, model: GAINMTL, images: Tensor
) -> None:
    found = explain(model, images[:1], method, create_graph=True)
    found.raw.square().sum().backward()
    first = next(model.backbone.parameters()).grad
    assert first is not None
    assert torch.isfinite(first).all()
    assert first.abs().max() > 0


def test_with_several_defect_types_the_most_probable_is_explained(images: Tensor) -> None:
    torch.manual_seed(2)
    kinds = ("normal", "crack", "stain")
    model = GAINMTL("test_efficientnet", "S1", num_classes=3, classes=kinds).eval()
    with torch.no_grad():
        out = model(images)
        best = out.logits[:, 1:].argmax(1) + 1
        assert torch.equal(explain(model, images).raw, out.cam)
        own = explain(model, images, "grad_cam").raw
        said = explain(model, images, "grad_cam", Target("evidence", best)).raw
    assert torch.equal(own, said)
    torch.testing.assert_close(own.relu() * 4, out.cam.relu(), atol=1e-5, rtol=1e-4)


def test_the_deciding_head_is_the_one_explained(images: Tensor) -> None:
    model = GAINMTL("test_efficientnet", "S5").eval()
    with torch.no_grad():
        features = model.features(images)
        assert torch.equal(head_logits(model, features), model(images).logits)


def test_unknown_method(model: GAINMTL, images: Tensor) -> None:
    with pytest.raises(ValueError, match="expected one of cam, grad_cam, .* got 'gradcam'"):
        explain(model, images, "gradcam")


def test_survival_starts_at_one_and_leaves_the_model_alone(model: GAINMTL, images: Tensor) -> None:
    before = explain(model, images).raw
    found = survival(model, images, ("cam", "grad_cam"), stops=3)
    assert [one.method for one in found] == ["cam", "grad_cam"]
    for one in found:
        assert one.share[0] == 0.0
        assert one.share[-1] == 1.0
        assert one.resemblance[0] == 1.0
        assert len(one.share) == len(one.resemblance) == 4
        assert all(0 <= value <= 1 for value in [*one.resemblance, one.strangers])
        assert one.resemblance[-1] < 0.99
    assert torch.equal(explain(model, images).raw, before)
    with pytest.raises(ValueError, match="at least two images"):
        survival(model, images[:1])
