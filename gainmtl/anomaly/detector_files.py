"""Save and load an anomaly detector: safetensors for the numbers, JSON for everything else."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from gainmtl.anomaly.base import Detector
from gainmtl.anomaly.memory_bank import MemoryBank
from gainmtl.anomaly.reverse_distillation import ReverseDistillation
from gainmtl.files import atomic_path, read_json, write_json

DETECTOR_FORMAT = 1
KINDS: dict[str, type[Any]] = {
    ReverseDistillation.kind: ReverseDistillation,
    MemoryBank.kind: MemoryBank,
}


def save_detector(detector: Detector, path: str | Path, **facts: Any) -> Path:
    """Write `path` (.safetensors, teacher included) and, beside it, the `.json` of the same stem.

    `facts` are kept under that name in the JSON.
    """
    path = Path(path)
    description = {
        "format": DETECTOR_FORMAT,
        "kind": detector.kind,
        "config": detector.config,
        "create_kwargs": detector.teacher.create_kwargs,
        "initial_weights": detector.teacher.initial_weights,
        "mean": detector.teacher.mean,
        "std": detector.teacher.std,
        "threshold": detector.threshold,
        "spread": detector.spread,
        "image_size": detector.image_size,
        "resize": detector.resize,
        "facts": facts,
    }
    state = {k: v.detach().cpu().contiguous().clone() for k, v in detector.state_dict().items()}
    with atomic_path(path) as temporary:
        save_file(state, temporary)
    write_json(path.with_suffix(".json"), description)
    return path


def load_detector(path: str | Path) -> Any:
    """Read a detector that `save_detector` wrote; in evaluation mode, on the CPU.

    Raises:
        FileNotFoundError: the file or the JSON beside it is missing.
        ValueError: the JSON is not of a known format, or the tensors don't fit it.
    """
    path = Path(path)
    for needed in (path, path.with_suffix(".json")):
        if not needed.is_file():
            raise FileNotFoundError(f"load_detector: there is no file {needed}")
    stored = read_json(path.with_suffix(".json"))
    if not isinstance(stored, dict) or stored.get("format") != DETECTOR_FORMAT:
        raise ValueError(
            f"load_detector: {path.with_suffix('.json').name} is no description of a detector of "
            f"format {DETECTOR_FORMAT}; a classifier is read by gainmtl.load"
        )
    config = {k: tuple(v) if isinstance(v, list) else v for k, v in stored["config"].items()}
    detector = KINDS[stored["kind"]](**config, create_kwargs=stored["create_kwargs"] or None)
    try:
        detector.load_state_dict(load_file(path))
    except (RuntimeError, SafetensorError) as error:
        raise ValueError(
            f"load_detector: the tensors of {path.name} don't fit its .json: {error}"
        ) from error
    teacher = detector.teacher
    teacher.mean, teacher.std = tuple(stored["mean"]), tuple(stored["std"])
    teacher.initial_weights = stored["initial_weights"]
    for name in ("threshold", "spread"):
        value = stored[name]
        setattr(detector, name, math.nan if value is None else float(value))
    detector.image_size, detector.resize = stored["image_size"], stored["resize"]
    # The layout it was trained in, so that it answers as it did to the last bit.
    return detector.to(memory_format=torch.channels_last).eval()
