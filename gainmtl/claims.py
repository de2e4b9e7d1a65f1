"""The claims that the book tests, and what the stored reference runs say about each.

Criteria stand with their functions and were written before the runs; here is only the list.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import pandas as pd

from gainmtl import (
    components,
    flips,
    focal_study,
    gate_scores,
    joint,
    mining,
    reference,
    shortcut_findings,
    staging_results,
)
from gainmtl.flips import Judgement
from gainmtl.headlines import own_rows
from gainmtl.runs import Results
from gainmtl.tables import Value, find, markdown

Rows = pd.DataFrame
NOT_YET = "not run yet"


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


def _supervision(first: reference.System, plain: reference.System) -> Callable[[Rows], Judgement]:
    def judge(rows: Rows) -> Judgement:
        figures = {
            name: find(rows, first, f"{metric}_difference", of, **plain.as_other)
            for name, (metric, of) in {
                "positive energy": ("positive_energy", "cam"),
                "IoU": ("iou", "defect_map"),
                "AUROC": ("auroc", None),
            }.items()
        }
        return Judgement(mining.judge_supervision(*figures.values()), figures)

    return judge


def _shortcut(rows: Rows) -> Judgement:
    system = next(s for s in shortcut_findings.SYSTEMS if s.name == "S5")
    return Judgement(*shortcut_findings.judge_guidance(rows, system))


def _mining(rows: Rows) -> Judgement:
    figures = {
        name: find(
            rows, components.MINING_ALONE, f"{metric}_difference", of, **components.PLAIN.as_other
        )
        for name, (metric, of) in {
            "evidence on the defect": ("positive_energy", "cam"),
            "defect under the soft mask": ("soft_mask_coverage", "cam"),
            "AUROC": ("auroc", None),
        }.items()
    }
    return Judgement(mining.judge_mining(*figures.values()), figures)


def _refinement(rows: Rows) -> Judgement:
    cost = {
        name: find(
            rows, components.WITH_CBAM, f"{name}_ratio",
            network="mobilenetv2_100", image_size=128, against="plain",
        ).value
        for name in ("parameters", "operations", "seconds")
    }  # fmt: skip
    bare = components.ATTENTION_BARE
    energy, overlap = (
        find(rows, components.ATTENTION_CBAM, f"{metric}_difference", "defect_map", **bare.as_other)
        for metric in ("positive_energy", "iou")
    )
    return Judgement(*gate_scores.judge_refinement(cost, energy, overlap))


def _focal(rows: Rows) -> Judgement:
    gain = focal_study.study_value(rows, "auroc_difference", 2.0, min(focal_study.RATES))
    return Judgement(focal_study.judge_focal(gain), {"AUROC, rarest rate": gain})


def _joint(rows: Rows) -> Judgement:
    together = components.TOGETHER
    by_map = joint.against(components.LOCALIZATION_ALONE, verdict_by_map=True)
    found = joint.judge_together(
        find(rows, together, "auroc_difference", **joint.against(components.PLAIN)),
        find(rows, together, "pixel_ap_difference", "defect_map", **by_map),
    )
    return Judgement(*found)


def _counterfactual(rows: Rows) -> Judgement:
    def gain(metric: str, **condition: str) -> Value:
        other = reference.S5_WITHOUT_TERM.as_other
        return find(rows, reference.S5, f"{metric}_difference", **other, **condition)

    return flips.judge_term(
        gain("selectivity", level="image"),
        gain("selectivity", level="features"),
        gain("flip_rate", level="image", intervention="kept"),
        gain("auroc"),
    )


_S5 = _supervision(reference.S5, reference.S1_FINE)
_S2 = _supervision(components.SUPERVISION_ALONE, components.PLAIN)
_03, _04, _05 = "03_right_answer_wrong_reason", "04_class_activation_maps", "05_attention"
_06, _07, _08 = "06_guided_attention", "07_localization", "08_counterfactual"
_09, _11, _12 = "09_staged_training", "11_six_approaches", "12_cam_fostering"
_13 = "13_reverse_distillation"


def _from(chapter: str) -> tuple[Answer, ...]:
    return (Answer(chapter, chapter),)


CLAIMS: tuple[Claim, ...] = (
    Claim(
        "A1",
        "supervising the map improves it and keeps the accuracy",
        (
            Answer(_09, _09, _S5),
            Answer(_06, _06, _S2),
            Answer(_03, shortcut_findings.NAME, _shortcut),
        ),
    ),
    Claim(
        "A2",
        "mining makes the network find the discriminative regions by itself",
        (Answer(_06, _06, _mining),),
    ),
    Claim(
        "A3",
        "CBAM is nearly free and makes the attention after it more accurate",
        (Answer(_05, _05, _refinement),),
    ),
    Claim("A4", "EfficientNetV2's sizes, accuracies and training speed are as published"),
    Claim(
        "A5",
        "focal loss cuts easy samples a hundredfold and helps with rare defects",
        (Answer(_07, focal_study.NAME, _focal),),
    ),
    Claim(
        "A6",
        "classifying and locating together beats either alone",
        (Answer(_07, _07, _joint), *_from(_11)),
    ),
    Claim("A7", "of the four methods only a CAM can be trained on", _from(_04)),
    Claim("A8", "CAM costs nothing, Grad-CAM a gradient, Score-CAM many passes", _from(_04)),
    Claim("A9", "a learnable temperature sharpens by itself", _from(_05)),
    Claim(
        "A10",
        "the counterfactual term forces the right reasoning",
        (Answer(_08, _08, _counterfactual),),
    ),
    Claim(
        "A11",
        "adding losses in stages keeps tasks from interfering",
        (Answer(_09, staging_results.NAME, staging_results.judge),),
    ),
    Claim("A12", "each of the six steps contributes"),
    Claim("A13", "consistency keeps attention and localization in line"),
    Claim("A14", "only the integrated system does all four", _from(_11)),
    Claim("B1", "rare and new defects and the cost of labels make anomaly detection necessary"),
    Claim("B2", "the selection rule picks TinyViT-21M"),
    Claim("B3", "which anomaly detector the same rule picks"),
    Claim("B4", "fine anomalies need 512 pixels"),
    Claim("C1", "fostering shrinks the area and multiplies the dispersion", _from(_12)),
    Claim("C2", "fostering costs 83 % more time", _from(_12)),
    Claim("C3", "fostering helps weak features above all", _from(_12)),
    Claim("C4", "the three measures of spread see different things", _from(_12)),
    Claim("C5", "the best accuracy is without fostering", _from(_12)),
    Claim("C6", "area and dispersion are too costly as losses", _from(_12)),
    Claim("C7", "fostering improves an attention branch network", _from(_12)),
    Claim("D1", "a better classifier as the teacher detects better", _from(_13)),
    Claim("D2", "the swap got worse on every class, and the structure is to blame", _from(_13)),
    Claim("E1", "an activation score chooses labels that teach more"),
    Claim("E2", "augmenting newly labelled data cures over-confidence"),
    Claim("E3", "dropping classes of low accuracy midway helps the others"),
    Claim("E4", "six classes reach 99.99 %"),
)


def answer(claim: Claim, one: Answer, stored: Mapping[str, Results]) -> Judgement:
    """What the stored runs say; the verdict `NOT_YET` where the file or its rows are not there."""
    if one.results not in stored:
        return Judgement(NOT_YET, {})
    rows = stored[one.results].rows
    if one.judge is None:
        left = rows[rows["metric"] == f"claim_{claim.id.lower()}_confirmed"]["value"].dropna()
        if left.empty:
            return Judgement("see the chapter", {})
        return Judgement("confirmed" if left.iloc[-1] == 1 else "not confirmed", {})
    # What a network costs is no matter of data, and was measured beside the live part.
    costs = rows[rows["metric"].str.endswith("_ratio") & (rows["split"] == "test")]
    own = own_rows(stored[one.results])
    rows = pd.concat([own, costs.loc[costs.index.difference(own.index)]])
    try:
        found = one.judge(rows)
    except LookupError:  # a run of an earlier version, or of fewer systems
        return Judgement(NOT_YET, {})
    return found if found is not None else Judgement(NOT_YET, {})


def claims_table(stored: Mapping[str, Results], pages: frozenset[str] = frozenset()) -> str:
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
            told = "; ".join(
                f"{name} {value.text(2 if abs(value.value) >= 0.1 else 3, True)}"
                for name, value in judged.figures.items()
                if not math.isnan(value.value)
            )
            lines.append(
                [
                    claim.id if not place else "",
                    claim.words if not place else "",
                    link if one.chapter in pages else number,
                    f"**{judged.verdict}**" if judged.verdict != NOT_YET else NOT_YET,
                    told,
                ]
            )
    return markdown(["", "claim", "chapter", "verdict", "figures"], lines)
