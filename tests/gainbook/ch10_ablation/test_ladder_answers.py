"""Chapter 10's answers to A1, A10, A12, A13, and the study's to C3, from made-up rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
from gainbook.chapters.ch10_ablation import ladder_answers
from gainbook.chapters.ch10_ablation.ablation_claims import PROMISES
from gainbook.chapters.ch10_ablation.ladder import S1, S2, S4, S4_NO_CONSISTENCY, S5, WHOLE_STEPS
from gainbook.chapters.ch12_fostering import weak_feature_study
from gainbook.lab import components
from gainbook.lab import results_file as runs
from gainbook.lab.judge import Judgement
from gainbook.lab.reference import System
from gainbook.render import claim_answers
from gainbook.render.claims import CLAIMS, NOT_YET, answer

UP, FLAT, DOWN = (0.1, 0.05, 0.15), (0.0, -0.01, 0.01), (-0.1, -0.15, -0.05)
Ends = tuple[float, float, float]


def less(
    a: System, b: System, metric: str, ends: Ends, map: str | None = None, **about: Any
) -> dict[str, Any]:
    value, low, high = ends
    condition = {**a.condition, **about, **b.as_other}
    return runs.row(
        "set", a.name, f"{metric}_difference", value, map=map, condition=condition, ci_low=low,
        ci_high=high, n=61,
    )  # fmt: skip


def judged(judge: Callable[[pd.DataFrame], Judgement], rows: list[dict[str, Any]]) -> str:
    verdict = judge(pd.DataFrame(runs.check_rows(rows))).verdict
    for place in range(len(rows)):  # every figure is needed
        with pytest.raises(LookupError):
            judge(pd.DataFrame(rows[:place] + rows[place + 1 :] + [less(S1, S5, "x", UP)]))
    return verdict


@pytest.mark.parametrize(
    ("overlap", "auroc", "verdict"),
    [(UP, FLAT, "confirmed"), (UP, DOWN, "refined"), (FLAT, UP, "refuted")],
)
def test_supervision_is_s2_minus_s1(overlap: Ends, auroc: Ends, verdict: str) -> None:
    rows = [
        less(S2, S1, "positive_energy", UP, "cam"),
        less(S2, S1, "iou", overlap, "defect_map"),
        less(S2, S1, "auroc", auroc),
    ]
    assert judged(ladder_answers.supervision, rows) == verdict


@pytest.mark.parametrize(
    ("image", "features", "verdict"),
    [(UP, UP, "confirmed"), (FLAT, UP, "refined"), (FLAT, FLAT, "refuted")],
)
def test_the_term_is_s5_minus_s4(image: Ends, features: Ends, verdict: str) -> None:
    rows = [
        less(S5, S4, "selectivity", image, level="image"),
        less(S5, S4, "selectivity", features, level="features"),
        less(S5, S4, "flip_rate", FLAT, level="image", intervention="kept"),
        less(S5, S4, "auroc", FLAT),
    ]
    assert judged(ladder_answers.counterfactual_term, rows) == verdict


@pytest.mark.parametrize(
    ("first", "others", "verdict"),
    [(UP, UP, "confirmed"), (UP, DOWN, "refined"), (FLAT, DOWN, "refuted")],
)
def test_each_step_by_its_promise(first: Ends, others: Ends, verdict: str) -> None:
    rows = []
    for place, step in enumerate(WHOLE_STEPS):
        _, metric, of, condition = PROMISES[step.system.name]
        ends = others if place else first
        rows.append(less(step.system, step.before, metric, ends, of, **condition))
    assert judged(ladder_answers.each, rows) == verdict
    names = list(ladder_answers.each(pd.DataFrame(rows)).figures)
    assert names[0] == "S1 to S2, evidence on the defect"
    assert len(names) == 5


@pytest.mark.parametrize(
    ("overlap", "iou", "verdict"),
    [(UP, FLAT, "confirmed"), (UP, DOWN, "refined"), (DOWN, UP, "refuted")],
)
def test_consistency_is_s4_minus_s4_without_it(overlap: Ends, iou: Ends, verdict: str) -> None:
    rows = [
        less(S4, S4_NO_CONSISTENCY, "map_overlap", overlap),
        less(S4, S4_NO_CONSISTENCY, "iou", iou, "defect_map"),
    ]
    assert judged(ladder_answers.consistency, rows) == verdict


def record(beta: float, seed: int, gain: float, validation: float) -> dict[str, Any]:
    """A run of the study; `gain` on the weak feature, in energy and in AUROC."""
    gain += 0.001 * seed
    figures = [
        ("auroc", {"shown": "weak"}, None, 0.6 + gain),
        ("positive_energy", {"on": "weak", "shown": "both"}, "cam", 0.2 + gain),
        ("positive_energy", {"on": "strong", "shown": "both"}, "cam", 0.5),
    ]
    keys = ("metric", "condition", "map", "value")
    return {
        "beta": beta, "alone": weak_feature_study.JUDGED, "seed": seed, "settings": {"val": 80},
        "figures": [dict(zip(keys, one, strict=True)) | {"n": 10} for one in figures],
        "validation_auroc": validation,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("gain", "validation", "verdict"),
    [
        (0.1, 0.9, "confirmed"), (0.0, 0.9, "refined"), (-0.1, 0.9, "refuted"),
        (0.1, 0.5, "out of reach here"),
    ],
)  # fmt: skip
def test_the_weak_feature_at_the_beta_that_validation_chose(
    gain: float, validation: float, verdict: str
) -> None:
    records = [record(0.0, seed, -0.0005 * seed, 0.9) for seed in range(3)]
    records += [record(1.0, seed, gain - 0.001 * (seed == 1), validation) for seed in range(3)]
    rows = pd.DataFrame(weak_feature_study.study_rows(records))
    found = claim_answers.weak_feature(rows)
    assert found.verdict == verdict
    assert len(found.figures) == (0 if verdict == "out of reach here" else 3)


def test_they_are_asked_and_wait_for_their_files() -> None:
    asked = {
        claim.id: [one for one in claim.answers if one.judge is not None and one.results in files]
        for files in ({ladder_answers.NAME, weak_feature_study.NAME},)
        for claim in CLAIMS
    }
    assert {name for name, found in asked.items() if found} == {"A1", "A10", "A12", "A13", "C3"}
    for claim in CLAIMS:
        for one in asked[claim.id]:
            assert answer(claim, one, {}).verdict == NOT_YET


@pytest.mark.parametrize(("against", "seconds"), [("attention", 1.02), ("plain", 1.03)])
def test_cbam_costs_what_it_does_before_the_attention_where_that_is_known(
    against: str, seconds: float
) -> None:
    known = {"plain": (components.WITH_CBAM, 1.03)}
    if against == "attention":
        known["attention"] = (components.ATTENTION_CBAM, 1.02)
    rows = pd.DataFrame(
        [
            {
                "system": system.name, "metric": f"{name}_ratio", "map": None, "seed": None,
                "fold": None, "value": value, "ci_low": None, "ci_high": None, "n": None,
                "condition": {**system.condition, "network": "mobilenetv2_100", "image_size": 128,
                              "against": other},
            }
            for other, (system, value) in known.items()
            for name in ("parameters", "operations", "seconds")
        ]
    )  # fmt: skip
    assert claim_answers._cost_of_cbam(rows)["seconds"].value == seconds
    with pytest.raises(LookupError):
        claim_answers._cost_of_cbam(rows[rows["metric"] != "seconds_ratio"])
