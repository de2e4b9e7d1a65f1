"""Save and load a model: safetensors for the tensors, JSON for everything else.

One pair of functions for every kind of model: `GAINMTL`, the baselines, the anomaly detectors.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from gainmtl.backbone import check_normalisation
from gainmtl.files import atomic_path, file_digest, read_json, read_tensors, user_path, write_json
from gainmtl.interface import DefectModel, check_model, check_settings, encoder_of
from gainmtl.losses import LossWeights
from gainmtl.model import GAINMTL
from gainmtl.strategies import Strategy, Window

FORMAT = 3
"""Of classifiers and baselines. Format 1 gated the attended features by `sigmoid(M)` instead of
`1 + sigmoid(M)`; format 2 lacked the digest of the weights that training began from."""
DETECTOR_FORMAT = 1
"""Of anomaly detectors."""

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

_ENTRIES = {
    "format", "kind", "config", "model", "strategy", "spread", "facts", "create_kwargs",
    "initial_weights", "mean", "std", "threshold", "image_size", "resize", "tensors",
}  # fmt: skip
"""Of a description. One of a later version may have others, without which it is another model."""


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


def class_of(kind: str, strategy: Strategy | None = None) -> Any:
    """The class of a saved kind of model.

    A description without a kind, `""`, is of a `GAINMTL`, or of an `AttentionBranchNetwork` if the
    strategy has the term `attention_branch`: files of such networks were written before the class
    existed.

    Raises:
        ValueError: an unknown kind.
    """
    # Imported on demand: each kind may need a library that the others do without.
    if kind == "" and strategy is not None and strategy.weights.attention_branch:
        from gainmtl.baselines.attention_branch import AttentionBranchNetwork

        return AttentionBranchNetwork
    if kind == "":
        return GAINMTL
    if kind == "unet":
        from gainmtl.baselines.unet import UNet

        return UNet
    if kind == "detector":
        from gainmtl.baselines.fcos import BoxDetector

        return BoxDetector
    if kind == "rd":
        from gainmtl.anomaly.reverse_distillation import ReverseDistillation

        return ReverseDistillation
    if kind == "memory-bank":
        from gainmtl.anomaly.memory_bank import MemoryBank

        return MemoryBank
    raise ValueError(
        f"unknown kind {kind!r} of model: expected none, unet, detector, rd or memory-bank"
    )


def describe_kind(model: DefectModel) -> dict[str, Any]:
    """`{"kind": …}`; empty for a `GAINMTL`, whose description has no kind."""
    return {"kind": model.kind} if model.kind else {}


def save(model: nn.Module, path: str | Path, **facts: Any) -> Path:
    """Write `path` (.safetensors) and, beside it, the `.json` of the same stem.

    The JSON holds the constructor's arguments, the strategy, the threshold, the image size, the
    normalisation and the digest of the tensors' file, so that `load` refuses two files of different
    saves; each file is written atomically. `facts`, such as the data that a detector was
    fitted to, are stored in the JSON of an anomaly detector.

    Raises:
        TypeError: neither a classifier nor a detector.
        ValueError: an impossible threshold or image size.
    """
    from gainmtl.anomaly.base import Detector  # on demand: most models are classifiers

    # Impossible settings, too, are refused: `load` would refuse the file.
    check_model("save", model, (DefectModel, Detector), "others have no description to be read by")
    path = _tensor_path(path)
    state = {k: v.detach().cpu().contiguous().clone() for k, v in model.state_dict().items()}
    description = _describe(model)
    if not isinstance(model, DefectModel):
        description["facts"] = facts
    with atomic_path(path) as temporary:
        save_file(state, temporary)
        description["tensors"] = file_digest(temporary)
    write_json(path.with_suffix(".json"), description)
    return path


def _describe(model: Any) -> dict[str, Any]:
    encoder = encoder_of(model)
    common = {
        "create_kwargs": encoder.create_kwargs,
        "initial_weights": encoder.initial_weights,
        "mean": encoder.mean,
        "std": encoder.std,
        "threshold": model.threshold,
        "image_size": model.image_size,
        "resize": model.resize,
    }
    if not isinstance(model, DefectModel):
        specific = {"kind": model.kind, "config": model.config, "spread": model.spread}
        return {"format": DETECTOR_FORMAT, **specific, **common}
    specific = {"model": model.config, "strategy": strategy_to_dict(model.strategy)}
    return {"format": FORMAT, **describe_kind(model), **specific, **common}


def load(path: str | Path) -> Any:
    """Read any model that `save` wrote; in evaluation mode, on the CPU.

    The class of the result is that of the saved model.

    Raises:
        FileNotFoundError: the file or the JSON beside it is missing.
        ValueError: a damaged file, a JSON that is not of a known format or kind, or tensors that
            don't belong to it.
    """
    path = _tensor_path(path)
    try:
        stored = _read_description(path)
        tensors = read_tensors(path).tensors
    except ValueError as error:
        raise ValueError(f"load: {error}") from error
    # Files from before the digest have none.
    if stored.get("tensors") not in (None, file_digest(path)):
        raise ValueError(
            f"load: {path.name} is not the file that {path.stem}.json beside it was written for: "
            "one of them was replaced, or a save was interrupted between the two. Save the model "
            "again, restore both from one copy, or call fit again with the same output_dir"
        )
    try:
        model = _build(stored)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"load: an entry of {path.stem}.json is missing or wrong: {error}; it must be the "
            ".json that gainmtl.save wrote, by this version of gainmtl or an earlier one"
        ) from error
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(
            f"load: the tensors of {path.name} don't fit its .json: {error}"
        ) from error
    if not isinstance(model, DefectModel) or model.image_size is not None:
        # The layout of training: in another one convolutions round differently.
        model = model.to(memory_format=torch.channels_last)
    return model.eval()


def _build(stored: dict[str, Any]) -> Any:
    """A model from a description, everything but the tensors."""
    if unknown := sorted(set(stored) - _ENTRIES):
        raise ValueError(f"unknown entries {', '.join(unknown)}")
    options: dict[str, Any] = {"create_kwargs": stored["create_kwargs"] or None}
    strategy = None
    if "strategy" in stored:
        strategy = strategy_from_dict(stored["strategy"])
        options["strategy"] = strategy
    for name, value in stored["config" if strategy is None else "model"].items():
        options[name] = tuple(value) if isinstance(value, list) else value
    model = class_of(stored.get("kind", ""), strategy)(**options)
    encoder = encoder_of(model)
    encoder.mean, encoder.std = check_normalisation(stored)
    encoder.initial_weights = stored["initial_weights"]
    model.threshold = _number(stored["threshold"])
    model.image_size, model.resize = stored["image_size"], stored["resize"]
    check_settings(model)
    if strategy is None:
        model.spread = float(_number(stored["spread"]))
    return model


def _read_description(path: Path) -> dict[str, Any]:
    """The JSON beside a file of tensors."""
    json_path = path.with_suffix(".json")
    for needed in (path, json_path):
        if not needed.is_file():
            raise FileNotFoundError(
                f"load: there is no file {needed}; a saved model is a .safetensors file with a "
                ".json of the same stem, both written by gainmtl.save"
            )
    stored = read_json(json_path)
    detector = isinstance(stored, dict) and "config" in stored
    expected = DETECTOR_FORMAT if detector else FORMAT
    if not isinstance(stored, dict) or stored.get("format") != expected:
        raise ValueError(
            f"expected a model description of format {FORMAT} (of an anomaly detector: "
            f"{DETECTOR_FORMAT}), but {json_path.name} is none; restore the .json that "
            "gainmtl.save wrote"
        )
    return stored


def _number(value: Any) -> Any:
    """JSON has no NaN; it is stored as null."""
    return math.nan if value is None else value


def _tensor_path(path: str | Path) -> Path:
    """The .safetensors file of a saved model, which may be named by its .json or by their stem."""
    path = user_path(path)
    if path.suffix == ".json":
        return path.with_suffix(".safetensors")
    return path if path.suffix == ".safetensors" else path.with_name(path.name + ".safetensors")
