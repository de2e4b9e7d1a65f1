"""Does a map depend on what the network learned? Randomise the network from the top and see."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Randomised(NamedTuple):
    """One stop of `cascade`."""

    done: int
    """Modules randomised so far, from the output down."""
    share: float
    """Share of the parameters randomised so far, in (0, 1]."""
    name: str
    """The lowest module randomised so far."""
    model: nn.Module
    """The network at this stop; the next stop changes it further."""


def layers_top_down(model: nn.Module) -> list[str]:
    """Names of the modules that hold parameters of their own, last registered first.

    In a network whose modules are registered in the order in which they run that is from the
    output to the input.
    """
    return [
        name
        for name, module in reversed(list(model.named_modules()))
        if any(True for _ in module.parameters(recurse=False))
    ]


@torch.no_grad()
def shuffle_(module: nn.Module, generator: torch.Generator) -> None:
    """Shuffle the entries of each of the module's own tensors in place.

    What the layer learned is gone and the distribution of its values stays, so activations keep
    their order of magnitude whatever the architecture. Vectors of one length, as a batch norm's
    scale, shift, mean and variance, are shuffled alike.
    """
    orders: dict[int, Tensor] = {}
    own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    for tensor in own:
        count = tensor.numel()
        if count < 2:
            continue
        if tensor.ndim > 1 or count not in orders:
            order = torch.randperm(count, generator=generator)
            if tensor.ndim == 1:
                orders[count] = order
        else:
            order = orders[count]
        tensor.copy_(tensor.flatten()[order.to(tensor.device)].view_as(tensor))


def cascade(model: nn.Module, stops: int = 6, seed: int = 0) -> Iterator[Randomised]:
    """Randomise a copy of `model` from the output down, and hand it out at `stops` depths.

    The first stop is the topmost module alone, the last one the whole network, the others lie
    between at equal numbers of modules. A map that explains this network must lose its
    resemblance to the original on the way; one that does not shows the image.

    Source: Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018. Deviation: parameters
    are shuffled within their tensor, not drawn anew; see `shuffle_`.

    Raises:
        ValueError: a model without parameters, or no stop.
    """
    names = layers_top_down(model)
    if not names or stops < 1:
        raise ValueError(f"expected layers and stops, found {len(names)} and {stops}")
    counts = torch.linspace(1, len(names), min(stops, len(names))).round().int().tolist()
    twin = copy.deepcopy(model)
    modules = dict(twin.named_modules())
    generator = torch.Generator().manual_seed(seed)
    total = sum(p.numel() for p in twin.parameters())
    changed = 0
    for done, name in enumerate(names, 1):
        shuffle_(modules[name], generator)
        changed += sum(p.numel() for p in modules[name].parameters(recurse=False))
        if done in counts:
            yield Randomised(done, changed / total, name, twin)
