"""The checkpoint of a run: modules, optimizer and metadata in one safetensors file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from gainmtl.files import atomic_path, plain, read_tensors

CHECKPOINT = "checkpoint.safetensors"
"""Name of the file in a run's folder."""


def write_checkpoint(
    path: Path,
    modules: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    meta: Mapping[str, Any],
) -> None:
    """Write `<module>.<key>` and `optimizer.<parameter>.<key>`, and `meta` as JSON, atomically."""
    tensors: dict[str, Tensor] = {}
    for prefix, module in modules.items():
        tensors |= {f"{prefix}.{key}": value for key, value in module.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{key}": value for key, value in state.items()}
    with atomic_path(path) as temporary:
        save_file(
            {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()},
            temporary,
            {"run": json.dumps(plain(dict(meta)))},
        )


class Checkpoint(NamedTuple):
    """The content of a checkpoint file."""

    meta: dict[str, Any]
    tensors: dict[str, Tensor]

    def restore(self, modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer) -> None:
        """Load the tensors into the modules and the optimizer.

        Raises:
            ValueError: tensors of other modules.
        """
        try:
            for name, module in modules.items():
                own = (key for key in self.tensors if key.startswith(f"{name}."))
                module.load_state_dict({k.removeprefix(f"{name}."): self.tensors[k] for k in own})
            state = optimizer.state_dict()
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            for key, value in self.tensors.items():
                kind, _, rest = key.partition(".")
                if kind == "optimizer":
                    index, name = rest.split(".")
                    if value.ndim:  # in the memory layout of its parameter, as in the original run
                        value = torch.empty_like(parameters[int(index)]).copy_(value)
                    state["state"].setdefault(int(index), {})[name] = value
            optimizer.load_state_dict(state)
        except (KeyError, IndexError, RuntimeError, ValueError) as error:
            raise ValueError(
                f"expected a checkpoint that holds the tensors of this run, found others: {error}. "
                "Restore it, or remove it to start over"
            ) from error


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a file of `write_checkpoint`; undefined figures of the history are NaN again.

    Raises:
        ValueError: a damaged file, or another kind of safetensors file.
    """
    tensors, metadata = read_tensors(path)
    try:
        meta = json.loads(metadata["run"])
        meta["history"] = [
            {name: math.nan if value is None else value for name, value in row.items()}
            for row in meta["history"]
        ]
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f"expected the checkpoint of a run in {path}, found a safetensors file without the "
            f"run's history ({type(error).__name__}: {error}); restore it, or remove it to start "
            "over"
        ) from error
    return Checkpoint(meta, tensors)
