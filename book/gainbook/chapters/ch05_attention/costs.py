"""What a gate costs: parameters, operations and seconds of a prediction, as ratios to another."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch

from gainbook.lab.cost import operations, ratio_interval, side_by_side
from gainbook.lab.results_file import row
from gainbook.lab.run_system import build
from gainbook.lab.systems import System
from gainbook.lab.tables import Value

_NAN = float("nan")


class Costs(NamedTuple):
    """Of one untrained network, on a batch of two images."""

    parameters: int
    operations: int
    seconds: list[float]
    """By turn; the turns of all networks alternate."""


@torch.no_grad()
def measure_costs(
    systems: Iterable[System], backbone: str, image_size: int, turns: int = 25
) -> dict[System, Costs]:
    """The cost of a prediction of each system."""
    images = torch.randn(2, 3, image_size, image_size)
    models: dict[System, Any] = {s: build(s, backbone, None).eval() for s in systems}
    steps = {s.tag: (lambda m=model: m(images).defect_probability) for s, model in models.items()}
    seconds = side_by_side(steps, turns)
    return {
        s: Costs(
            sum(p.numel() for p in model.parameters()), operations(steps[s.tag]), seconds[s.tag]
        )
        for s, model in models.items()
    }


def cost_ratios(above: Costs, below: Costs) -> dict[str, Value]:
    """Ratios by quantity; that of the seconds is the median over turns, with its interval."""
    seconds = ratio_interval(above.seconds, below.seconds)
    return {
        "parameters": Value(above.parameters / below.parameters, _NAN, _NAN, None),
        "operations": Value(above.operations / below.operations, _NAN, _NAN, None),
        "seconds": Value(*seconds, len(above.seconds)),
    }


def cost_rows(
    system: System, ratios: dict[str, Value], backbone: str, image_size: int, against: str
) -> list[dict[str, Any]]:
    """Rows `<quantity>_ratio`; their `against` names what the cost is divided by."""
    condition = {
        **system.condition, "network": backbone, "image_size": image_size, "against": against
    }  # fmt: skip
    return [
        row("synthetic", system.name, f"{name}_ratio", ratio.value, condition=condition,
            ci_low=ratio.low, ci_high=ratio.high)
        for name, ratio in ratios.items()
    ]  # fmt: skip
