"""B1 and B4 on rows whose verdict is known, and the winner of a mixture by hand."""

from __future__ import annotations

import pandas as pd
import pytest
from gainbook.chapters.ch02_contrast import criteria
from gainbook.chapters.ch02_contrast.crossing import BANK, HYBRID, PROBE
from gainbook.chapters.ch02_contrast.decision import expected, mixed_recall
from gainbook.chapters.ch02_contrast.draws import BOARDS, TILES
from gainbook.chapters.ch02_contrast.study import BOARD_STUDY, FINE_TUNED, STUDIES, bank_rows
from gainbook.lab.catalogue import TEXTBOOK
from gainbook.lab.judge import CONFIRMED, NOT_RUN, REFINED, REFUTED
from gainbook.lab.study import judge

from .conftest import COUNTS, contrast_rows, figure_rows


def test_detection_is_necessary_where_all_three_reasons_hold(
    rows: dict[str, pd.DataFrame],
) -> None:
    found = criteria.necessary(rows[BOARDS])
    assert found.verdict == CONFIRMED  # 0.4 against 0.5 at 5, 0.3 on new types, 10 parts are 1,000
    more = next(v for name, v in found.figures.items() if name.startswith("extra labelling"))
    assert more.value == pytest.approx(1000 / (400 / 0.99) - 1)


def test_a_probe_that_finds_new_types_refines_the_claim() -> None:
    assert criteria.necessary(contrast_rows(BOARDS, new=0.9)).verdict == REFINED


def test_a_classifier_ahead_from_the_first_defect_refutes_it() -> None:
    high = contrast_rows(BOARDS, new=0.9)
    probe = (high["system"] == PROBE.tag) & (high["metric"] == "recall")
    high.loc[probe, "value"] += 0.5
    assert criteria.necessary(high).verdict == REFUTED


def test_512_pixels_are_needed_where_both_arms_gain(rows: dict[str, pd.DataFrame]) -> None:
    assert criteria.fine_anomalies(rows[BOARDS]).verdict == CONFIRMED
    flat = rows[BOARDS].copy()
    at = flat["condition"].map(lambda c: c.get("side") == 512) & (flat["metric"] == "recall")
    flat.loc[at & (flat["system"] == BANK.tag), "value"] -= 0.65
    assert criteria.fine_anomalies(flat).verdict == REFINED
    flat.loc[at & (flat["system"] == PROBE.tag), "value"] -= 0.65
    assert criteria.fine_anomalies(flat).verdict == REFUTED


def test_without_figures_nothing_is_judged() -> None:
    for study in STUDIES:
        for claim in study.claims:
            assert judge(claim, contrast_rows(BOARDS).iloc[:0]).verdict == NOT_RUN


def test_every_criterion_is_written_where_its_function_is() -> None:
    for study in STUDIES:
        for claim in study.claims:
            assert str(claim.criterion.__doc__).startswith(f"{claim.id}")


def test_a_fine_tuned_classifier_is_judged_beside_the_bank_s_rows() -> None:
    rows = contrast_rows(BOARDS)
    tuned = [
        line
        for place, count in enumerate(COUNTS)
        for metric in ("recall", "recall_at_fpr05")
        for line in figure_rows(BOARDS, "textbook", metric, 0.1 * place, defects=count)
    ]  # fmt: skip
    for line in tuned:
        line["condition"] = {**TEXTBOOK.condition, "defects": line["condition"]["defects"]}
    both = pd.concat([rows, pd.DataFrame(tuned)], ignore_index=True)
    assert criteria.necessary_beside(TEXTBOOK)(both).verdict == CONFIRMED


def test_the_bank_s_rows_are_those_of_the_draws_that_were_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Stored:
        rows = contrast_rows(BOARDS)

    monkeypatch.setattr("gainbook.chapters.ch02_contrast.study.stored_results", lambda name: Stored)
    cells = FINE_TUNED.cells(seed=[0, 2], defects=[5])
    kept = bank_rows(FINE_TUNED, cells, [])
    assert {line["seed"] for line in kept} == {0, 2}
    assert {line["system"] for line in kept} == {BANK.tag}
    assert {line["condition"]["defects"] for line in kept} == {5}


def test_expected_recall_is_the_mixture_and_the_best_arm_wins(
    rows: dict[str, pd.DataFrame],
) -> None:
    table = rows[TILES]
    assert mixed_recall(table, PROBE, 25, 0.25)[1] == pytest.approx(0.75 * 0.6 + 0.25 * 0.3)
    found = expected(table, 25, 1.0)
    assert found.best == HYBRID
    assert found.recalls[PROBE].value == pytest.approx(0.3)
    assert found.lead[:3] == pytest.approx((0.1, 0.1, 0.1))
    assert found.text().startswith("**hybrid** 0.60")
    seen = table["condition"].map(lambda c: c.get("types") == "seen")
    table.loc[seen, "value"] = 0.9  # types of training, while another one is left out
    assert mixed_recall(table, PROBE, 25, 0.25)[1] == pytest.approx(0.75 * 0.9 + 0.25 * 0.3)
    assert mixed_recall(table, PROBE, 25, 0.0)[1] == pytest.approx(0.6)  # all types in training
    tied = expected(table, 25, 0.0, (BANK, HYBRID, PROBE))
    assert expected(table, 10, 0.0, (BANK, PROBE)).text().endswith("] or linear probe")
    assert tied.best in (HYBRID, PROBE)


def test_one_arm_is_no_choice(rows: dict[str, pd.DataFrame]) -> None:
    with pytest.raises(LookupError, match="fewer than two arms"):
        expected(rows[BOARDS], 3, 0.0)


def test_the_studies_name_their_claims() -> None:
    assert {c.id for c in BOARD_STUDY.claims} == {"B1", "B4"}
