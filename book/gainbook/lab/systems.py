"""A compared system: a strategy on an evidence grid, with its recipe."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from gainmtl.strategies import Strategy, get_strategy


class AnySystem(Protocol):
    """What result rows need of a compared system: a `System`, or a detector of chapter 13."""

    @property
    def tag(self) -> str:
        """Its key among the systems of a study."""

    @property
    def label(self) -> str:
        """Its name for readers."""

    @property
    def name(self) -> str:
        """The `system` of its result rows."""

    @property
    def condition(self) -> dict[str, Any]:
        """The condition of its result rows."""

    @property
    def as_other(self) -> dict[str, Any]:
        """Condition entries of a paired difference from which it is subtracted."""


class System(NamedTuple):
    """A strategy on an evidence grid."""

    tag: str
    """Its folder, unless `trained_as` names another."""
    strategy: str | Strategy
    output_stride: int
    label: str
    """For readers."""
    recipe: str | None = None
    """The name of its recipe in result rows, where it is not the common one."""
    changes: tuple[tuple[str, Any], ...] = ()
    """Fields that replace those of `protocol.REFERENCE`; chosen by `tools/tune.py`."""
    options: tuple[tuple[str, Any], ...] = ()
    """Further arguments of `GAINMTL`."""
    masks: tuple[tuple[str, Any], ...] = ()
    """Arguments of `datasets.limit_masks` where training has fewer or coarser masks."""
    about: tuple[tuple[str, Any], ...] = ()
    """Further entries of the condition: values of what its strategy varies."""
    exposures: tuple[int, ...] = ()
    """Argument of `datasets.limit_exposures` where training has only some exposures."""
    kind: str = ""
    """The kind of a model other than `GAINMTL`; see `gainmtl.io.class_of`."""
    probe: int = 0
    """Number of training images on which the conflict of its terms is measured each epoch."""
    classes: tuple[str, ...] = ()
    """Class names, "normal" first, of a system that classifies defect types; else two classes."""
    split: str = ""
    """Argument of `datasets.load` where its folds are not the common ones: `"leaking"`."""
    trained_as: System | None = None
    """Alias: reuses the trained folds of that system, which is the same term for term."""

    @property
    def folder(self) -> str:
        """Folder of its folds under `output_dir`."""
        return self.tag if self.trained_as is None else self.trained_as.folder

    @property
    def name(self) -> str:
        """The strategy's name: the `system` of its result rows."""
        return get_strategy(self.strategy).name

    @property
    def condition(self) -> dict[str, Any]:
        """The condition of its result rows."""
        own = {} if self.recipe is None else {"recipe": self.recipe}
        masks = {f"mask_{name}": value for name, value in self.masks}
        light = {"exposures": list(self.exposures)} if self.exposures else {}
        classes = {"num_classes": len(self.classes)} if self.classes else {}
        split = {"split": self.split} if self.split else {}
        return {
            "output_stride": self.output_stride,
            **own,
            **classes,
            **dict(self.options),
            **masks,
            **light,
            **split,
            **dict(self.about),
        }

    @property
    def as_other(self) -> dict[str, Any]:
        """Condition entries of a paired difference from which this system is subtracted."""
        return {"against": self.name, **{f"against_{k}": v for k, v in self.condition.items()}}
