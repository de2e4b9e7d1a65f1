"""The claims that the book tests, and what the stored reference runs say about each.

Criteria stand with their functions and were written before the runs; here is only the list.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

import pandas as pd

from gainbook.chapters.ch03_reason import shortcut_findings
from gainbook.chapters.ch07_localization import focal_study
from gainbook.chapters.ch09_stages import staging_results
from gainbook.chapters.ch10_ablation import ladder_answers
from gainbook.chapters.ch12_fostering import fostering_answers, weak_feature_study
from gainbook.chapters.ch13_distillation import swap_verdicts
from gainbook.lab import components, reference
from gainbook.lab.judge import Judgement
from gainbook.lab.results_file import ResultsFile
from gainbook.lab.tables import Value, markdown
from gainbook.render import claim_answers
from gainbook.render.headlines import own_rows

Rows: TypeAlias = pd.DataFrame
NOT_YET = "not run yet"
MOST = 3
"""Figures per cell of the table; a chapter has them all."""
LIVE = frozenset(
    {
        "parameters_ratio", "operations_ratio", "seconds_ratio", "time_ratio", "forward_passes",
        "head_backward_passes", "slope_error", "loss_before", "loss_after", "step_time_ratio",
        "gradient_gap",
    }
)  # fmt: skip
"""Measured beside a chapter's live part, because they are no matter of the data: what a network or
a method costs, and whether it can be differentiated. Everything else is read of the run's own
data."""


class Answer(NamedTuple):
    """Where a claim is judged, and how."""

    chapter: str
    """The notebook's name; its page need not exist yet."""
    results: str
    """The file under `book/results`."""
    judge: Callable[[Rows], Judgement | None] | None = None
    """From the file's rows. `None`: by the row `claim_<id>_confirmed` that the notebook left."""


class Claim(NamedTuple):
    """A claim in our words."""

    id: str
    words: str
    answers: tuple[Answer, ...] = ()


_S5 = claim_answers.supervision(reference.S5, reference.S1_FINE)
_S2 = claim_answers.supervision(components.SUPERVISION_ALONE, components.PLAIN)
_03, _04, _05 = "03_right_answer_wrong_reason", "04_class_activation_maps", "05_attention"
_06, _07, _08 = "06_guided_attention", "07_localization", "08_counterfactual"
_09, _11, _12 = "09_staged_training", "11_six_approaches", "12_cam_fostering"
_10, _13 = ladder_answers.NAME, "13_reverse_distillation"


def _fostering(claim: str) -> Answer:
    return Answer(_12, _12, fostering_answers.ANSWERS[claim])


def _swap(claim: str) -> Answer:
    return Answer(_13, swap_verdicts.NAME, swap_verdicts.ANSWERS[claim])


