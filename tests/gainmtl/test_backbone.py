"""Backbone: feature maps, initial weights, freezing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from gainmtl.backbone import Backbone

SMALL = "test_efficientnet"
STRIDES = (2, 4, 8, 16, 32)
MAPS: dict[str, tuple[tuple[int, ...], tuple[int, ...], int]] = {
    # name: strides, channels, channels of the last map (after the final convolution)
    "tf_efficientnetv2_s": (STRIDES, (24, 48, 64, 160, 256), 1280),
    "tf_efficientnetv2_b0": (STRIDES, (16, 32, 48, 112, 192), 1280),
    "mobilenetv2_100": (STRIDES, (16, 24, 32, 96, 320), 1280),
    "resnet50": (STRIDES, (64, 256, 512, 1024, 2048), 2048),
    "convnext_tiny": (STRIDES[1:], (96, 192, 384, 768), 768),
    "tiny_vit_5m_224": (STRIDES[1:], (64, 128, 160, 320), 320),
    SMALL: (STRIDES, (16, 24, 32, 48, 64), 256),
}


@pytest.mark.parametrize("name", MAPS)
def test_maps(name: str) -> None:
    strides, channels, last = MAPS[name]
    backbone = Backbone(name).eval()
    assert (backbone.strides, backbone.channels) == (strides, channels)
    assert (backbone.last_channels, backbone.last_stride) == (last, 32)
    with torch.no_grad():
        features = backbone(torch.rand(1, 3, 64, 96))
    sizes = [(1, c, 64 // s, 96 // s) for c, s in zip(channels, strides, strict=True)]
    assert [tuple(level.shape) for level in features.levels] == sizes
    assert features.last.shape == (1, last, 2, 3)


def test_the_mean_of_the_last_map_is_timms_pooled_feature() -> None:
    backbone = Backbone(SMALL).eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        ours, theirs = backbone(images).last.mean((2, 3)), backbone.timm(images)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_an_unknown_name_gives_similar_ones() -> None:
    with pytest.raises(ValueError, match=r"'mobilnetv2_100'; near names: mobilenetv2_100"):
        Backbone("mobilnetv2_100")
    with pytest.raises(ValueError, match=r"timm\.list_models"):
        Backbone("")


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "mixer_s32_224"])
def test_models_without_a_pyramid(name: str) -> None:
    with pytest.raises(ValueError, match="has no pyramid of feature maps") as caught:
        Backbone(name)
    assert name in str(caught.value)
    assert str(caught.value).count("no pyramid") == 1


def test_unknown_tag() -> None:
    with pytest.raises(ValueError, match=r"test_efficientnet\.nonsense.*nonsense"):
        Backbone("test_efficientnet.nonsense")


def test_create_kwargs_that_the_model_does_not_take() -> None:
    with pytest.raises(ValueError, match=r"does not take \{'wheels': 4\}"):
        Backbone(SMALL, create_kwargs={"wheels": 4})


@pytest.fixture
def weights_file(tmp_path: Path) -> Path:
    """A full timm state dict with the classifier, as in a downloaded file."""
    path = tmp_path / "weights.safetensors"
    save_file(timm.create_model(SMALL).state_dict(), path)
    return path


def test_weights_from_a_file(weights_file: Path) -> None:
    backbone = Backbone(SMALL, str(weights_file))
    stored = load_file(weights_file)
    for name, value in backbone.timm.state_dict().items():
        assert torch.equal(value, stored[name]), name
    assert (backbone.mean, backbone.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_card_beside_the_weights(weights_file: Path) -> None:
    card: dict[str, Any] = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    card["create_kwargs"] = {"output_stride": 16}
    weights_file.with_suffix(".json").write_text(json.dumps(card))
    backbone = Backbone(SMALL, str(weights_file))
    assert (backbone.mean, backbone.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert backbone.last_stride == 16
    assert Backbone(SMALL, str(weights_file), {"output_stride": 8}).last_stride == 8


def test_missing_weights_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file .*absent\.safetensors"):
        Backbone(SMALL, str(tmp_path / "absent.safetensors"))


def test_pickles_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({}, path)
    with pytest.raises(ValueError, match=r"\.safetensors file, got 'weights\.pth'"):
        Backbone(SMALL, str(path))


def test_broken_weights_file(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"not a tensor")
    with pytest.raises(ValueError, match=r"weights\.safetensors \(12 bytes\) is empty, cut or of"):
        Backbone(SMALL, str(path))


def test_weights_of_another_backbone(weights_file: Path) -> None:
    with pytest.raises(ValueError, match=r"does not fit backbone 'test_resnet': \d+ tensors miss"):
        Backbone("test_resnet", str(weights_file))


def test_unreachable_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    create = timm.create_model

    def offline(*args: Any, pretrained: bool = False, **kwargs: Any) -> torch.nn.Module:
        if pretrained:
            raise OSError("connection refused")
        return create(*args, pretrained=pretrained, **kwargs)

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(ConnectionError, match="from the hub") as caught:
        Backbone(SMALL, "imagenet")
    for way_out in ("weights=<path of a .safetensors file>", "weights=None", "weights='package'"):
        assert way_out in str(caught.value)
    Backbone(SMALL)


FREEZABLE = ["test_efficientnet", "test_resnet", "test_convnext", "tiny_vit_5m_224"]


@pytest.mark.parametrize("name", FREEZABLE)
def test_frozen_parameters_and_statistics_do_not_change(name: str) -> None:
    torch.manual_seed(0)
    backbone = Backbone(name)
    stride = backbone.strides[1]
    backbone.freeze(stride)
    backbone.train()
    optimizer = torch.optim.SGD(backbone.parameters(), lr=0.1)
    images = torch.randn(2, 3, 64, 64)
    before = backbone(images)
    before.last.square().mean().backward()
    optimizer.step()
    after = backbone(images)
    for level, (old, new) in enumerate(zip(before.levels, after.levels, strict=True)):
        held = backbone.strides[level] <= stride
        assert torch.equal(old, new) is held, (level, held)
        assert old.requires_grad is not held


def test_freezing_the_statistics_only() -> None:
    backbone = Backbone(SMALL)
    backbone.freeze(0, statistics=True)
    backbone.train()
    buffers = {name: value.clone() for name, value in backbone.named_buffers()}
    backbone(torch.randn(2, 3, 64, 64))
    assert buffers
    assert all(torch.equal(value, buffers[name]) for name, value in backbone.named_buffers())
    assert all(parameter.requires_grad for parameter in backbone.parameters())


def test_unfreezing() -> None:
    backbone = Backbone(SMALL)
    backbone.freeze(8, statistics=True)
    backbone.freeze(0)
    backbone.train()
    assert all(parameter.requires_grad for parameter in backbone.parameters())
    assert all(module.training for module in backbone.modules())


def test_freezing_at_a_missing_stride() -> None:
    with pytest.raises(ValueError, match=r"expected 0 or one of the strides \(2, 4, 8, 16, 32\)"):
        Backbone(SMALL).freeze(3)


@pytest.mark.real_data
@pytest.mark.skipif("GAINMTL_WEIGHTS" not in os.environ, reason="needs GAINMTL_WEIGHTS")
def test_real_weights() -> None:
    path = Path(os.environ["GAINMTL_WEIGHTS"])
    backbone = Backbone(path.stem, str(path))
    stored = load_file(path)
    assert all(torch.equal(v, stored[k]) for k, v in backbone.timm.state_dict().items())
    card = path.with_suffix(".json")
    if card.is_file():
        assert list(backbone.mean) == json.loads(card.read_text())["mean"]


SWIN: dict[str, Any] = {"embed_dim": 16, "depths": (1, 1, 1, 1), "num_heads": (1, 2, 4, 8)}


@pytest.mark.parametrize("size", [128, (256, 256)])
def test_a_backbone_built_for_a_size_of_its_own(size: Any) -> None:
    backbone = Backbone(
        "swin_tiny_patch4_window7_224", create_kwargs={**SWIN, "img_size": size, "window_size": 4}
    )
    assert backbone.strides == (4, 8, 16, 32)


@pytest.mark.parametrize(
    "card",
    ["[]", '{"mean": 0.5}', '{"std": [1, 1, 0]}', '{"mean": [1, 1]}', '{"create_kwargs": 1}'],
)
def test_a_description_that_is_wrong(card: str, weights_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(weights_file.read_bytes())
    path.with_suffix(".json").write_text(card)
    with pytest.raises(ValueError, match=r"weights: expected w\.json to be an object .* remove it"):
        Backbone(SMALL, str(path))
    path.with_suffix(".json").write_text(card[:-1])
    with pytest.raises(
        ValueError, match=r"expected a whole JSON file, but .*w\.json .* is damaged"
    ):
        Backbone(SMALL, str(path))


def test_weights_in_the_home_folder(
    weights_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "w.safetensors").write_bytes(weights_file.read_bytes())
    assert Backbone(SMALL, "~/w.safetensors").is_pretrained
