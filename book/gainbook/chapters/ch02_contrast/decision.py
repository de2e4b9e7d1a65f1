"""Which arm to expect ahead: recall by the number of defective parts and the share of new types."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from gainbook.chapters.ch02_contrast.crossing import EQUAL, EVERY, by_draw
from gainbook.chapters.ch02_contrast.draws import FOLDS
from gainbook.lab.seed_study import difference_by_seed, interval_over_seeds
from gainbook.lab.systems import AnySystem
from gainbook.lab.tables import Value

COUNTS = (1, 2, 5, 10, 25)
"""Numbers of defective parts that both sets have."""
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


class Expected(NamedTuple):
    """The arms at one place, best first."""

    recalls: dict[AnySystem, Value]
    lead: Value
    """The best arm's recall minus the second's, draw by draw."""

    @property
    def best(self) -> AnySystem:
        """The arm with the highest mean recall."""
        return next(iter(self.recalls))

    def text(self) -> str:
        """The winner and its recall, bold; or both, where its lead may be none."""
        first, second = itertools.islice(self.recalls, 2)
        figure = self.recalls[first].text()
        if self.lead.low > 0:
            return f"**{first.label}** {figure}"
        return f"{first.label} {figure} or {second.label}"


def mixed_recall(rows: pd.DataFrame, arm: AnySystem, count: int, unseen: float) -> dict[int, float]:
    """By draw, (1 - u) · recall on types of training + u · recall on types left out of it.

    Both at 5 % false alarms on the test's normal images, alike for all arms, with one type left out
    of training. With u = 0 no type is left out: the recall by the number of defective parts.

    Raises:
        LookupError: the rows lack the arm.
    """
    if not unseen:
        return by_draw(rows, arm, EQUAL, defects=count)
    seen, new = (
        by_draw(rows, arm, EQUAL, defects=count, types=types) for types in ("seen", "unseen")
    )
    return {draw: (1 - unseen) * seen[draw] + unseen * new[draw] for draw in set(seen) & set(new)}


def expected(
    rows: pd.DataFrame, count: int, unseen: float, arms: Sequence[AnySystem] = EVERY
) -> Expected:
    """The arms' expected recall with `count` defective parts if a share `unseen` has new types.

    Raises:
        LookupError: the rows have fewer than two of the arms.
    """
    found: dict[AnySystem, dict[int, float]] = {}
    for arm in arms:
        try:
            found[arm] = mixed_recall(rows, arm, count, unseen)
        except LookupError:
            continue
    if len(found) < 2:
        raise LookupError(f"fewer than two arms have a recall with {count} defective parts")
    values = {arm: Value(*interval_over_seeds(draws, FOLDS)[:4]) for arm, draws in found.items()}
    order = sorted(values, key=lambda arm: -values[arm].value)
    lead = difference_by_seed(found[order[0]], found[order[1]], FOLDS)
    return Expected({arm: values[arm] for arm in order}, Value(*lead[:4]))
