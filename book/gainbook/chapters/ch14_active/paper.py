"""Arithmetic of the paper's only table: how many labels it used, and which accuracies are possible.

Source: table 1 of Lee, Kang and Han (Kyungpook National University), rows 1 to 8 of 15 classes;
the other seven are "excluded", without numbers.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

from gainbook.lab.tables import markdown


class Line(NamedTuple):
    """A row of the table: "n (+ m * 2)" and the best accuracy, default > proposed."""

    number: int
    items: int
    """n."""
    added: int
    """m."""
    default: float
    """Percent."""
    proposed: float


TABLE = (
    Line(1, 122, 11, 95.06, 99.99),
    Line(2, 136, 18, 95.12, 99.99),
    Line(3, 212, 56, 94.86, 99.99),
    Line(4, 352, 126, 94.44, 99.99),
    Line(5, 504, 202, 92.86, 99.99),
    Line(6, 444, 172, 91.43, 99.99),
    Line(7, 264, 107, 82.12, 97.56),
    Line(8, 562, 231, 89.51, 95.30),
)


def first_items(line: Line) -> int:
    """`n0 = n - 2 m`: the items before the new ones, if each new image is counted twice in n."""
    return line.items - 2 * line.added


def labels(line: Line) -> int:
    """`n0 + m`: images that somebody labelled, if the second item of a new image is its copy."""
    return first_items(line) + line.added


def is_possible(percent: float, size: int) -> bool:
    """Whether some share k / size, rounded to two decimals, is `percent`."""
    lowest = math.ceil(size * (percent - 0.005) / 100 - 1e-9)
    return any(
        0 <= k <= size and abs(round(100 * k / size, 2) - percent) < 0.001
        for k in (lowest, lowest + 1)
    )


def sizes(percent: float, count: int = 3) -> list[int]:
    """The smallest test sizes for which an accuracy, rounded to two decimals, can be `percent`."""
    possible = (size for size in itertools.count(1) if is_possible(percent, size))
    return list(itertools.islice(possible, count))


def least_size_below_one(percent: float = 99.99) -> int:
    """The smallest test for which an accuracy with an error, cut to two decimals, is `percent`.

    Cut, not rounded: 1 - 1 / size >= percent / 100.
    """
    return math.ceil(1 / (1 - percent / 100) - 1e-6)


def table() -> str:
    """The decoded table."""
    lines = [
        [str(one.number), f"{one.items} (+ {one.added} * 2)", str(first_items(one)),
         str(labels(one)), f"{one.default:.2f}", ", ".join(map(str, sizes(one.default))),
         f"{one.proposed:.2f}", ", ".join(f"{n:,}" for n in sizes(one.proposed))]
        for one in TABLE
    ]  # fmt: skip
    total = [
        "sum", str(sum(one.items for one in TABLE)), str(sum(map(first_items, TABLE))),
        str(sum(map(labels, TABLE))), "", "", "", "",
    ]  # fmt: skip
    header = ["class", "labelled, as printed", "n − 2m", "labels", "default, %",
              "smallest tests", "proposed, %", "smallest tests"]  # fmt: skip
    return markdown(header, [*lines, total])
