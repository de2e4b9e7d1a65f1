"""Result rows: areas and savings by hand, and rows of small runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from gainbook.chapters.ch14_active import study
from gainbook.chapters.ch14_active.loop import Plan, Problem, run
from gainbook.chapters.ch14_active.summary import (
    PLANS,
    Summary,
    area,
    label_saving,
    labels_needed,
    read_runs,
)
from gainbook.lab.judge import MEANING, NOT_RUN
from gainbook.lab.results_file import check_rows
from gainbook.lab.study import judge
from gainbook.lab.tables import find


def test_area_by_hand() -> None:
    assert area([10, 20, 40], [0.2, 0.4, 0.6]) == pytest.approx((3 + 10) / 30)
    assert area([1, 2, 9], [0.5, 0.5, 0.5]) == pytest.approx(0.5)


def test_labels_needed_by_hand() -> None:
    x, y = np.array([10.0, 20, 30]), np.array([0.2, 0.4, 0.4])
    assert labels_needed(x, y, 0.3) == pytest.approx(15)
    assert labels_needed(x, y, 0.1) == 10
    assert labels_needed(x, y, 0.4) == 20
    assert labels_needed(x, y, 0.5) == 30


def test_label_saving_by_hand() -> None:
    x = [10, 20, 30, 40]
    reference = [0.1, 0.2, 0.3, 0.4]  # after 2/3 of three rounds: 0.3, with 30 labels
    assert label_saving(x, [0.3, 0.4, 0.4, 0.4], reference) == pytest.approx(2 / 3)
    assert label_saving(x, reference, reference) == pytest.approx(0)
    assert label_saving(x, [0.1, 0.1, 0.2, 0.4], reference) == pytest.approx(1 - 35 / 30)
    assert label_saving(x, [0.1] * 4, reference) == pytest.approx(1 - 40 / 30)
    # a curve that falls is evened out: 0.4, 0.2 -> 0.3, 0.3
    assert label_saving(x, [0.1, 0.4, 0.2, 0.4], reference) == pytest.approx(1 - 20 / 30)


@pytest.fixture
def rows(problem: Problem, tmp_path: Path) -> pd.DataFrame:
    for plan in PLANS:
        for seed in (0, 1, 2):
            run(problem, plan, seed, tmp_path / f"{plan.tag}-{seed}.json")
    found = Summary("toy", read_runs(tmp_path, PLANS, (0, 1, 2))).rows()
    return pd.DataFrame(check_rows(found))


def test_rows_of_small_runs(rows: pd.DataFrame) -> None:
    wins = rows[rows["metric"] == "wins"]
    pairs = {
        (one["system"], dict(one["condition"])["against"]): one["value"]
        for one in wins.to_dict("records")
    }
    assert len(pairs) == 11 * 10
    assert all(v + pairs[b, a] == pytest.approx(1) for (a, b), v in pairs.items())
    areas = {m: find(rows, Plan(m), "area").value for m in ("badge", "random")}
    gap = find(rows, Plan("badge"), "area_difference", against="random")
    assert gap.value == pytest.approx(areas["badge"] - areas["random"])
    assert gap.n == 3
    parts = [find(rows, study.EXCLUDE, f"{name}_recall_difference", against="activation").value
             for name in ("retained", "excluded", "macro")]  # fmt: skip
    # two classes are retained and one is excluded
    assert (2 * parts[0] + parts[1]) / 3 == pytest.approx(parts[2])


def test_every_claim_is_judged_from_them(rows: pd.DataFrame) -> None:
    for claim in study.SYNTHETIC.claims:
        found = judge(claim, rows)
        assert found.verdict in set(MEANING) - {NOT_RUN}, claim.id
        assert judge(claim, rows.iloc[:0]).verdict == NOT_RUN


def frame(*figures: tuple[str, str, dict[str, object], float, float, float]) -> pd.DataFrame:
    columns = ["system", "metric", "condition", "value", "ci_low", "ci_high"]
    table = pd.DataFrame(figures, columns=columns)
    return table.assign(map=None, seed=pd.NA, fold=pd.NA, n=10)


def e1(saved: float, final: float, added: float, with_masks: float) -> pd.DataFrame:
    """Rows of E1 with narrow intervals around these values."""

    def one(method: str, metric: str, against: str, value: float, **more: int):  # type: ignore[no-untyped-def]
        return method, metric, {"against": against, **more}, value, value - 0.001, value + 0.001

    reference = "class_balanced"
    return frame(
        one("activation", "label_saving", reference, saved),
        one("activation", "macro_f1_difference", reference, final, labels=9),
        one("entropy_activation", "area_difference", "entropy", added),
        one("activation_masks", "label_saving", reference, with_masks),
        one("activation_masks", "macro_f1_difference", reference, with_masks, labels=9),
    )


@pytest.mark.parametrize(
    ("figures", "word"),
    [
        ((0.3, 0.1, 0.05, 0), "confirmed"),
        ((-0.3, -0.1, -0.05, -0.1), "refuted"),
        ((-0.3, -0.1, -0.05, 0.2), "refined"),
        ((0.3, 0.1, -0.05, 0), "refined"),
    ],
)
def test_e1(figures: tuple[float, float, float, float], word: str) -> None:
    assert study.fewer_labels(e1(*figures)).verdict == word


def e2(change: float, left: float) -> pd.DataFrame:
    about = {"duplicate": "copies"}
    metric = "overconfidence_difference"
    return frame(
        ("activation", metric, {**about, "against": "activation"}, change, change, change),
        ("activation", metric, {"duplicate": "weight", "against": "activation"}, 0, 0, 0),
        ("activation", "overconfidence", {**about, "labels": 5}, 9, 9, 9),
        ("activation", "overconfidence", {**about, "labels": 50}, left, left - 0.01, left + 0.005),
    )


@pytest.mark.parametrize(
    ("change", "left", "word"),
    [(-0.05, 0.01, "confirmed"), (-0.05, 0.2, "refined"), (0.01, 0.2, "refuted"),
     (-0.05, 0.02, "undecided")],
)  # fmt: skip
def test_e2(change: float, left: float, word: str) -> None:
    assert study.cured(e2(change, left)).verdict == word


@pytest.mark.parametrize(
    ("whole", "alone", "word"),
    [(8, 8, "confirmed"), (2, 8, "refined"), (2, 3, "refuted"), (5.4, 8, "undecided")],
)
def test_e4(whole: float, alone: float, word: str) -> None:
    rows = frame(
        *(("activation", "perfect_classes", {"exclude": True, "classes": name}, v, v - 0.2, v + 0.2)
          for name, v in (("retained", whole), ("retained only", alone)))
    )  # fmt: skip
    assert study.perfect_classes(rows).verdict == word
