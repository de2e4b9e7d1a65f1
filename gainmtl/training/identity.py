"""The identity of a run: everything that its result depends on, except the machine.

Kept with a checkpoint or a fitted detector, so that a run is continued or read only by a call that
would give the same result.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gainmtl.datasets import Data
from gainmtl.files import plain
from gainmtl.interface import DefectModel, encoder_of
from gainmtl.io import FORMAT, describe_kind, strategy_to_dict
from gainmtl.training.recipe import Recipe

_LATER = {"resize": "squash", "create_kwargs": {}, "devices": 1, "max_false_alarms": 0.05}
"""Entries that came after the first stored identities, with the value of a run without them."""
_SHOWN = 4
"""Differences in a message."""


def run_identity(model: Any, data: Data, **settings: Any) -> dict[str, Any]:
    """The identity of a run of a classifier, a baseline or an anomaly detector, as JSON.

    The network: class, arguments, the backbone's `create_kwargs`, the digest of its first weights.
    The pixels: contents and split of the data, size, resizing, normalisation. `settings`: what the
    call adds, such as the recipe.
    """
    encoder = encoder_of(model)
    network = {
        "initial_weights": encoder.initial_weights,
        "create_kwargs": encoder.create_kwargs,
        "normalisation": [encoder.mean, encoder.std],
    }
    pixels = {
        "data": data.fingerprint,
        "image_size": data.image_size,
        "resize": data.resize,
        "fold": [data.fold, data.folds],
    }
    own: dict[str, Any] = {"kind": getattr(model, "kind", ""), "config": model.config}
    if isinstance(model, DefectModel):
        arguments = {**describe_kind(model), **model.config}
        strategy = strategy_to_dict(model.strategy)
        own = {"format": FORMAT, "model": arguments, "strategy": strategy}
    return dict(plain({**own, **network, **pixels, **settings}))


def check_identity(
    function: str, folder: Path, stored: Any, expected: Mapping[str, Any], recipe: Recipe | None
) -> None:
    """Raise a `ValueError` that names every difference between a stored identity and `expected`.

    An entry that the stored identity does not have counts as the value that runs had before it
    existed: of `recipe`, the field's default.
    """
    defaults: dict[str, Any] = dict(_LATER)
    if recipe is not None:
        defaults["recipe"] = {
            field.name: field.default
            for field in dataclasses.fields(recipe)
            if field.default is not dataclasses.MISSING
        }
    kept = _flat(stored if isinstance(stored, dict) else {})
    wanted = _flat(expected)
    # It follows from the weights, so there is no default where it was not stored.
    found = {"normalisation": wanted.get("normalisation"), **_flat(plain(defaults)), **kept}
    differing = [
        f"{name} ({_short(found, name)}, here {_short(wanted, name)})"
        for name in dict.fromkeys([*wanted, *kept])
        if found.get(name) != wanted.get(name)
    ]
    if differing:
        more = f" and {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else ""
        raise ValueError(
            f"{function}: {folder} holds a run with another {', '.join(differing[:_SHOWN])}{more}; "
            "give another output_dir, or delete that folder to start over"
        )


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, with dotted names; an empty dictionary has no entry."""
    flat: dict[str, Any] = {}
    for key, item in value.items():
        name = f"{prefix}{key}"
        flat |= _flat(item, f"{name}.") if isinstance(item, Mapping) else {name: item}
    return flat


def _short(values: Mapping[str, Any], name: str) -> str:
    text = repr(values[name]) if name in values else "not set"
    return text if len(text) <= 40 else f"{text[:37]}..."
