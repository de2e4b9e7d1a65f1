"""Parts of the training loop: order of samples, learning rates, averaged weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn
from torch.utils.data import Sampler


class EpochSampler(Sampler[int]):
    """A new order every epoch, from seed and epoch alone, so that a resumed run has the same."""

    def __init__(self, length: int, seed: int) -> None:
        self.length, self.seed, self.epoch = length, seed, 0

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 100_003 + self.epoch)
        yield from torch.randperm(self.length, generator=generator).tolist()


def parameter_groups(
    named: Iterable[tuple[str, nn.Parameter]],
    learning_rate: float,
    weight_decay: float,
    backbone_rate: float = 1.0,
) -> list[dict[str, Any]]:
    """Trainable parameters by (backbone or not) and (decayed or not), each with its peak `rate`.

    Only weights of two or more dimensions decay. Parameters whose name begins with `backbone.` have
    `backbone_rate` times the learning rate.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in named:
        if parameter.requires_grad:
            key = (name.startswith("backbone."), parameter.ndim >= 2)
            groups.setdefault(key, []).append(parameter)
    return [
        {
            "params": parameters,
            "weight_decay": weight_decay if decayed else 0.0,
            "rate": learning_rate * (backbone_rate if backbone else 1.0),
        }
        for (backbone, decayed), parameters in groups.items()
    ]


def rate_factor(step: int, total: int) -> float:
    """The learning-rate factor of a step: linear over the first 5 %, then cosine to 1 %.

    A function of the step alone, so a checkpoint does not need to store it.
    """
    warm = max(1, total // 20)
    if step < warm:
        return (step + 1) / warm
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm)))


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """`average <- d average + (1 - d) weights` with `d = min(decay, step / (step + 10))`.

    The smaller d of the first steps keeps the random start out of the average.
    """
    decay = min(decay, step / (step + 10))
    for mean, now in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if mean.dtype.is_floating_point:
            mean.lerp_(now, 1 - decay)
        else:
            mean.copy_(now)
