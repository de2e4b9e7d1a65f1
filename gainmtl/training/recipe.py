"""How a run is trained: everything that decides how it goes, as data."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that decides how a run goes; `fit` takes these as keyword arguments."""

    epochs: int = 12
    batch_size: int = 16
    learning_rate: float = 1.5e-3
    """Peak rate of the heads; linear warm-up over the first 5 % of steps, then cosine to 1 %."""
    backbone_rate: float = 0.2
    """The backbone's rate as a share of `learning_rate`."""
    weight_decay: float = 1e-2
    """AdamW's, on weights of two or more dimensions only."""
    average_decay: float = 0.98
    """Decay per step of the averaged weights, which are the result; 0 keeps the last weights."""
    freeze_stride: int = 0
    """Freeze the backbone up to this stride; see `Backbone.freeze`."""
    freeze_statistics: bool | None = None
    """Keep the backbone's batch statistics as its weights brought them. `None`: if it was given
    weights. Deep maps of a small batch give statistics too noisy for the running mean to follow."""
    augmentation: str = "standard"
    clip_norm: float = 5.0
    max_false_alarms: float = 0.05
    """The stored threshold is the smallest with at most this share of validation false alarms."""
    seed: int = 0

    def __post_init__(self) -> None:
        rules = {
            "epochs": self.epochs >= 1,
            "batch_size": self.batch_size >= 2,
            "learning_rate": self.learning_rate > 0,
            "backbone_rate": self.backbone_rate >= 0,
            "weight_decay": self.weight_decay >= 0,
            "average_decay": 0 <= self.average_decay < 1,
            "clip_norm": self.clip_norm > 0,
            "max_false_alarms": 0 <= self.max_false_alarms < 1,
        }
        wrong = [f"{name}={getattr(self, name)!r}" for name, good in rules.items() if not good]
        if wrong:
            raise ValueError(
                f"fit: impossible value of {', '.join(wrong)}; see gainmtl.training.recipe.Recipe"
            )