def _from(chapter: str) -> tuple[Answer, ...]:
    return (Answer(chapter, chapter),)


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "A1",
        "supervising the map improves it and keeps the accuracy",
        (
            Answer(_09, _09, _S5),
            Answer(_06, _06, _S2),
            Answer(_03, shortcut_findings.NAME, claim_answers.shortcut),
            Answer(_10, _10, ladder_answers.supervision),
        ),
    ),
    Claim(
        "A2",
        "mining makes the network find the discriminative regions by itself",
        (Answer(_06, _06, claim_answers.mining_alone),),
    ),
    Claim(
        "A3",
        "CBAM is nearly free and makes the attention after it more accurate",
        (Answer(_05, _05, claim_answers.refinement),),
    ),
    Claim("A4", "EfficientNetV2's sizes, accuracies and training speed are as published"),
    Claim(
        "A5",
        "focal loss cuts easy samples a hundredfold and helps with rare defects",
        (Answer(_07, focal_study.NAME, claim_answers.focal),),
    ),
    Claim(
        "A6",
        "classifying and locating together beats either alone",
        (Answer(_07, _07, claim_answers.together), *_from(_11)),
    ),
    Claim(
        "A7",
        "of the four methods only a CAM can be trained on",
        (Answer(_04, _04, claim_answers.differentiable),),
    ),
    Claim(
        "A8",
        "CAM costs nothing, Grad-CAM a gradient, Score-CAM many passes",
        (Answer(_04, _04, claim_answers.cost_of_maps),),
    ),
    Claim(
        "A9",
        "a learnable temperature sharpens by itself",
        (Answer(_05, _05, claim_answers.temperature),),
    ),
    Claim(
        "A10",
        "the counterfactual term forces the right reasoning",
        (
            Answer(_08, _08, claim_answers.counterfactual_term),
            Answer(_10, _10, ladder_answers.counterfactual_term),
        ),
    ),
    Claim(
        "A11",
        "adding losses in stages keeps tasks from interfering",
        (Answer(_09, staging_results.NAME, staging_results.judge),),
    ),
    Claim("A12", "each of the six steps contributes", (Answer(_10, _10, ladder_answers.each),)),
    Claim(
        "A13",
        "consistency keeps attention and localization in line",
        (Answer(_10, _10, ladder_answers.consistency),),
    ),
    Claim("A14", "only the integrated system does all four", _from(_11)),
    Claim("B1", "rare and new defects and the cost of labels make anomaly detection necessary"),
    Claim("B2", "the selection rule picks TinyViT-21M"),
    Claim("B3", "which anomaly detector the same rule picks"),
    Claim("B4", "fine anomalies need 512 pixels"),
    Claim("C1", "fostering shrinks the area and multiplies the dispersion", (_fostering("C1"),)),
    Claim("C2", "fostering costs 83 % more time", (_fostering("C2"),)),
    Claim(
        "C3",
        "fostering helps weak features above all",
        (
            _fostering("C3"),
            Answer(_12, weak_feature_study.NAME, claim_answers.weak_feature),
        ),
    ),
    Claim("C4", "the three measures of spread see different things", (_fostering("C4"),)),
    Claim("C5", "the best accuracy is without fostering", (_fostering("C5"),)),
    Claim("C6", "area and dispersion are too costly as losses", (_fostering("C6"),)),
    Claim("C7", "fostering improves an attention branch network", (_fostering("C7"),)),
    Claim("D1", "a better classifier as the teacher detects better", (_swap("D1"),)),
    Claim("D2", "the swap got worse on every class, and the structure is to blame", (_swap("D2"),)),
    Claim("E1", "an activation score chooses labels that teach more"),
    Claim("E2", "augmenting newly labelled data cures over-confidence"),
    Claim("E3", "dropping classes of low accuracy midway helps the others"),
    Claim("E4", "six classes reach 99.99 %"),
)


def answer(claim: Claim, one: Answer, stored: Mapping[str, ResultsFile]) -> Judgement:
    """What the stored runs say; the verdict `NOT_YET` where the file or its rows are not there."""
    if one.results not in stored:
        return Judgement(NOT_YET, {})
    rows = stored[one.results].rows
    if one.judge is None:
        left = rows[rows["metric"] == f"claim_{claim.id.lower()}_confirmed"]["value"].dropna()
        if left.empty:
            return Judgement("see the chapter", {})
        return Judgement("confirmed" if left.iloc[-1] == 1 else "not confirmed", {})
    own = own_rows(stored[one.results])
    live = rows[rows["metric"].isin(LIVE) | (rows["system"] == "lesson")]
    rows = pd.concat([own, live.loc[live.index.difference(own.index)]])
    try:
        found = one.judge(rows)
    except LookupError:  # a run of an earlier version, or of fewer systems
        return Judgement(NOT_YET, {})
    return found if found is not None else Judgement(NOT_YET, {})


def _told(value: Value) -> str:
    """Differences, which have an interval, with their sign; small figures with a digit more."""
    return value.text(2 if abs(value.value) >= 0.1 else 3, not math.isnan(value.low))


def claims_table(stored: Mapping[str, ResultsFile], pages: frozenset[str] = frozenset()) -> str:
    """One line per claim and chapter: verdict and the figures it rests on.

    `pages` are the notebooks that exist, which are linked.
    """
    lines = []
    for claim in CLAIMS:
        if not claim.answers:
            lines.append([claim.id, claim.words, "–", NOT_YET, ""])
        for place, one in enumerate(claim.answers):
            judged = answer(claim, one, stored)
            number = one.chapter[:2]
            link = f"[{number}](../notebooks/{one.chapter}.ipynb)"
            told = [
                f"{name} {_told(value)}"
                for name, value in judged.figures.items()
                if not math.isnan(value.value)
            ]
            more = [f"{len(told) - MOST} more in the chapter"] if len(told) > MOST else []
            lines.append(
                [
                    claim.id if not place else "",
                    claim.words if not place else "",
                    link if one.chapter in pages else number,
                    f"**{judged.verdict}**" if judged.verdict != NOT_YET else NOT_YET,
                    "; ".join(told[:MOST] + more),
                ]
            )
    return markdown(["", "claim", "chapter", "verdict", "figures"], lines, is_text=True)
