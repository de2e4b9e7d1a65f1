"""Save and load a model: safetensors for the numbers, JSON for everything else."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from gainmtl.files import atomic_path, read_json, write_json
from gainmtl.interface import Inspector
from gainmtl.losses import LossWeights
from gainmtl.model import GAINMTL
from gainmtl.strategies import Strategy, Window

FORMAT = 3
"""Format 1 gated the attended features by `sigmoid(M)` instead of `1 + sigmoid(M)`; format 2 did
not say which weights training began from."""


_LATER = (
    "focal_gamma",
    "localization_loss",
    "fostering_measure",
    "fostering_layer",
    "fostering_zero",
    "fostering_normal",
    "fostering_certain",
    "copy_paste",
)
_LATER_WEIGHTS = ("fostering", "attention_branch")
"""Fields of a strategy and of its weights that came after format 3: left out at their defaults,
so that a run begun before them is still the same run."""


def strategy_to_dict(strategy: Strategy) -> dict[str, Any]:
    """A strategy as JSON."""
    defaults = {f.name: f.default for f in dataclasses.fields(strategy) if f.name in _LATER}
    stored = {
        name: value
        for name, value in dataclasses.asdict(strategy).items()
        if name not in defaults or value != defaults[name]
    }
    stored["weights"] = {
        name: value
        for name, value in stored["weights"].items()
        if name not in _LATER_WEIGHTS or value != 0
    }
    return stored


def strategy_from_dict(stored: dict[str, Any]) -> Strategy:
    """The inverse of `strategy_to_dict`."""
    windows = tuple((term, Window(**window)) for term, window in stored["windows"])
    return Strategy(**{**stored, "weights": LossWeights(**stored["weights"]), "windows": windows})


def contiguous_state(model: Inspector) -> dict[str, Tensor]:
    """The state dict as safetensors takes it: on the CPU, contiguous, nothing shared."""
    return {k: v.detach().cpu().contiguous().clone() for k, v in model.state_dict().items()}


def save(model: Inspector, path: str | Path) -> Path:
    """Write `path` (.safetensors) and, beside it, the `.json` that `load` needs.

    The JSON holds the architecture, the strategy, the threshold, the image size and the
    normalisation; each file is written atomically.
    """
    path = _tensor_path(path)
    description = {
        "format": FORMAT,
        **describe_kind(model),
        "model": model.config,
        "strategy": strategy_to_dict(model.strategy),
        "mean": model.backbone.mean,
        "std": model.backbone.std,
        "threshold": model.threshold,
        "image_size": model.image_size,
        "resize": model.resize,
        "create_kwargs": model.backbone.create_kwargs,
        "initial_weights": model.backbone.initial_weights,
    }
    with atomic_path(path) as temporary:
        save_file(contiguous_state(model), temporary)
    write_json(path.with_suffix(".json"), description)
    return path


def describe_kind(model: Inspector) -> dict[str, Any]:
    """`{"kind": …}` of a system that is no `GAINMTL`, which needs no word for itself."""
    return {"kind": model.kind} if model.kind else {}


def class_of(kind: str) -> Any:
    """The class of a kind of system; `""` is `GAINMTL`."""
    # On demand: a compared system may need a library that the package does without.
    if kind == "":
        return GAINMTL
    if kind == "unet":
        from gainmtl.baselines.unet import UNet

        return UNet
    if kind == "detector":
        from gainmtl.baselines.detector import Detector

        return Detector
    raise ValueError(f"unknown kind {kind!r} of system: expected none, unet or detector")


def load(path: str | Path) -> GAINMTL:
    """Read a `GAINMTL` that `save` wrote; in evaluation mode, on the CPU.

    Raises:
        FileNotFoundError: the file or the JSON beside it is missing.
        ValueError: the JSON is not of a known format, the tensors don't fit it, or the file holds
            another kind of system.
    """
    model = load_any(path)
    if not isinstance(model, GAINMTL):
        raise ValueError(
            f"load: {Path(path).name} holds a {type(model).__name__}, which has no evidence map; "
            "gainmtl.io.load_any reads any kind of system"
        )
    return model


def load_any(path: str | Path) -> Inspector:
    """Read any kind of system that `save` wrote; as `load`."""
    path = _tensor_path(path)
    for needed in (path, path.with_suffix(".json")):
        if not needed.is_file():
            raise FileNotFoundError(
                f"load: there is no file {needed}; a saved model is a .safetensors file with a "
                ".json of the same stem, both written by gainmtl.save"
            )
    stored = read_json(path.with_suffix(".json"))
    if not isinstance(stored, dict) or stored.get("format") != FORMAT:
        raise ValueError(
            f"load: {path.with_suffix('.json').name} is not a model description of format "
            f"{FORMAT}; it must be the .json that gainmtl.save wrote"
        )
    config = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in stored["model"].items()
    }
    model: Inspector = class_of(stored.get("kind", ""))(
        strategy=strategy_from_dict(stored["strategy"]),
        create_kwargs=stored["create_kwargs"],
        **config,
    )
    try:
        model.load_state_dict(load_file(path))
    except (RuntimeError, SafetensorError) as error:
        raise ValueError(
            f"load: the tensors of {path.name} don't fit its .json: {error}"
        ) from error
    model.backbone.mean, model.backbone.std = tuple(stored["mean"]), tuple(stored["std"])
    model.backbone.initial_weights = stored["initial_weights"]
    model.threshold = float(stored["threshold"])
    model.image_size, model.resize = stored["image_size"], stored["resize"]
    return model.eval()


def _tensor_path(path: str | Path) -> Path:
    path = Path(path)
    return path if path.suffix == ".safetensors" else path.with_name(path.name + ".safetensors")
