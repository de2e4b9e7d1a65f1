"""The five methods on our own network, and the randomisation check for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gainmtl.explanation.gradient import Target, grad_cam
from gainmtl.explanation.methods import (
    METHODS,
    explain,
    head_logits,
    layers_top_down,
    randomisation_check,
    randomise_top_down,
    shuffle_,
)
from gainmtl.metrics.agreement import rank_correlation
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
def test_every_method_returns_a_map_on_the_grid(
    method: str, model: GAINMTL, images: Tensor
) -> None:
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
def test_a_loss_on_the_map_has_a_gradient_for_the_first_layer(
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


def test_the_deciding_head_is_explained(images: Tensor) -> None:
    model = GAINMTL("test_efficientnet", "S5").eval()
    with torch.no_grad():
        features = model.features(images)
        assert torch.equal(head_logits(model, features), model(images).logits)


def test_unknown_method(model: GAINMTL, images: Tensor) -> None:
    with pytest.raises(ValueError, match="expected one of cam, grad_cam, .* got 'gradcam'"):
        explain(model, images, "gradcam")


@pytest.mark.parametrize(
    ("given", "found"),
    [("x.png", "str"), (np.zeros((8, 8, 3)), "ndarray"), (torch.zeros(3, 8, 8), r"\(3, 8, 8\)")],
)
def test_what_is_no_batch_of_images(model: GAINMTL, given: Any, found: str) -> None:
    with pytest.raises(ValueError, match=rf"images \(B, 3, H, W\), normalised .*, got {found}; "):
        explain(model, given)


def test_correlations_start_at_one_and_the_model_is_unchanged(
    model: GAINMTL, images: Tensor
) -> None:
    before = explain(model, images).raw
    found = randomisation_check(model, images, ("cam", "grad_cam"), stops=3)
    assert [one.method for one in found] == ["cam", "grad_cam"]
    for one in found:
        assert one.share[0] == 0.0
        assert one.share[-1] == 1.0
        assert one.correlation[0] == 1.0
        assert len(one.share) == len(one.correlation) == 4
        assert all(0 <= value <= 1 for value in [*one.correlation, one.baseline])
        assert one.correlation[-1] < 0.99
    assert torch.equal(explain(model, images).raw, before)
    with pytest.raises(ValueError, match="at least two images"):
        randomisation_check(model, images[:1])


# The randomisation check


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 2, 1))


def test_order_is_from_the_output_to_the_input() -> None:
    assert layers_top_down(small()) == ["3", "1", "0"]
    names = layers_top_down(GAINMTL("test_efficientnet", "S1", output_stride=4))
    assert names[0] == "head"
    assert names[1].startswith("pyramid")
    assert names[-1].startswith("backbone")


def test_shuffling_keeps_the_values_and_pairs_of_a_batch_norm() -> None:
    norm = nn.BatchNorm2d(50)
    norm.weight.data, norm.running_var = torch.arange(50.0), torch.arange(50.0) + 0.5
    shuffle_(norm, torch.Generator().manual_seed(0))
    assert not torch.equal(norm.weight, torch.arange(50.0))
    assert torch.equal(norm.weight.sort().values, torch.arange(50.0))
    assert norm.running_var is not None
    assert torch.equal(norm.running_var, norm.weight + 0.5)


def test_stops_go_from_the_head_to_the_whole_network_and_keep_the_original() -> None:
    model = small()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    changed = []
    for stop in randomise_top_down(model, stops=3):
        state = stop.model.state_dict()
        changed.append({n for n in before if not torch.equal(state[n], before[n])})
        shares = stop.share
    assert "3.weight" in changed[0] <= {"3.weight", "3.bias"}
    assert changed[0] < changed[2]
    assert "0.weight" in changed[2]
    assert shares == 1.0
    assert all(torch.equal(model.state_dict()[n], value) for n, value in before.items())


def test_grad_cam_changes_and_a_map_of_the_image_does_not() -> None:
    torch.manual_seed(1)
    model = small()
    images = torch.rand(4, 3, 20, 20)

    def explained(net: nn.Sequential) -> torch.Tensor:
        return grad_cam(net[:3](images), lambda a: net[3](a).mean((2, 3))).raw

    *_, last = randomise_top_down(model, stops=3)
    assert isinstance(last.model, nn.Sequential)
    learned = rank_correlation(explained(model), explained(last.model)).abs().mean()
    picture = images.mean(1, keepdim=True)
    assert rank_correlation(picture, picture).min() == 1
    assert float(learned) < 0.9


def test_a_model_without_parameters() -> None:
    with pytest.raises(ValueError, match="got 0 layers and 3 stops"):
        next(randomise_top_down(nn.ReLU(), stops=3))


def test_score_cam_with_a_graph_leaves_a_model_in_training_as_it_was(
    model: GAINMTL, images: Tensor
) -> None:
    model.train()
    before = {name: value.clone() for name, value in model.named_buffers()}
    explain(model, images, "score_cam", create_graph=True).raw.square().sum().backward()
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())
    gradient = next(model.backbone.parameters()).grad
    assert gradient is not None
    model.zero_grad()
    model.eval()
    explain(model, images, "score_cam", create_graph=True).raw.square().sum().backward()
    torch.testing.assert_close(next(model.backbone.parameters()).grad, gradient)


@pytest.mark.parametrize("classes", [(1, 1, 1, 1, 1), (1,), 0.5])
@pytest.mark.parametrize("method", ["score_cam", "grad_cam"])
def test_a_target_has_one_class_or_one_for_each_image(
    method: str, classes: Any, model: GAINMTL, images: Tensor
) -> None:
    with pytest.raises(ValueError, match="expected a class, or one for each of 3 images"):
        explain(model, images, method, Target("logit", torch.tensor(classes)))


def test_images_of_another_type_and_a_graph_that_can_not_be_kept(
    model: GAINMTL, images: Tensor
) -> None:
    with pytest.raises(ValueError, match="of type torch.float32, .*float64"):
        explain(model, images.double())
    with torch.inference_mode(), pytest.raises(ValueError, match="expected no inference mode"):
        explain(model, images, "grad_cam", create_graph=True)
