"""Four plans for one loss: do stages keep its terms from interfering?

What a plan is worth on test tiles, how its terms' gradients lie to each other over the epochs, and
the verdict, whose criterion was written before any of the folds was trained.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from gainbook.lab.chapter_results import Results, results, stored_results
from gainbook.lab.components import IN_STAGES, NO_WARM_UP, REVERSED, UNSTAGED
from gainbook.lab.judge import Judgement
from gainbook.lab.parameters import Parameters
from gainbook.lab.protocol import Pooled
from gainbook.lab.reference import System
from gainbook.lab.results_file import row
from gainbook.lab.tables import Value, find
from gainmtl.evaluation.stats import Interval, student_interval
from gainmtl.training.gradient_conflict import Conflict, from_facts

NAME = "09_staging_study"
SYSTEMS = (IN_STAGES, UNSTAGED, REVERSED, NO_WARM_UP)
OTHERS = SYSTEMS[1:]
"""What the staged one is compared with, on the same folds."""
VERDICT_TERM = "attended_classification"
"""The term of the head that decides."""
COMPLETE = 0.5
"""From this share of the run on, every plan has every term at its full weight."""
LATE = {"epochs": "second half"}
"""What rows of a mean over the epochs from `COMPLETE` on carry."""
MEASURES = {
    "conflicting_share": "pairs of terms that conflict",
    "mean_cosine": "mean cosine of pairs",
    "verdict_cosine": "verdict's term with the rest, cosine",
}
OUTCOMES: dict[str, tuple[str, str | None]] = {
    "AUROC": ("auroc", None),
    "recall at 5 % false alarms": ("recall_at_fpr05", None),
    "IoU of the defect map": ("iou", "defect_map"),
    "positive energy of the evidence": ("positive_energy", "cam"),
}
"""What the criterion asks of the test tiles: metric and map by name."""


def summary(found: Conflict) -> dict[str, float]:
    """The `MEASURES` of one moment."""
    return {
        "conflicting_share": found.conflicting_share,
        "mean_cosine": found.mean_cosine,
        "verdict_cosine": found.with_others(VERDICT_TERM),
    }


def by_epoch(history: pd.DataFrame) -> pd.DataFrame:
    """The `MEASURES` after each epoch of one run, and `done`, the share of the run that is."""
    rows = [summary(from_facts(line)) for line in history.to_dict("records")]
    done = (history["epoch"].to_numpy() + 1) / len(history)
    return pd.DataFrame(rows).assign(epoch=history["epoch"].to_numpy() + 1, done=done)


def _runs(pooled: Sequence[Pooled]) -> list[tuple[int, int, pd.DataFrame]]:
    """(place of the seed, fold, history) of every run of a system."""
    return [
        (place, int(fold), history.sort_values("epoch", ignore_index=True))
        for place, one in enumerate(pooled)
        for fold, history in one.histories.groupby("fold")
    ]


def _late(history: pd.DataFrame) -> dict[str, float]:
    table = by_epoch(history)
    return {name: float(table.loc[table["done"] >= COMPLETE, name].mean()) for name in MEASURES}


RANGES = {"conflicting_share": (0.0, 1.0)}
"""What can't be left by an interval; cosines have -1 and 1."""


def _within(metric: str, found: Interval) -> Interval:
    """Student's interval knows no ends of a scale."""
    if math.isnan(found.low):
        return found
    least, most = RANGES.get(metric, (-1.0, 1.0))
    return found._replace(low=max(found.low, least), high=min(found.high, most))


def _row(
    system: System, dataset: str, metric: str, found: Interval, **condition: Any
) -> dict[str, Any]:
    if not metric.endswith("_difference"):
        found = _within(metric, found)
    return row(
        dataset, system.name, metric, found.value, split="train",
        condition={**system.condition, **condition}, **found.ends,
    )  # fmt: skip


def conflict_rows(
    system: System, pooled: Sequence[Pooled], seeds: Sequence[int], dataset: str
) -> list[dict[str, Any]]:
    """Rows of one system's conflicts: each fold's `MEASURES` over the late epochs, and pooled their
    means by epoch and over the late epochs, and `gradient_cosine` of every pair by epoch.

    Pooled rows have Student's interval over the runs, which share training tiles: five folds are
    fewer than five independent runs. None where nobody measured.
    """
    single = _runs(pooled)
    if not any(name.startswith("pull.") for _, _, one in single for name in one.columns):
        return []
    rows, tables = [], []
    for place, fold, history in single:
        tables.append(by_epoch(history))
        rows += [
            row(
                dataset, system.name, name, value, split="train", seed=seeds[place],
                condition={**system.condition, **LATE}, fold=fold,
            )
            for name, value in _late(history).items()
        ]  # fmt: skip
    every = pd.concat(tables)
    for name in MEASURES:
        for epoch, part in every.groupby("epoch"):
            rows.append(_row(system, dataset, name, student_interval(part[name]), epoch=int(epoch)))
        late = student_interval([_late(history)[name] for _, _, history in single])
        rows.append(_row(system, dataset, name, late, **LATE))
    stacked = pd.concat([history for _, _, history in single])
    for column in (c for c in stacked.columns if c.startswith("cosine.")):
        pair = ", ".join(column.split(".")[1:])
        for epoch, part in stacked.groupby("epoch"):
            found = student_interval(part[column])
            if not math.isnan(found.value):
                about = {"epoch": int(epoch) + 1, "pair": pair}
                rows.append(_row(system, dataset, "gradient_cosine", found, **about))
    return rows


