"""A watch on dying networks: channels of the backbone that no longer respond to any image.

A ReLU whose input is negative for every image has the output 0 and the gradient 0, so it stays as
it is. At too high a rate whole layers end like this within some ten steps, above all where batch
statistics are frozen and don't undo a shift of the mean. The loss is then that of a constant.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

EVERY, STEPS = 16, 4
"""The watch looks at the last `STEPS` of every `EVERY` steps; in a shorter epoch at its last."""
LIMIT = 0.5
"""Share of dead channels from which a network counts as dead. Measured after one epoch of a plain
MobileNetV2 and EfficientNet-Lite0 on three data sets: 0.52 to 0.72 at a backbone rate of 0.2 of
4e-3, 0.14 to 0.46 at 0.05."""
FLAT = 1e-7
"""A network whose defect probabilities on validation differ by less is dead, too."""
_ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.SiLU, nn.GELU, nn.Hardswish, nn.LeakyReLU, nn.ELU, nn.Mish)


class Watch:
    """Looks at the activations of the deeper half of a backbone's layers during training steps.

    A channel is dead if in each of the steps looked at it has one value everywhere, in all places
    and images of the batch. `dead` is the share of dead channels, in [0, 1]; NaN before the first
    look, and for a backbone without activation layers. `steps` is the number of steps of an epoch.
    """

    def __init__(self, backbone: nn.Module, steps: int = EVERY) -> None:
        self._every = min(EVERY, steps)
        layers = [layer for layer in backbone.modules() if isinstance(layer, _ACTIVATIONS)]
        deeper = layers[len(layers) // 2 :]
        self._hooks = [layer.register_forward_hook(self._look) for layer in deeper]
        self.dead = float("nan")
        self._looking = False
        self._alive: dict[nn.Module, Tensor] = {}

    def before_step(self, index: int) -> None:
        """Call before step `index` of an epoch."""
        self._looking = index % self._every >= self._every - STEPS

    def after_step(self, index: int) -> bool:
        """Whether the network counts as dead; always `False` but after the last step of a look."""
        self._looking = False
        if index % self._every < self._every - 1 or not self._alive:
            return False
        alive = torch.cat(list(self._alive.values()))
        self.dead = 1 - float(alive.float().mean())
        self._alive = {}
        return self.dead >= LIMIT

    def close(self) -> None:
        """Stop watching, so that the model can be copied and saved without the watch."""
        for hook in self._hooks:
            hook.remove()

    def _look(self, layer: nn.Module, inputs: Any, output: Tensor) -> None:
        if self._looking and output.ndim == 4:
            values = output.detach()
            alive = values.amax((0, 2, 3)) > values.amin((0, 2, 3))
            before = self._alive.get(layer)
            self._alive[layer] = alive if before is None else alive | before
