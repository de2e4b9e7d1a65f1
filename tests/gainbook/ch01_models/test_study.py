"""Rows of the selections, and the borders of the verdicts on A4, B2 and B3."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from gainbook.chapters.ch01_models import analysis, page, study
from gainbook.chapters.ch01_models.blocks import PLACES, VERSIONS, BlockCost
from gainbook.chapters.ch01_models.measure import DATASET, block_rows
from gainbook.lab.judge import CONFIRMED, NOT_RUN, REFINED, REFUTED, UNDECIDED
from gainbook.lab.results_file import check_rows, row
from gainbook.lab.study import judge
from gainbook.lab.tables import Value, find
from scipy.stats import spearmanr

VARIANTS = analysis.VARIANTS


@pytest.fixture(scope="module")
def named() -> dict[str, pd.DataFrame]:
    times = pd.Series({"efficientad-s": 900.0, "efficientad-m": 2000.0, "stfpm-resnet18": 50.0,
                       "patchcore-wide_resnet50_2": 8000.0, "rd-resnet50": 300.0,
                       "simplenet-wide_resnet50_2": 250.0})  # fmt: skip
    return analysis.candidate_tables(times)


@pytest.fixture(scope="module")
def rows(named: dict[str, pd.DataFrame]) -> pd.DataFrame:
    found = analysis.selection_rows(named) + analysis.share_rows(named, 30)
    return pd.DataFrame(check_rows(found))


def test_the_plan_s_choice_is_reproduced(rows: pd.DataFrame) -> None:
    condition = analysis.about("seed", "cost", "strict", "linear")
    found = find(rows, analysis.Named(study.CLASSIFIER), "residual", **condition)
    assert found.value == pytest.approx(0.692, abs=5e-4)
    assert [study.winner(rows, "seed", "cost", *r) for r in VARIANTS] == [study.CLASSIFIER] * 4
    assert study.winner(rows, "seed", "cpu_ms", *VARIANTS[0]) == "FixEfficientNet-B6"
    found_by_gpu = {study.winner(rows, "timm", "gpu_ms", *r) for r in VARIANTS}
    assert found_by_gpu == {"tiny_vit_21m_512.dist_in22k_ft_in1k"}


def test_a_tie_has_no_winner_and_a_missing_selection_is_an_error(rows: pd.DataFrame) -> None:
    assert study.winner(rows, "rerun", "cost", "weak", "linear") is None
    with pytest.raises(LookupError):
        study.winner(rows, "paper", "cpu_ms", "strict", "linear")


def test_timm_s_rows_are_only_those_that_could_win(rows: pd.DataFrame) -> None:
    whole = rows[rows["condition"].map(lambda c: c["table"] == "timm")]
    assert whole.groupby(whole["condition"].map(str))["system"].nunique().max() <= 2


def test_the_verdicts_on_the_frozen_tables(rows: pd.DataFrame) -> None:
    claims = {claim.id: claim for claim in study.STUDY.claims}
    classifier, detector = (judge(claims[id], rows) for id in ("B2", "B3"))
    assert (classifier.verdict, detector.verdict) == (REFINED, REFINED)
    assert judge(claims["A4"], rows).verdict == NOT_RUN
    assert judge(claims["B3"], rows[rows["metric"] != "win_share"]).verdict == NOT_RUN


def choice_rows(winners: dict[tuple[str, str], list[str]], share: float, name: str,
                table: str) -> pd.DataFrame:  # fmt: skip
    """A winner per variant of each table and cost, and one share under the rule as written."""
    made: list[dict[str, Any]] = []
    for (where, cost), names in winners.items():
        for variant, one in zip(VARIANTS, names, strict=True):
            condition = analysis.about(where, cost, *variant)
            made += [
                row(DATASET, one, metric, value, condition=condition)
                for metric, value in (("wins", 1.0), ("residual", 0.5))
            ]
    condition = {**analysis.about(table, "cost", *VARIANTS[0]), "error": 0.0}
    made.append(row(DATASET, name, "win_share", share, condition=condition))
    return pd.DataFrame(made)


T, OTHER = study.CLASSIFIER, "another"


@pytest.mark.parametrize(
    ("cost", "cpu", "share", "verdict"),
    [
        ([T] * 4, [T] * 4, 0.95, CONFIRMED),
        ([T] * 4, [T] * 4, 0.94, UNDECIDED),
        ([T] * 4, [T] * 4, 0.49, REFINED),
        ([T] * 3 + [OTHER], [T] * 4, 0.99, REFINED),
        ([T] * 4, [T] * 3 + [OTHER], 0.99, REFINED),
    ],
)
def test_b2(cost: list[str], cpu: list[str], share: float, verdict: str) -> None:
    winners = {("seed", "cost"): cost, ("seed", "cpu_ms"): cpu, ("seed", "gpu_ms"): [T] * 4}
    found = study.classifier_choice(choice_rows(winners, share, T, "seed"))
    assert found.verdict == verdict
    assert found.figures["points above the line"].value == 0.5


def test_b2_refuted_if_nothing_holds() -> None:
    costs = ("cost", "cpu_ms", "gpu_ms")
    table = choice_rows({("seed", cost): [OTHER] * 4 for cost in costs}, 0.1, T, "seed")
    condition = analysis.about("seed", "cost", *VARIANTS[0])
    table = pd.concat(
        [table, pd.DataFrame([row(DATASET, T, "residual", -0.2, condition=condition)])]
    )
    assert study.classifier_choice(table).verdict == REFUTED


@pytest.mark.parametrize(
    ("paper", "rerun", "timed", "share", "verdict"),
    [
        ("E", "E", "E", 1.0, CONFIRMED),
        ("E", "P", "E", 1.0, REFINED),
        ("E", "E", "P", 1.0, REFINED),
        ("E", "E", "E", 0.6, UNDECIDED),
        ("E", "E", "E", 0.4, REFINED),
    ],
)
def test_b3(paper: str, rerun: str, timed: str, share: float, verdict: str) -> None:
    winners = {
        ("paper", "cost"): [paper] * 4,
        ("rerun", "cost"): [rerun] * 4,
        ("paper", "measured_ms"): [timed] * 4,
    }
    assert study.detector_choice(choice_rows(winners, share, "E", "paper")).verdict == verdict


def version_rows(parameters: float = 1.0, accuracy: float = 0.0, ratio: float = 4.0,
                 step: tuple[float, float, float] = (3.5, 3.2, 3.8)) -> pd.DataFrame:  # fmt: skip
    """The claimed figures, with parameters scaled and accuracies shifted."""
    table = pd.DataFrame(
        [
            {"size": v.size, "million_parameters": v.parameters * parameters,
             "accuracy": v.accuracy + accuracy, "beside": "b7", "training_ratio": ratio}
            for v in VERSIONS
        ]
    )  # fmt: skip
    exact = Value(0.2)
    costs = [BlockCost(place, Value(*step, 15), exact, exact) for place in PLACES]
    return pd.DataFrame(check_rows(analysis.version_rows(table) + block_rows(costs)))


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, CONFIRMED),
        ({"step": (3.5, 2.9, 3.8)}, UNDECIDED),
        ({"step": (1.5, 1.2, 1.8)}, REFINED),
        ({"parameters": 1.02}, REFINED),
        ({"accuracy": 0.2}, REFINED),
        ({"parameters": 1.02, "accuracy": 0.2, "step": (1.5, 1.2, 1.8)}, REFINED),
        ({"parameters": 1.02, "accuracy": 0.2, "step": (1.5, 1.2, 1.8), "ratio": 2.0}, REFUTED),
    ],
)
def test_a4(changes: dict[str, Any], verdict: str) -> None:
    assert study.versions(version_rows(**changes)).verdict == verdict


def test_a4_table_has_claimed_and_found_figures() -> None:
    text = study.versions_table(version_rows(parameters=1.005))
    assert "| S | 21.5 | 21.61 | 83.9 | 83.90 | 4.0 (b7) |" in text
    assert "**3.50 [3.20, 3.80]**" in page.versions_text(version_rows())
    assert "not been measured" in page.versions_text(version_rows().query("metric == 'accuracy'"))


def test_rank_correlation_is_scipy_s_over_architectures() -> None:
    models = pd.DataFrame(
        {
            "architecture": ["tf_net_b0", "tf_net_b0", "net_b1", "vit_a", "vit_b", "vit_c"],
            "image_size": [224, 224, 224, 224, 224, 384],
            "cost": [1.0, 1.0, 2.0, 3.0, 4.0, np.nan],
            "cpu_ms": [10.0, 10.0, 30.0, 20.0, 40.0, 50.0],
        }
    )
    found = analysis.rank_correlation(models, "cost", "cpu_ms", resamples=50)
    assert found.value == pytest.approx(spearmanr([1, 2, 3, 4], [10, 30, 20, 40]).statistic)
    assert found.n == 4  # equal architectures once, none without a cost


@pytest.mark.parametrize(
    ("architecture", "family"),
    [("tf_efficientnet_b3", "efficientnet"), ("resnet50", "resnet"), ("tiny_vit_21m_512", "tiny")],
)
def test_family(architecture: str, family: str) -> None:
    assert analysis.family(architecture) == family


def test_measured_times_are_those_of_the_side() -> None:
    table = pd.DataFrame(
        [
            row(DATASET, "a", "milliseconds", value, split="measured",
                condition={"image_size": side})
            for side, value in ((224, 1.0), (512, 5.0))
        ]
    )  # fmt: skip
    assert analysis.measured_times(table).to_dict() == {"a": 5.0}
    assert analysis.measured_times(None).empty


def test_the_page_s_tables(rows: pd.DataFrame) -> None:
    assert "| FixEfficientNet-B7 | 87.1 | 66 | +0.20 | +0.10 | -0.18 | -0.13 |" in (
        page.residuals_table(rows)
    )
    table = page.winners_table(rows, {"rerun": ("cost", "gpu_ms")})
    assert "| PatchCore R18 | PatchCore R18 | none | none |" in table
    assert len(table.split("\n")) == 3  # a cost that the table lacks has no line
    assert study.CLASSIFIER in page.shares_table(rows)
    assert len(page.headline(rows)) == 2  # nothing was timed
    assert "343 ms" in page.times_text(analysis.candidate_tables()["seed"])
    assert "(STFPM R18)" in page.detectors_text()


def test_the_note_names_the_run() -> None:
    given = {"networks": ["a", "b"], "sides": [224, 512], "turns": 3}
    assert study.STUDY.about is not None
    assert "2 networks timed with random weights at 224 and 512 px" in study.STUDY.about(given)
    assert "--output-dir runs/models\ncp " in study.STUDY.command
