"""How often interventions turn a verdict: tidy rows, paired differences, and what they decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from gainbook.lab.chapter_results import Results, results
from gainbook.lab.folds import ask_folds
from gainbook.lab.judge import Judgement
from gainbook.lab.parameters import Parameters
from gainbook.lab.reference import System
from gainbook.lab.results_file import row
from gainbook.lab.tables import Value, find
from gainmtl.evaluation.interventions import INTERVENTIONS, LEVELS, ask
from gainmtl.evaluation.stats import bootstrap_interval, paired_interval

QUESTIONS = {
    "removed": "defect removed: should become normal",
    "moved": "as much removed elsewhere: should stay",
    "kept": "only the defect kept: should stay",
}
"""The interventions in words, in the order of figures."""
VERDICTS = ("auroc", "recall", "auroc_difference")


def selectivity(answers: pd.DataFrame, level: str) -> pd.Series:
    """`removed - moved` per part: 1 where the verdict hangs on the defect's place and no other.

    In {-1, 0, 1}, NaN where one of the two is; a head that flips whatever is removed scores 0.
    """
    return answers[f"flip.{level}.removed"] - answers[f"flip.{level}.moved"]


def flip_rows(
    answers: pd.DataFrame,
    dataset: str,
    system: str,
    condition: Mapping[str, Any] | None = None,
    split: str = "test",
    resamples: int = 2000,
) -> list[dict[str, Any]]:
    """Rows `flip_rate` and `selectivity` of what `ask` found, with intervals over groups.

    The condition says the `level` and, of `flip_rate`, the `intervention`, and with more than one
    defect type the `defect_type` of further rows. Rates count parts that were called defective.
    """
    about: dict[str, Any] = {"split": split}
    rows = []
    kinds = sorted(set(answers["defect_type"]))
    for level in LEVELS:
        asked = [(name, answers[f"flip.{level}.{name}"]) for name in INTERVENTIONS]
        for name, values in [*asked, (None, selectivity(answers, level))]:
            metric = "selectivity" if name is None else "flip_rate"
            extra = {"level": level, **({} if name is None else {"intervention": name})}
            for kind in [None, *(kinds if len(kinds) > 1 else [])]:
                keep = values.notna() & (True if kind is None else answers["defect_type"] == kind)
                if not keep.any():
                    continue
                found = bootstrap_interval(
                    np.mean, answers["group"][keep], values[keep].to_numpy(), resamples=resamples
                )
                extra_kind = {} if kind is None else {"defect_type": kind}
                about["condition"] = {**(condition or {}), **extra, **extra_kind}
                rows.append(row(dataset, system, metric, found.value, **about, **found.ends))
    return rows


def flip_differences(
    a: pd.DataFrame,
    b: pd.DataFrame,
    dataset: str,
    first: System,
    second: System,
    split: str = "test",
    resamples: int = 2000,
) -> list[dict[str, Any]]:
    """Rows `flip_rate_difference` and `selectivity_difference`, a - b on the parts both found.

    Only where both verdicts were "defective" and both answers are defined, so that a system is
    not rewarded for the parts that it misses. The condition names the second system, `against`.
    """
    if list(a["name"]) != list(b["name"]):
        raise ValueError("flip_differences: the two systems were not asked about the same parts")
    against = {"against": second.name}
    against |= {f"against_{key}": value for key, value in second.condition.items()}
    rows = []
    for level in LEVELS:
        pairs = {
            name: (a[f"flip.{level}.{name}"], b[f"flip.{level}.{name}"]) for name in INTERVENTIONS
        }
        pairs["selectivity"] = selectivity(a, level), selectivity(b, level)
        for name, (x, y) in pairs.items():
            keep = x.notna() & y.notna()
            if not keep.any():
                continue
            found = paired_interval(
                np.mean,
                a["group"][keep],
                x[keep].to_numpy(),
                y[keep].to_numpy(),
                resamples=resamples,
            )
            single = name != "selectivity"
            metric = "flip_rate_difference" if single else "selectivity_difference"
            extra = {"level": level, **({"intervention": name} if single else {})}
            condition = {**first.condition, **against, **extra}
            rows.append(
                row(
                    dataset,
                    first.name,
                    metric,
                    found.value,
                    split=split,
                    condition=condition,
                    **found.ends,
                )
            )
    return rows


def flip_results(
    parameters: Parameters,
    systems: Sequence[System],
    pairs: Sequence[tuple[System, System]] = (),
) -> Results:
    """`findings.results` with the flip rates of all interventions, and little else.

    The systems' folds are read, or trained where they are not there; with `dataset="synthetic"`
    the chapter's reference results are. `pairs` are compared, first minus second.
    """
    found = results(parameters, systems, pairs)
    if not found.pooled or found.rows is None:
        return found
    answers = ask_folds(parameters, found.pooled, ask)
    rows = []
    for system in systems:
        about = parameters.dataset, system.name, system.condition
        rows += flip_rows(answers[system.tag], *about)
    for a, b in pairs:
        rows += flip_differences(answers[a.tag], answers[b.tag], parameters.dataset, a, b)
    plain = ~found.rows["condition"].map(lambda condition: "defect_type" in condition)
    kept = found.rows["metric"].isin(VERDICTS) & found.rows["fold"].isna() & plain
    table = pd.concat([found.rows[kept], pd.DataFrame(rows)], ignore_index=True)
    return found._replace(rows=table)


def flip_series(rows: pd.DataFrame, systems: Sequence[System]) -> pd.DataFrame:
    """The data of `plots.intervals`: a category per question and level, a series per system.

    Questions that no verdict could be asked (a network that finds nothing) are left out.
    """
    lines = []
    for intervention, words in QUESTIONS.items():
        for level in LEVELS:
            for system in systems:
                asked = {"level": level, "intervention": intervention}
                try:
                    value = find(rows, system, "flip_rate", **asked)
                except LookupError:  # of an empty table KeyError, which is one
                    continue
                where = "at the features" if level == "features" else "on the image"
                lines.append((f"{words}, {where}", system.label, *value[:3]))
    return pd.DataFrame(lines, columns=["category", "series", "value", "ci_low", "ci_high"])


KEPT_MARGIN = 0.10
AUROC_MARGIN = 0.02


def judge_term(
    selective_image: Value, selective_features: Value, kept_image: Value, auroc: Value
) -> Judgement:
    """Does the counterfactual term force the right reasoning? Fixed before anything was measured.

    All four are differences, the system with the term minus the one without it, on the same parts,
    with 95 % intervals over groups. The term acts on features, so that better figures *there* say
    that it trains; the claim is about reasons, which the picture decides.

    *Confirmed* if the selectivity on the image (`removed - moved`) is larger: interval above 0;
    while the defect alone still convinces: the share of verdicts lost by keeping only the defect
    on the image grows by less than 0.10 at the interval's upper end; and the verdicts keep their
    worth: AUROC's lower end above -0.02. *Refined* if not, but the selectivity at the features is
    larger: the term does what it is paid for, and not more. Else *refuted*.
    """
    figures = {
        "selectivity on the image": selective_image,
        "selectivity at the features": selective_features,
        "verdicts lost with only the defect kept on the image": kept_image,
        "AUROC": auroc,
    }
    holds = selective_image.low > 0 and kept_image.high < KEPT_MARGIN and auroc.low > -AUROC_MARGIN
    verdict = "confirmed" if holds else "refined" if selective_features.low > 0 else "refuted"
    return Judgement(verdict, figures)
