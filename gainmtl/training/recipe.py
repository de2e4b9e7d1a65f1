"""The hyperparameters of a training run, as data."""

from __future__ import annotations

import dataclasses
import numbers
import types
import typing
from typing import Any

from gainmtl.datasets.checks import check_values

ENOUGH = 30
"""Defective groups from which an epoch is chosen. With 30, an AUROC of 0.95 has a standard error of
about 0.02."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Hyperparameters of a run; `fit` takes them as keyword arguments."""

    epochs: int = 12
    batch_size: int = 16
    learning_rate: float = 4e-3
    """Peak rate of the heads; linear warm-up over the first 5 % of steps, then cosine to 1 %."""
    backbone_rate: float | None = None
    """The backbone's rate as a share of `learning_rate`. `None`: 0.05 with frozen batch statistics,
    which don't undo a shift of a layer's mean, so that at 0.2 the deep layers die within some ten
    steps (see `gainmtl.training.watch`); else 0.2."""
    weight_decay: float = 1e-2
    """AdamW's, on weights of two or more dimensions only."""
    average_decay: float = 0.98
    """Decay per step of the averaged weights, the result of a run; 0: the last weights."""
    freeze_stride: int = 0
    """Freeze the backbone up to this stride; see `Backbone.freeze`."""
    freeze_statistics: bool | None = None
    """Keep the backbone's initial batch statistics. `None`: if its initial weights were loaded. In
    a small batch the statistics of deep, small maps are too noisy for a running mean."""
    augmentation: str = "standard"
    """A preset of `gainmtl.datasets.Augment`."""
    clip_norm: float = 5.0
    """Largest norm of the gradient."""
    keep: str = "last"
    """Which epoch's weights are the result: "last", or "best", the first with the highest AUROC on
    validation. Where that has fewer than `ENOUGH` defective groups, "best" keeps the last too, with
    a warning: so few can't tell epochs apart."""
    inner_folds: int = 0
    """Choose the threshold, and with `keep="best"` the epoch, on so many inner folds of the
    training and validation images, in place of the validation part; see
    `gainmtl.training.inner_folds`. For few defective parts. Each fold trains one more network.
    0: none."""
    restarts: int = 2
    """How often a run may start again with lower rates because its network died."""
    max_false_alarms: float = 0.05
    """The threshold is the smallest one with at most this share of false alarms on validation."""
    seed: int = 0

    def __post_init__(self) -> None:
        check_types(self)
        rules = {
            "epochs": ("at least 1", self.epochs >= 1),
            "batch_size": ("at least 2", self.batch_size >= 2),
            "learning_rate": ("a number above 0", self.learning_rate > 0),
            "backbone_rate": (
                "at least 0, or None",
                self.backbone_rate is None or self.backbone_rate >= 0,
            ),
            "weight_decay": ("at least 0", self.weight_decay >= 0),
            "average_decay": ("a number in [0, 1)", 0 <= self.average_decay < 1),
            "clip_norm": ("a number above 0", self.clip_norm > 0),
            "keep": ("'last' or 'best'", self.keep in ("last", "best")),
            "inner_folds": ("0, or at least 2", self.inner_folds == 0 or self.inner_folds >= 2),
            "restarts": ("at least 0", self.restarts >= 0),
            "max_false_alarms": ("a number in [0, 1)", 0 <= self.max_false_alarms < 1),
            # Seeds of steps and epochs are multiples of it, which must fit into 64 bits.
            "seed": ("a whole number from 0 to 2**32 - 1", 0 <= self.seed < 2**32),
        }
        check_values("fit", self, rules)


_KINDS: dict[Any, tuple[Any, str]] = {
    int: (numbers.Integral, "a whole number"),
    float: (numbers.Real, "a number"),
    str: (str, "a text"),
    bool: (bool, "True or False"),
    type(None): (type(None), "None"),
    tuple: ((tuple, list), "a pair"),
}
"""By annotation what a field takes, and its name in messages."""


def check_types(settings: Any) -> None:
    """Raise one `ValueError` that names every field of a dataclass with a value of another type."""
    wrong = []
    for name, hint in typing.get_type_hints(type(settings)).items():
        value = getattr(settings, name)
        kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        kinds = tuple(typing.get_origin(kind) or kind for kind in kinds)
        fits = any(isinstance(value, _KINDS[kind][0]) for kind in kinds)
        if not fits or (isinstance(value, bool) and bool not in kinds):
            expected = " or ".join(_KINDS[kind][1] for kind in kinds)
            advice = " (without quotes; in YAML 1.0e-3, not 1e-3)" * isinstance(value, str)
            wrong.append(f"{name}: expected {expected}, got {value!r}{advice}")
    if wrong:
        raise ValueError("fit: " + "; ".join(wrong))
