"""A rule that picks one model by two figures: accuracy, and a cost such as parameters.

The rule keeps the candidates that no other one dominates (the front), fits a trend line to them,
and picks the one that lies highest above the line. If that one can't be used, it is removed and the
rule is applied again; of several that lie equally high, those that can't be used are removed.
Source: the plan that chapter 01 tests. A candidate table is a data frame with the columns `name`,
`accuracy` (in any unit, larger is better) and `cost` (> 0, smaller is better), and may have
`usable` (bool).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

AXES = ("linear", "log")
DOMINANCE = ("strict", "weak")
_YES, _NO = {"true", "yes", "1"}, {"false", "no", "0"}


class Trend(NamedTuple):
    """A least-squares line: accuracy = intercept + slope · x, x the cost or its log10."""

    intercept: float
    slope: float
    axis: str

    def at(self, cost: Any) -> NDArray[np.float64]:
        """The line's accuracy at costs of any shape."""
        return self.intercept + self.slope * _position(cost, self.axis)


class Choice(NamedTuple):
    """What the rule picks, and why."""

    winner: str | None
    """The name; `None` if no candidate is left, or several share the largest residual."""
    front: pd.DataFrame
    """The candidates that nothing dominates, in order of cost, with their `residual` >= or < 0: the
    accuracy above the trend line."""
    trend: Trend
    rejected: tuple[str, ...]
    """Candidates that lay highest above an earlier line and can't be used, in order."""
    tied: tuple[str, ...]
    """Names that share the largest residual, all usable; empty where there is a winner."""

    @property
    def margin(self) -> float:
        """The winner's residual minus the next one's; NaN without a winner or a second one."""
        if self.winner is None or len(self.front) < 2:
            return float("nan")
        largest = self.front["residual"].nlargest(2).to_numpy()
        return float(largest[0] - largest[1])


def _position(cost: Any, axis: str) -> NDArray[np.float64]:
    values = np.asarray(cost, dtype=np.float64)
    return np.log10(values) if axis == "log" else values


def _check(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name}: expected one of {', '.join(known)}, got {value!r}")


def is_dominated(accuracy: Any, cost: Any, dominance: str = "strict") -> NDArray[np.bool_]:
    """(N,) whether another candidate is better, of accuracies and costs (N,).

    "strict", as the rule is written: another one has a higher accuracy *and* a lower cost. "weak",
    as is usual: another one is at least as good in both and better in one.
    """
    _check("dominance", dominance, DOMINANCE)
    a, c = (np.asarray(values, dtype=np.float64) for values in (accuracy, cost))
    order = np.argsort(c, kind="stable")
    # best[k]: the highest accuracy among the k cheapest.
    best = np.concatenate([[-np.inf], np.maximum.accumulate(a[order])])
    cheaper = best[np.searchsorted(c[order], c, "left")]
    if dominance == "strict":
        return cheaper > a
    return (cheaper >= a) | (best[np.searchsorted(c[order], c, "right")] > a)


def fit_trend(accuracy: Any, cost: Any, axis: str = "linear") -> Trend:
    """The least-squares line through (N,) points; level if all costs are equal."""
    _check("axis", axis, AXES)
    x, y = _position(cost, axis), np.asarray(accuracy, dtype=np.float64)
    spread = ((x - x.mean()) ** 2).sum()
    slope = 0.0 if spread == 0 else float(((x - x.mean()) * (y - y.mean())).sum() / spread)
    return Trend(float(y.mean() - slope * x.mean()), slope, axis)


def select(table: pd.DataFrame, dominance: str = "strict", axis: str = "linear") -> Choice:
    """Apply the rule until its winner can be used; without a column `usable` every one can.

    Two candidates on the front lie on their line, so neither is above it: a tie, and no winner. One
    candidate alone is the winner. The distance to the line is vertical; the perpendicular distance
    is the same up to a factor, so it picks the same.

    Args:
        table: at least one candidate; see the module.
        dominance: see `is_dominated`.
        axis: of the trend line; "log": the decimal logarithm of the cost.

    Raises:
        ValueError: no candidate, or a cost <= 0.
    """
    if table.empty or not (table["cost"] > 0).all():
        raise ValueError(
            f"selection: expected at least one candidate and costs > 0, found {len(table)} "
            f"candidates and the lowest cost {table['cost'].min()}; check the table"
        )
    a, c, usable = _arrays(table)
    names = table["name"].astype(str).to_numpy()
    found = _apply(a, c, usable, pd.factorize(names)[0], dominance, axis)
    front = table.iloc[found.front].reset_index(drop=True).assign(residual=found.residual)
    best = tuple(names[found.best].tolist())
    winner, tied = (best[0], ()) if len(best) == 1 else (None, best)
    return Choice(winner, front, found.trend, tuple(names[found.rejected].tolist()), tied)


