"""Gradient maps: by hand, against the class activation map, and against pytorch-grad-cam."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import timm
import torch
from pytorch_grad_cam import GradCAM, GradCAMPlusPlus, HiResCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

from gainmtl.cam import POOLINGS, class_activation_map
from gainmtl.explanation.gradient import (
    LIBRARY_EPSILON,
    Explanation,
    Target,
    grad_cam,
    grad_cam_plus_plus,
    hires_cam,
    over_maximum,
    score_gradient,
)
from gainmtl.heads import LinearHead
from gainmtl.model import GAINMTL

METHODS: dict[str, Callable[..., Explanation]] = {
    "grad_cam": grad_cam,
    "grad_cam_plus_plus": grad_cam_plus_plus,
    "hires_cam": hires_cam,
}
LIBRARY = {"grad_cam": GradCAM, "grad_cam_plus_plus": GradCAMPlusPlus, "hires_cam": HiResCAM}
each_method = pytest.mark.parametrize("method", METHODS)


def mean_head(weight: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda features: features.mean((2, 3)) @ weight.T


# Two channels on a grid of two cells, and a head with one weight for each.
FEATURES = torch.tensor([[[[4.0, 0.0]], [[2.0, 6.0]]]])
WEIGHT = torch.tensor([[0.0, 0.0], [2.0, -1.0]])


def test_grad_cam_by_hand() -> None:
    found = grad_cam(FEATURES, mean_head(WEIGHT))
    assert found.weights is not None
    assert torch.equal(found.weights, torch.tensor([[1.0, -0.5]]))  # w / N
    assert torch.equal(found.raw, torch.tensor([[[[3.0, -3.0]]]]))
    assert torch.equal(found.map, torch.tensor([[[[3.0, 0.0]]]]))


def test_grad_cam_plus_plus_by_hand() -> None:
    found = grad_cam_plus_plus(FEATURES, mean_head(WEIGHT))
    # g = 1 in both cells of channel 0 and S = 4: two times 1 / (2 + 4). Channel 1 speaks against.
    assert found.weights is not None
    torch.testing.assert_close(found.weights, torch.tensor([[1 / 3, 0.0]]))
    torch.testing.assert_close(found.raw, torch.tensor([[[[4 / 3, 0.0]]]]))
    # 2 g^2 + S g^3 + epsilon = 2 + 4 + 2
    with_epsilon = grad_cam_plus_plus(FEATURES, mean_head(WEIGHT), epsilon=2.0)
    torch.testing.assert_close(with_epsilon.weights, torch.tensor([[2 / 8, 0.0]]))


def test_grad_cam_plus_plus_is_the_papers_closed_form_for_exp() -> None:
    """alpha from the second and third derivative of exp(z), by automatic differentiation."""
    torch.manual_seed(0)
    features = torch.rand(1, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, dtype=torch.float64)
    score = (features.mean((2, 3)) @ weight).exp().sum()
    (first,) = torch.autograd.grad(score, features, create_graph=True)
    second, third = torch.zeros_like(first), torch.zeros_like(first)
    for place in np.ndindex(*features.shape):
        (row,) = torch.autograd.grad(first[place], features, create_graph=True)
        second[place] = row[place].detach()
        third[place] = torch.autograd.grad(row[place], features, retain_graph=True)[0][place]
    first = first.detach()
    mass = features.detach().sum((2, 3), keepdim=True)
    alpha = second / (2 * second + mass * third)
    expected = (alpha * first.relu()).sum((2, 3)) / score.detach()
    rows = torch.stack([torch.zeros_like(weight), weight])
    found = grad_cam_plus_plus(features.detach(), mean_head(rows))
    assert found.weights is not None
    torch.testing.assert_close(found.weights, expected.detach())


def test_hires_cam_by_hand() -> None:
    def first_cell(features: Tensor) -> Tensor:
        evidence = (WEIGHT[1][:, None, None] * features).sum(1)[:, 0, 0]
        return torch.stack([torch.zeros_like(evidence), evidence], dim=1)

    # Only the first cell votes: 2 * 4 - 1 * 2 there; averaged over both cells it is half.
    assert torch.equal(hires_cam(FEATURES, first_cell).raw, torch.tensor([[[[6.0, 0.0]]]]))
    assert torch.equal(grad_cam(FEATURES, first_cell).raw, torch.tensor([[[[3.0, -3.0]]]]))


def test_targets_by_hand() -> None:
    logits = torch.tensor([[1.0, 3.0, 0.0], [0.0, -1.0, 2.0]])
    assert Target()(logits).tolist() == [2.0, -1.0]
    assert Target("logit", 2)(logits).tolist() == [0.0, 2.0]
    assert Target("logit", torch.tensor([1, 2]))(logits).tolist() == [3.0, 2.0]
    assert Target("logit", torch.tensor([1, 2]))(logits[1:], torch.tensor([1])).tolist() == [2.0]
    torch.testing.assert_close(Target("probability")(logits), logits.softmax(1)[:, 1])


def test_a_certain_network_has_no_gradient_of_its_probability() -> None:
    sure = mean_head(torch.tensor([[0.0, 0.0], [40.0, -10.0]]))  # a log-odds of 40
    assert float(grad_cam(FEATURES, sure).map.max()) > 0
    assert not grad_cam(FEATURES, sure, Target("probability")).raw.any()


def test_impossible_arguments() -> None:
    head = mean_head(WEIGHT)
    with pytest.raises(ValueError, match="expected maps"):
        grad_cam(FEATURES[0], head)
    with pytest.raises(ValueError, match="expected classes 0 to 1 for 'logit', got 2 to 2"):
        grad_cam(FEATURES, head, Target("logit", 2))
    with pytest.raises(ValueError, match="expected classes 1 to 1 for 'evidence', got 0 to 0"):
        grad_cam(FEATURES, head, Target("evidence", 0))
    with pytest.raises(ValueError, match="expected one of evidence, logit, probability"):
        grad_cam(FEATURES, head, Target("score"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="logits \\(B, K\\)"):
        grad_cam(FEATURES, lambda a: a.mean((1, 2, 3)))
    with pytest.raises(ValueError, match="got one without a graph"):
        grad_cam(FEATURES, lambda a: head(a.detach()))


@each_method
def test_works_with_gradients_disabled_and_leaves_no_graph(method: str) -> None:
    head = LinearHead(2)
    expected = METHODS[method](FEATURES, lambda a: head(a).logits).raw
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            features = FEATURES.clone()
            found = METHODS[method](features, lambda a: head(a).logits)
        assert torch.equal(found.raw, expected)
        assert not found.raw.requires_grad
    assert head.weight.grad is None


@each_method
def test_images_of_a_batch_are_independent(method: str) -> None:
    torch.manual_seed(1)
    features, head = torch.rand(5, 4, 3, 3), LinearHead(4, pooling="lse").eval()
    whole = METHODS[method](features, lambda a: head(a).logits).raw
    single = [METHODS[method](one[None], lambda a: head(a).logits).raw for one in features]
    torch.testing.assert_close(whole, torch.cat(single))


@pytest.mark.parametrize("pooling", POOLINGS)
def test_grad_cam_is_the_cam_over_its_cells_for_every_pooling(pooling: str) -> None:
    torch.manual_seed(2)
    features, head = torch.randn(4, 6, 5, 7), LinearHead(6, pooling=pooling)
    cells = 5 * 7

    def logits(a: Tensor) -> Tensor:
        return head(a).logits

    cams = head(features).class_cam.detach()
    evidence = cams[:, 1:] - cams[:, :1]
    torch.testing.assert_close(cells * grad_cam(features, logits).raw, evidence)
    plain = grad_cam(features, logits, Target("logit")).raw
    torch.testing.assert_close(cells * plain, cams[:, 1:])
    same = torch.allclose(cells * hires_cam(features, logits).raw, evidence, atol=1e-4)
    assert same == (pooling == "mean")


def test_a_pooling_that_is_not_shift_equivariant_breaks_it() -> None:
    torch.manual_seed(3)
    features, weight = torch.rand(2, 4, 3, 3) + 0.1, torch.randn(2, 4)

    def generalised_mean(a: Tensor) -> Tensor:
        return a.pow(3).mean((2, 3)).pow(1 / 3) @ weight.T

    cam = class_activation_map(features, weight)
    evidence = cam[:, 1:] - cam[:, :1]
    assert not torch.allclose(9 * grad_cam(features, generalised_mean).raw, evidence, atol=1e-2)


@pytest.mark.parametrize("backbone", ["test_efficientnet", "test_resnet", "test_convnext"])
def test_grad_cam_at_the_last_layer_is_the_cam_of_the_network(backbone: str) -> None:
    torch.manual_seed(4)
    model = GAINMTL(backbone, "S1").eval()
    images = torch.randn(3, 3, 96, 96)
    with torch.no_grad():
        features, out = model.features(images), model(images)
    cells = features.shape[2] * features.shape[3]
    found = grad_cam(features, lambda a: model.classify(a).output.logits)
    torch.testing.assert_close(found.map, out.cam.relu() / cells, atol=1e-6, rtol=1e-4)


def test_with_attention_the_map_depends_on_the_layer() -> None:
    """At the features before the attention, the map differs from the CAM after it."""
    torch.manual_seed(5)
    model = GAINMTL("test_efficientnet", "S5").eval()
    with torch.no_grad():
        images = torch.randn(2, 3, 64, 64)
        features, out = model.features(images), model(images)
    cells = features.shape[2] * features.shape[3]
    found = grad_cam(features, lambda a: model.classify(a).output.logits)
    assert not torch.allclose(cells * found.raw, out.cam, atol=1e-3)


@each_method
def test_a_loss_on_the_map_has_the_gradient_of_finite_differences(method: str) -> None:
    torch.manual_seed(6)
    trunk = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.Softplus()).double()
    head = LinearHead(4, pooling="lse").double()
    images = torch.randn(2, 3, 9, 9, dtype=torch.float64)
    wanted = torch.rand(2, 1, 4, 4, dtype=torch.float64)

    def loss() -> Tensor:
        found = METHODS[method](trunk(images), lambda a: head(a).logits, create_graph=True)
        return ((found.map - wanted) ** 2).sum()

    parameters = [*trunk.parameters(), head.weight]
    gradients = torch.autograd.grad(loss(), parameters)
    steps = [torch.randn_like(p) for p in parameters]
    slope = sum(float((g * s).sum()) for g, s in zip(gradients, steps, strict=True))
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            for parameter, step in zip(parameters, steps, strict=True):
                parameter += sign * 1e-6 * step
        values.append(loss().item())
        with torch.no_grad():
            for parameter, step in zip(parameters, steps, strict=True):
                parameter -= sign * 1e-6 * step
    assert abs(slope) > 1e-3
    assert slope == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-5)


def test_without_create_graph_there_is_no_graph() -> None:
    head = LinearHead(2)
    features = FEATURES.clone().requires_grad_()
    cut = score_gradient(features, lambda a: head(a).logits)
    kept = score_gradient(features, lambda a: head(a).logits, create_graph=True)
    assert not cut.requires_grad
    assert kept.requires_grad


def test_over_maximum_keeps_a_dark_map_dark() -> None:
    maps = torch.tensor([[[[0.0, 2.0]]], [[[0.0, 0.0]]]])
    assert torch.equal(over_maximum(maps), torch.tensor([[[[0.0, 1.0]]], [[[0.0, 0.0]]]]))


class Whole(nn.Module):
    """A network with its features as a module, because the library needs one for its hook."""

    def __init__(self, trunk: nn.Module, head: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.trunk, self.head = trunk, head

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.trunk(images))


def library_raw(method: str, whole: Whole, images: Tensor, classes: list[int]) -> Tensor:
    """The map of pytorch-grad-cam before its ReLU, resizing and min-max scaling."""
    kept = []

    class Kept(LIBRARY[method]):  # type: ignore[misc]
        def get_cam_image(self, *arguments: Any, **keywords: Any) -> Any:
            kept.append(super().get_cam_image(*arguments, **keywords))
            return kept[-1]

    with Kept(model=whole, target_layers=[whole.trunk]) as cam:
        cam(input_tensor=images, targets=[ClassifierOutputTarget(c) for c in classes])
    return torch.from_numpy(kept[0])[:, None]


class Trunk(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model.forward_features(images)


@each_method
@pytest.mark.parametrize("backbone", ["test_efficientnet", "test_resnet", "resnet18"])
def test_against_pytorch_grad_cam(method: str, backbone: str) -> None:
    torch.manual_seed(7)
    model = timm.create_model(backbone, num_classes=5).eval()
    images, classes = torch.randn(4, 3, 64, 64), [0, 3, 3, 4]
    theirs = library_raw(method, Whole(Trunk(model), model.forward_head), images, classes)
    with torch.no_grad():
        features = model.forward_features(images)
    extra = {"epsilon": LIBRARY_EPSILON} if method == "grad_cam_plus_plus" else {}
    target = Target("logit", torch.tensor(classes))
    ours = METHODS[method](features, model.forward_head, target, **extra).raw
    assert float(theirs.abs().max()) > 1e-4
    scale = float(theirs.abs().max())
    torch.testing.assert_close(ours / scale, theirs / scale, atol=1e-4, rtol=1e-4)


@each_method
@pytest.mark.parametrize("strategy", ["S1", "S5"])
def test_our_network_against_pytorch_grad_cam(method: str, strategy: str) -> None:
    torch.manual_seed(8)
    model = GAINMTL("test_efficientnet", strategy).eval()

    class Features(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, images: Tensor) -> Tensor:
            return self.model.features(images)

    def head(a: Tensor) -> Tensor:
        return model.classify(a).output.logits

    images = torch.randn(3, 3, 64, 64)
    theirs = library_raw(method, Whole(Features(), head), images, [1, 1, 0])
    with torch.no_grad():
        features = model.features(images)
    extra = {"epsilon": LIBRARY_EPSILON} if method == "grad_cam_plus_plus" else {}
    ours = METHODS[method](features, head, Target("logit", torch.tensor([1, 1, 0])), **extra).raw
    scale = float(theirs.abs().max())
    torch.testing.assert_close(ours / scale, theirs / scale, atol=1e-4, rtol=1e-4)


def test_the_epsilon_of_the_library_dominates_on_a_fine_grid() -> None:
    """With 48 x 48 cells its weights follow the cube of the gradient, not the paper's formula."""
    torch.manual_seed(9)
    features, weight = torch.rand(1, 32, 48, 48), torch.stack([torch.zeros(32), torch.rand(32)])
    exact = grad_cam_plus_plus(features, mean_head(weight)).weights
    library = grad_cam_plus_plus(features, mean_head(weight), epsilon=LIBRARY_EPSILON).weights
    assert exact is not None
    assert library is not None
    cube = weight[1] ** 3
    torch.testing.assert_close(library[0] / library.max(), cube / cube.max(), atol=0.05, rtol=0.1)
    assert not torch.allclose(exact / exact.max(), library / library.max(), atol=0.2)
