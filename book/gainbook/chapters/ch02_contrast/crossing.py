"""Paired differences from rows of single draws, the crossing of two curves, and labelling time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from gainbook.chapters.ch02_contrast.draws import FOLDS
from gainbook.lab.catalogue import S5, TEXTBOOK
from gainbook.lab.seed_study import difference_by_seed, first_above
from gainbook.lab.systems import AnySystem
from gainbook.lab.tables import Value, rows_of

NORMALS = 400
"""Normal images of a draw on the boards, for training and validation together."""
RATE = 0.01
"""Share of defective parts in the production, where nothing else is given."""
EQUAL = "recall_at_fpr05"
"""Recall at 5 % false alarms on the test's normal images: arms compared at equal false alarms."""


class Arm(NamedTuple):
    """A compared arm of the study with frozen features."""

    tag: str
    label: str

    @property
    def name(self) -> str:
        """The `system` of its result rows."""
        return self.tag

    @property
    def condition(self) -> dict[str, Any]:
        """Nothing beside its name."""
        return {}

    @property
    def as_other(self) -> dict[str, Any]:
        """Condition entries of a difference from which it is subtracted."""
        return {"against": self.tag}


PROBE = Arm("probe", "linear probe")
BANK = Arm("bank", "memory bank")
DISTILLATION = Arm("rd", "reverse distillation")
HYBRID = Arm("hybrid", "hybrid")
ARMS = (PROBE, BANK, DISTILLATION, HYBRID)
TUNED = (TEXTBOOK, S5)
"""The fine-tuned classifiers."""
EVERY: tuple[AnySystem, ...] = (*ARMS, *TUNED)


def by_draw(
    rows: pd.DataFrame, system: AnySystem, metric: str, **condition: Any
) -> dict[int, float]:
    """A figure of each draw.

    Raises:
        LookupError: no draw has it.
    """
    found = rows_of(rows, system, metric, **condition)
    single = found[found["seed"].notna() & found["value"].notna()]
    if single.empty:
        raise LookupError(f"no draw has {metric} of {system.name} with {condition}")
    return {
        int(seed): float(value) for seed, value in zip(single["seed"], single["value"], strict=True)
    }


def paired(
    rows: pd.DataFrame,
    a: AnySystem,
    b: AnySystem,
    metric: str,
    of_a: Mapping[str, Any],
    of_b: Mapping[str, Any] | None = None,
) -> Value:
    """Mean of a - b over the draws that both have, with Student's interval over the folds.

    `of_a` and `of_b` are the conditions of the two figures, alike unless `of_b` is given.

    Raises:
        LookupError: a figure is missing, or they have no draw in common.
    """
    other = of_a if of_b is None else of_b
    each = by_draw(rows, a, metric, **of_a), by_draw(rows, b, metric, **other)
    found = difference_by_seed(*each, FOLDS)
    if not found.n:
        raise LookupError(f"{a.name} and {b.name} have no draw in common")
    return Value(found.value, found.low, found.high, found.n)


class Crossing(NamedTuple):
    """How many defective parts a classifier needs to reach a detector's figure."""

    parts: float
    """Where the mean difference reaches 0; infinity: at none of the counts."""
    low: float
    """Where the upper end of its interval reaches 0: below, the detector is ahead."""
    high: float
    """Where the lower end reaches 0: from there, the classifier is ahead."""
    least: int
    """The smallest count that was run."""
    most: int
    """The largest count that was run."""

    def text(self) -> str:
        """`7 [at most 2, more than 100]`."""
        return f"{self._word(self.parts)} [{self._word(self.low)}, {self._word(self.high)}]"

    def _word(self, count: float) -> str:
        if math.isinf(count):
            return f"more than {self.most}"
        return f"at most {self.least}" if count <= self.least > 1 else f"{count:.0f}"


def crossing_of(counts: Sequence[int], differences: Sequence[Value]) -> Crossing:
    """The crossing from the differences, classifier minus detector, at ascending counts."""
    ends = zip(*((d.value, d.high, d.low) for d in differences), strict=True)
    parts, low, high = (first_above(dict(zip(counts, v, strict=True))) for v in ends)
    return Crossing(parts, low, high, min(counts), max(counts))


def counts_of_rows(rows: pd.DataFrame, system: AnySystem, metric: str = EQUAL) -> list[int]:
    """The numbers of defective parts, above 0, at which a system has rows."""
    near = rows[(rows["system"] == system.name) & (rows["metric"] == metric)]
    plain = [dict(c) for c in near["condition"]]
    keys = {"defects", *system.condition}
    return sorted({c["defects"] for c in plain if set(c) == keys and c["defects"]})


def crossing(
    rows: pd.DataFrame, classifier: AnySystem, detector: AnySystem, metric: str = EQUAL
) -> Crossing:
    """Where a classifier's curve over the number of defective parts crosses a detector's line.

    Raises:
        LookupError: rows lack one of the two.
    """
    counts = counts_of_rows(rows, classifier, metric)
    if not counts:
        raise LookupError(f"no row of {classifier.name} by number of defective parts")
    differences = [
        paired(rows, classifier, detector, metric, {**classifier.condition, "defects": n},
               {"defects": n})
        for n in counts
    ]  # fmt: skip
    return crossing_of(counts, differences)


def inspected(defective: float, rate: float = RATE, normals: int = NORMALS) -> float:
    """Parts to look at until there are so many defective and normal ones: max(n / r, m / (1 - r)).

    n defective and m normal parts, of which a share r of the production is defective.
    """
    return max(defective / rate, normals / (1 - rate))


def cost_ratio(found: Crossing, rate: float = RATE, normals: int = NORMALS) -> Value:
    """Parts to label for the classifier to reach the detector, over those for the detector."""
    least = inspected(0, rate, normals)
    count, low, high = (inspected(n, rate, normals) / least for n in found[:3])
    return Value(count, low, high)