def conflict_difference_rows(
    a: System, b: System, pooled: Mapping[str, Sequence[Pooled]], dataset: str
) -> list[dict[str, Any]]:
    """Rows `<measure>_difference` of the late epochs, a - b, fold by fold of the same seed."""
    first, second = (
        {(place, fold): _late(history) for place, fold, history in _runs(pooled[s.tag])}
        for s in (a, b)
    )
    shared = sorted(set(first) & set(second))
    rows = []
    for name in MEASURES:
        found = student_interval([first[key][name] - second[key][name] for key in shared])
        rows.append(_row(a, dataset, f"{name}_difference", found, **LATE, **b.as_other))
    return rows


def staging_results(
    parameters: Parameters, asked: bool, systems: Sequence[System] = SYSTEMS
) -> Results:
    """Run on the parameters' data set where it is `asked` for, else read what is stored."""
    p = parameters
    if not asked or p.dataset == "synthetic":
        return stored_results(NAME)
    first, *others = systems
    found = results(p, systems, [(first, other) for other in others])
    rows: list[dict[str, Any]] = []
    for system in systems:
        rows += conflict_rows(system, found.pooled[system.tag], p.seeds, p.dataset)
    for other in others:
        rows += conflict_difference_rows(first, other, found.pooled, p.dataset)
    assert found.rows is not None
    # Of one type a fold tests a handful of images.
    whole = found.rows["condition"].map(lambda c: "defect_type" not in c)
    kept = found.rows[found.rows["fold"].isna() | whole]
    return found._replace(rows=pd.concat([kept, pd.DataFrame(rows)], ignore_index=True))


def judge_stages(conflict: Value, outcomes: Mapping[str, Value]) -> Judgement:
    """Do stages keep the terms from interfering? All figures are staged minus other.

    `conflict`: the share of conflicting pairs in the late epochs, when both have every term on, by
    fold; `outcomes`: of the test tiles, paired. Stages *lessen the conflict* if its interval lies
    below 0. They *pay* if at least two of the four outcomes have intervals above 0 and none lies
    below: one of four may be chance.

    *Confirmed* if both. *Refuted* if no outcome lies above 0, and either the conflict is no less or
    an outcome lies below. Else *refined*. Where nobody measured a conflict, *out of reach here*.
    """
    figures = {"conflicting pairs": conflict, **outcomes}
    if any(math.isnan(value.value) for value in figures.values()):
        return Judgement("out of reach here", figures)
    less = conflict.high < 0
    better = sum(value.low > 0 for value in outcomes.values())
    worse = sum(value.high < 0 for value in outcomes.values())
    verdict = "refined"
    if less and better >= 2 and not worse:
        verdict = "confirmed"
    elif not better and (worse or not less):
        verdict = "refuted"
    return Judgement(verdict, figures)


def judge(rows: pd.DataFrame, other: System = UNSTAGED, staged: System = IN_STAGES) -> Judgement:
    """`judge_stages` from result rows, against one of the other plans."""
    outcomes = {
        name: find(rows, staged, f"{metric}_difference", of, **other.as_other)
        for name, (metric, of) in OUTCOMES.items()
    }
    about = {**LATE, **other.as_other}
    return judge_stages(find(rows, staged, "conflicting_share_difference", **about), outcomes)


def epoch_table(rows: pd.DataFrame, system: System, metric: str) -> pd.DataFrame:
    """The data of `curves.over_epochs`: `epoch, value, ci_low, ci_high`, pooled over the runs."""
    epochs = {c["epoch"] for c in map(dict, rows["condition"]) if set(c) >= {"epoch"}}
    lines = []
    for epoch in sorted(epochs):
        value = find(rows, system, metric, epoch=epoch)
        lines.append((epoch, value.value, value.low, value.high))
    return pd.DataFrame(lines, columns=["epoch", "value", "ci_low", "ci_high"])


def worst_pairs(found: Conflict, count: int = 3) -> list[tuple[str, str, float]]:
    """The pairs of terms with the lowest cosines, lowest first."""
    pairs = [
        (a, found.terms[j], float(found.cosines[i, j]))
        for i, a in enumerate(found.terms)
        for j in range(i + 1, len(found.terms))
        if not math.isnan(found.cosines[i, j])
    ]
    return sorted(pairs, key=lambda pair: pair[2])[:count]
