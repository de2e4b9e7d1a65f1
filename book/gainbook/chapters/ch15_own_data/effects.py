"""Which parameters of notebook 15 a run reads, and what it used in place of the others."""

from __future__ import annotations

from typing import Any

from gainbook.lab.parameters import Parameters
from gainbook.lab.results_file import name_weights
from gainmtl.model import GAINMTL

MODEL: dict[str, Any] = {
    "image_size": None, "backbone": "tf_efficientnet_lite0", "weights": "package",
    "strategy": None, "resize": "squash",
}  # fmt: skip
"""Defaults of the parameters that a checkpoint's model brings along."""
TRAINING: dict[str, Any] = {
    "epochs": None, "batch_size": 8, "learning_rate": 4e-3, "inner_folds": 0, "devices": 1,
    "precision": "32-true",
}  # fmt: skip
"""Defaults of the parameters that only training reads."""
LABELLED: dict[str, Any] = {
    "dataset": "synthetic", "category": None, "split": "auto", "folds": 1, "seeds": (0,),
    "validation": 0.15, "max_false_alarms": 0.05,
}  # fmt: skip
"""Defaults of the parameters that only a labelled set needs."""
READING: dict[str, Any] = {"resize": "squash", "split": "auto", "validation": 0.15}
"""Defaults of the parameters that the built-in parts, square and with a split, don't need."""


def without_effect(chosen: Parameters, labelled: bool) -> list[str]:
    """A sentence on each parameter that was set although the run does not read it.

    `labelled`: whether the run has a labelled set.
    """
    groups = []
    if chosen.checkpoint:
        groups.append(("the checkpoint's model is used as it is", {**MODEL, **TRAINING}))
    if not labelled:
        groups.append(("without data_root there are only unlabelled images", LABELLED))
    elif chosen.dataset == "synthetic":
        groups.append(("the built-in parts are square and have a split", READING))
    return [
        f"{name}: has no effect, because {reason}; leave it out, found {getattr(chosen, name)!r}"
        for reason, defaults in groups
        for name, default in defaults.items()
        if getattr(chosen, name) != default
    ]


def used_parameters(chosen: Parameters, model: GAINMTL) -> Parameters:
    """What the run used: with a checkpoint the model's own values, and `None` for its training."""
    if not chosen.checkpoint:
        return chosen
    return chosen.with_values(
        image_size=model.image_size, resize=model.resize, strategy=model.strategy.name,
        backbone=model.backbone.name, weights=model.backbone.initial_weights,
        **dict.fromkeys(TRAINING),
    )  # fmt: skip


def used_weights(chosen: Parameters, model: GAINMTL) -> dict[str, Any]:
    """Entries of the provenance: the checkpoint with its digest, and what its training began from.

    Empty without a checkpoint; then the parameters name the weights.
    """
    if not chosen.checkpoint:
        return {}
    first = model.backbone.initial_weights
    return {
        "checkpoint": name_weights(chosen.checkpoint),
        "weights": None if first is None else {"name": first},
    }