def _arrays(
    table: pd.DataFrame,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Accuracy, cost and usable (N,)."""
    a, c = (table[name].to_numpy(np.float64) for name in ("accuracy", "cost"))
    usable = table["usable"].to_numpy(bool) if "usable" in table else np.ones(len(table), bool)
    return a, c, usable


class _Found(NamedTuple):
    """`Choice` as places in the table."""

    front: NDArray[np.intp]
    residual: NDArray[np.float64]
    best: NDArray[np.intp]
    trend: Trend
    rejected: list[int]


def _apply(
    accuracy: NDArray[np.float64],
    cost: NDArray[np.float64],
    usable: NDArray[np.bool_],
    code: NDArray[np.intp],
    dominance: str,
    axis: str,
) -> _Found:
    """The rule on arrays (N,): without data frames, which take most of the time of a resample.

    Rows of one `code`, a name, are removed together.
    """
    rejected: list[int] = []
    left = np.arange(len(accuracy))
    while len(left):
        front = left[~is_dominated(accuracy[left], cost[left], dominance)]
        front = front[np.lexsort((accuracy[front], cost[front]))]
        trend = fit_trend(accuracy[front], cost[front], axis)
        residual = accuracy[front] - trend.at(cost[front])
        # Equal up to rounding: residuals of points that lie on the line.
        near = 1e-9 * max(1.0, float(np.abs(accuracy[front]).max()))
        best = front[residual >= residual.max() - near]
        if usable[best].all():
            return _Found(front, residual, best, trend, rejected)
        unusable = best[~usable[best]]
        rejected += unusable.tolist()
        left = left[~np.isin(code[left], code[unusable])]
    none = np.zeros(0, np.intp)
    return _Found(none, np.zeros(0), none, Trend(np.nan, np.nan, axis), rejected)


def resampled_wins(
    table: pd.DataFrame,
    dominance: str = "strict",
    axis: str = "linear",
    resamples: int = 1000,
    seed: int = 0,
    error: float = 0.0,
) -> pd.Series:
    """The share of resampled candidate lists that each candidate wins.

    A resample draws N of the N candidates with replacement and keeps each drawn one once, since the
    rule acts on a set. The share of a name counts the resamples that contain it, in [0, 1]; ties
    and resamples without a winner count as no win.

    Args:
        error: standard error of an accuracy; each resample adds normal noise of that size.

    Returns:
        The shares by name, largest first.
    """
    generator, count = np.random.default_rng(seed), len(table)
    a, c, usable = _arrays(table)
    drawn, won = np.zeros(count), np.zeros(count)
    for _ in range(resamples):
        places = np.unique(generator.integers(count, size=count))
        noise = generator.normal(0, error, len(places)) if error else 0.0
        drawn[places] += 1
        best = _apply(a[places] + noise, c[places], usable[places], places, dominance, axis).best
        if len(best) == 1:
            won[places[best[0]]] += 1
    shares = pd.Series(won / np.maximum(drawn, 1), index=table["name"])
    return shares.sort_values(ascending=False, kind="stable")


def read_candidates(path: str | Path) -> pd.DataFrame:
    """A candidate table from a CSV file with a header; further columns are kept.

    Raises:
        ValueError: no such file, a column is missing, no row, a cell is no number or impossible, or
            a name occurs twice; the message names the column and the lines.
    """
    path = Path(path).expanduser()
    wanted = "the columns name, accuracy, cost and, if some can't be used, usable (yes or no)"
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, skipinitialspace=True)
    except FileNotFoundError as error:
        raise ValueError(f"candidates: expected a CSV file, found no file {path.name}") from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path.name}: expected a CSV file in UTF-8 with {wanted}; it can't be read: {error}"
        ) from error
    missing = [name for name in ("name", "accuracy", "cost") if name not in table]
    if missing:
        raise ValueError(
            f"{path.name}: expected {wanted}; found {', '.join(map(str, table.columns))}, without "
            f"{', '.join(missing)}. Rename the columns in its first line"
        )
    if table.empty:
        raise ValueError(f"{path.name}: expected at least one candidate, found a header alone")
    for column in ("accuracy", "cost"):
        numbers = pd.to_numeric(table[column], errors="coerce").replace([np.inf, -np.inf], np.nan)
        bad = numbers.isna() | ((numbers <= 0) if column == "cost" else False)
        _refuse(path, table, column, bad, "a number > 0" if column == "cost" else "a number")
        table[column] = numbers
    names = table["name"].str.strip()
    _refuse(path, table, "name", (names == "") | names.duplicated(), "a name that occurs once")
    if "usable" in table:
        words = table["usable"].str.strip().str.lower()
        _refuse(path, table, "usable", ~words.isin(_YES | _NO), "yes or no")
        table["usable"] = words.isin(_YES)
    return table.assign(name=names)


def _refuse(path: Path, table: pd.DataFrame, column: str, bad: Any, expected: str) -> None:
    """Raise a ValueError that lists the lines of `bad` cells, unless there are none."""
    lines: Mapping[Any, str] = table.loc[bad, column].to_dict()
    if lines:
        # Line 1 is the header.
        shown = [f"line {int(place) + 2}: {cell!r}" for place, cell in lines.items()]
        more = f" and {len(shown) - 5} more" if len(shown) > 5 else ""
        raise ValueError(
            f"{path.name}: column {column}: expected {expected}, found {'; '.join(shown[:5])}"
            f"{more}. Correct these lines"
        )
