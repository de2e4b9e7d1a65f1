"""Result rows of the selections: winners under every variant of the rule, resamples, rank
correlations, EfficientNetV2's published figures."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd
from scipy.stats import spearmanr

from gainbook.chapters.ch01_models import tables
from gainbook.chapters.ch01_models.blocks import published
from gainbook.chapters.ch01_models.measure import DATASET
from gainbook.lab.results_file import row
from gainbook.lab.selection import AXES, DOMINANCE, resampled_wins, select
from gainmtl.evaluation.stats import Interval, bootstrap_interval

VARIANTS = tuple(itertools.product(DOMINANCE, AXES))
"""The rule's open points, dominance and axis; the first is the rule as it is written."""
SEED, PAPER, RERUN, SHARED, WHOLE = "seed", "paper", "rerun", "rerun-shared", "timm"
"""Candidate tables: the plan's classifiers, detectors by the figures of their authors and of a
library, the latter also with the candidates of both alone, and all models of timm."""
COSTS = {
    "cost": "million parameters",
    "cpu_ms": "ms, published, CPU",
    "gpu_ms": "ms, published, GPU",
    "train_ms": "ms of training, published, GPU",
    "measured_ms": "ms at 512 px, measured",
}
"""Columns that can be the cost, and their words."""
TIMES = ("cpu_ms", "gpu_ms", "train_ms")
TOP1_ERROR = round(100 * math.sqrt(0.865 * 0.135 / 50_000), 4)
"""Standard error of a top-1 accuracy of 86.5 % on the 50,000 images of ImageNet's validation."""


class Named(NamedTuple):
    """The `system` of result rows, for `gainbook.lab.tables.find`; it has no condition."""

    name: str
    tag: str = ""
    label: str = ""

    @property
    def condition(self) -> dict[str, Any]:
        """None."""
        return {}

    @property
    def as_other(self) -> dict[str, Any]:
        """None: candidates are not subtracted."""
        return {}


def rows_under(rows: pd.DataFrame, metric: str, condition: Mapping[str, Any]) -> pd.DataFrame:
    """The rows of a metric with exactly this condition, of all systems."""
    near = rows[rows["metric"] == metric]
    return near[near["condition"].map(lambda given: dict(given) == condition).astype(bool)]


def measured_times(rows: pd.DataFrame | None) -> pd.Series:
    """Measured milliseconds per image of 512 pixels by network, empty without such rows."""
    if rows is None:
        return pd.Series(dtype=float)
    near = rows_under(rows, "milliseconds", {"image_size": tables.SMALLEST_SIDE})
    return near.set_index("system")["value"].astype(float)


def candidate_tables(measured: pd.Series | None = None) -> dict[str, pd.DataFrame]:
    """Every candidate table within the rule's limit of size, by name.

    A detector has no published times; `measured_ms` is NaN where a network was not timed.
    """
    times = pd.Series(dtype=float) if measured is None else measured
    seed = tables.seed_classifiers()
    seed["measured_ms"] = seed["architecture"].map(times).astype(float)
    found = {SEED: seed}
    for name, figures in ((PAPER, "paper"), (RERUN, "rerun")):
        table = tables.detectors(figures)
        found[name] = table.assign(measured_ms=table["subject"].map(times).astype(float))
    both = found[RERUN]["name"].isin(found[PAPER]["name"])
    found[SHARED] = found[RERUN][both].reset_index(drop=True)
    whole = tables.timm_models()
    found[WHOLE] = whole.assign(usable=whole["image_size"] >= tables.SMALLEST_SIDE)
    return {name: tables.within_limits(table) for name, table in found.items()}


def about(table: str, cost: str, dominance: str, axis: str) -> dict[str, Any]:
    """The condition of a selection's rows."""
    return {"table": table, "cost": cost, "dominance": dominance, "axis": axis}


def selection_rows(named: Mapping[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """Rows `residual` and `wins` (1 or 0) of each candidate on the front, for every table, cost and
    variant; of timm's models, whose front is long, only those that could win.

    A cost that a table lacks, or has for fewer than two candidates, has no rows.
    """
    rows = []
    for (name, table), cost in itertools.product(named.items(), COSTS):
        if cost not in table or table[cost].notna().sum() < 2:
            continue
        for dominance, axis in VARIANTS:
            choice = select(tables.at_cost(table, cost), dominance, axis)
            front = choice.front
            if name == WHOLE:
                front = front[front["name"].isin([choice.winner, *choice.tied])]
            for one in front.to_dict("records"):
                figures = {"residual": one["residual"], "wins": one["name"] == choice.winner}
                rows += [
                    row(DATASET, one["name"], metric, float(value), split="published",
                        condition=about(name, cost, dominance, axis), n=len(choice.front))
                    for metric, value in figures.items()
                ]  # fmt: skip
    return rows


def share_rows(named: Mapping[str, pd.DataFrame], resamples: int = 1000) -> list[dict[str, Any]]:
    """Rows `win_share` of the candidates that win in some resample, with parameters as the cost.

    The condition has `error`, the standard error of the accuracies: 0, and for the classifiers also
    `TOP1_ERROR`.
    """
    rows = []
    for name in (SEED, PAPER, RERUN):
        errors = (0.0, TOP1_ERROR) if name == SEED else (0.0,)
        for (dominance, axis), error in itertools.product(VARIANTS, errors):
            shares = resampled_wins(named[name], dominance, axis, resamples, error=error)
            rows += [
                row(DATASET, str(candidate), "win_share", share, split="published", n=resamples,
                    condition={**about(name, "cost", dominance, axis), "error": error})
                for candidate, share in shares[shares > 0].items()
            ]  # fmt: skip
    return rows


def family(architecture: str) -> str:
    """The architecture's family by its first word, as "efficientnet" of "tf_efficientnet_b3"."""
    return architecture.removeprefix("tf_").split("_")[0].rstrip("0123456789")


def rank_correlation(models: pd.DataFrame, a: str, b: str, resamples: int = 500) -> Interval:
    """Spearman's correlation of two columns over architectures and image sides.

    The interval resamples families, since the models of one family are alike.
    """
    part = models.drop_duplicates(["architecture", "image_size"]).dropna(subset=[a, b])
    groups = part["architecture"].map(family).to_numpy(str)
    columns = (part[name].to_numpy(float) for name in (a, b))
    return bootstrap_interval(
        lambda x, y: float(spearmanr(x, y).statistic), groups, *columns, resamples=resamples
    )


def correlation_rows(models: pd.DataFrame, resamples: int = 500) -> list[dict[str, Any]]:
    """Rows `rank_correlation` of each count with each published time."""
    rows = []
    for count, times in itertools.product(("cost", "gmacs", "macts"), TIMES):
        found = rank_correlation(models, count, times, resamples)
        rows.append(
            row(DATASET, count, "rank_correlation", found.value, split="published",
                condition={"with": times}, **found.ends)
        )  # fmt: skip
    return rows


def version_rows(found: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of `blocks.published`."""
    return [
        row(DATASET, f"EfficientNetV2-{one['size']}", metric, one[metric], split="published",
            condition={"beside": one["beside"]} if metric == "training_ratio" else {})
        for one in found.to_dict("records")
        for metric in ("million_parameters", "accuracy", "training_ratio")
    ]  # fmt: skip


def all_rows(measured: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every row of the chapter's results file, from the measured ones and the frozen tables."""
    own = [dict(one) for one in measured]
    named = candidate_tables(measured_times(pd.DataFrame(own) if own else None))
    rows = own + selection_rows(named) + share_rows(named)
    return rows + correlation_rows(named[WHOLE]) + version_rows(published())
