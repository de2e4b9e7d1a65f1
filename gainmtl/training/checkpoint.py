"""The checkpoint of a run: modules, optimizer and metadata in one safetensors file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from gainmtl.files import atomic_path, plain

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
        """Load the tensors into the modules and the optimizer."""
        for name, module in modules.items():
            prefix = f"{name}."
            module.load_state_dict(
                {
                    key.removeprefix(prefix): value
                    for key, value in self.tensors.items()
                    if key.startswith(prefix)
                }
            )
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


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a file of `write_checkpoint`."""
    with safe_open(path, framework="pt") as stored:
        meta = json.loads(stored.metadata()["run"])
        return Checkpoint(meta, {key: stored.get_tensor(key) for key in stored.keys()})  # noqa: SIM118
