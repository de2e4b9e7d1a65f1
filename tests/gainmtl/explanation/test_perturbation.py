"""Score-CAM: by hand, one image and channel at a time, and against pytorch-grad-cam."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from pytorch_grad_cam import ScoreCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

from gainmtl.explanation.gradient import Target
from gainmtl.explanation.perturbation import channel_windows, score_cam
from gainmtl.model import GAINMTL


def test_windows_by_hand() -> None:
    maps = torch.tensor([[[[1.0, 3.0]]], [[[2.0, 2.0]]]])
    found = channel_windows(maps, (1, 4))
    torch.testing.assert_close(found[0], torch.tensor([[[0.0, 0.25, 0.75, 1.0]]]))
    assert not found[1].any()


def test_by_hand() -> None:
    """Each of two channels shows one half of the image; the network sums the pixels."""
    images = torch.tensor([[[[1.0, 3.0]]]])
    features = torch.tensor([[[[5.0, 0.0]], [[0.0, 2.0]]]])

    def network(x: Tensor) -> Tensor:
        seen = x.sum((1, 2, 3))
        return torch.stack([torch.zeros_like(seen), seen], dim=1)

    found = score_cam(images, features, network)
    weights = torch.tensor([[1.0, 3.0]]).softmax(1)
    torch.testing.assert_close(found.weights, weights)
    expected = torch.tensor([[[[5 * weights[0, 0], 2 * weights[0, 1]]]]])
    torch.testing.assert_close(found.raw, expected)


def one_by_one(images: Tensor, features: Tensor, model: Any, classes: Tensor) -> Tensor:
    """The definition, without chunks, batches or left-out channels."""
    maps = []
    for image, stack, c in zip(images, features, classes, strict=True):
        empty = model(torch.zeros_like(image)[None])[0, c]
        gains = []
        for channel in stack:
            window = channel_windows(channel[None, None], (image.shape[1], image.shape[2]))
            gains.append(model(image[None] * window)[0, c] - empty)
        weights = torch.stack(gains).softmax(0)
        maps.append((weights[:, None, None] * stack).sum(0)[None])
    return torch.stack(maps)


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_chunks_and_left_out_channels_change_nothing(chunk: int) -> None:
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=3).eval()
    images, classes = torch.randn(2, 3, 64, 64), torch.tensor([2, 0])
    with torch.no_grad():
        features = model.forward_features(images)[:, :12].contiguous()
        features[0, 3] = 0.0  # a dead channel, and one that is constant but not 0
        features[1, 5] = 2.0
        expected = one_by_one(images, features, model, classes)
    found = score_cam(images, features, model, Target("logit", classes), chunk=chunk)
    torch.testing.assert_close(found.raw, expected, atol=1e-5, rtol=1e-4)
    assert found.weights is not None
    torch.testing.assert_close(found.weights.sum(1), torch.ones(2))
    assert not found.raw.requires_grad


def test_number_of_passes_is_that_of_non_constant_channels_plus_one() -> None:
    seen = []

    def network(x: Tensor) -> Tensor:
        seen.append(len(x))
        return x.mean((2, 3))[:, :2]

    features = torch.rand(2, 5, 3, 3)
    features[0, 1] = 0.0
    score_cam(torch.randn(2, 3, 8, 8), features, network, chunk=4)
    assert seen == [1, 4, 4, 1]


def test_channels_last_gives_the_same() -> None:
    torch.manual_seed(1)
    model = timm.create_model("test_efficientnet", num_classes=2).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        features = model.forward_features(images)
    other = images.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        found = score_cam(images, features, model)
        torch.testing.assert_close(score_cam(other, features, model).raw, found.raw)


def test_against_pytorch_grad_cam() -> None:
    torch.manual_seed(2)
    model = timm.create_model("test_efficientnet", num_classes=4).eval()
    # Logits of a fresh network hardly differ, and the softmax would hide any mistake.
    model.classifier.weight.data *= 1000
    images, classes, kept = torch.randn(3, 3, 64, 64), [0, 3, 1], []

    class Kept(ScoreCAM):  # type: ignore[misc]
        def get_cam_image(self, *arguments: Any, **keywords: Any) -> Any:
            kept.append(super().get_cam_image(*arguments, **keywords))
            return kept[-1]

    with torch.no_grad(), Kept(model=model, target_layers=[model.bn2]) as cam:
        cam(input_tensor=images, targets=[ClassifierOutputTarget(c) for c in classes])
    theirs = torch.from_numpy(kept[0])[:, None]
    with torch.no_grad():
        features = model.forward_features(images)
    target = Target("logit", torch.tensor(classes))
    ours = score_cam(images, features, model, target, align_corners=True)
    assert ours.weights is not None
    assert float(ours.weights.max()) > 2 / features.shape[1]
    torch.testing.assert_close(ours.raw, theirs, atol=1e-4, rtol=1e-4)


def test_a_loss_on_the_map_has_the_gradient_of_finite_differences() -> None:
    torch.manual_seed(3)
    trunk = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.Softplus()).double()
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).double()
    images = torch.randn(2, 3, 9, 9, dtype=torch.float64)
    wanted = torch.rand(2, 1, 4, 4, dtype=torch.float64)

    def loss() -> Tensor:
        found = score_cam(
            images, trunk(images), lambda x: head(trunk(x)), chunk=3, create_graph=True
        )
        return ((found.map - wanted) ** 2).sum()

    parameters = [*trunk.parameters(), head[2].weight]
    gradients = torch.autograd.grad(loss(), parameters)
    assert float(gradients[-1].abs().max()) > 0  # through the softmax, not the features alone
    steps = [torch.randn_like(p) for p in parameters]
    slope = sum(float((g * s).sum()) for g, s in zip(gradients, steps, strict=True))
    values = []
    for sign in (1, -2):
        with torch.no_grad():
            for parameter, step in zip(parameters, steps, strict=True):
                parameter += sign * 1e-6 * step
        values.append(loss().item())
    assert slope == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-4)


def test_impossible_arguments() -> None:
    images, features = torch.randn(2, 3, 8, 8), torch.rand(2, 4, 2, 2)
    with pytest.raises(ValueError, match="images .* and their features"):
        score_cam(images, features[:1], lambda x: x)
    with pytest.raises(ValueError, match="chunk: expected at least one"):
        score_cam(images, features, lambda x: x, chunk=0)


def test_on_our_network_the_map_is_on_the_evidence_grid() -> None:
    torch.manual_seed(4)
    model = GAINMTL("test_efficientnet", "S1", output_stride=4).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        features = model.features(images)
        found = score_cam(
            images, features, lambda x: model.classify(model.features(x)).output.logits
        )
    assert found.map.shape == (1, 1, 16, 16)
