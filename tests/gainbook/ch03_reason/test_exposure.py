"""A shift of light: figures by hand on a few tiles, and the claim about it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from gainbook.chapters.ch03_reason.exposure import by_light, shift_rows
from gainbook.chapters.ch03_reason.study import EXPOSURE, judge_light
from gainbook.lab import catalogue
from gainbook.lab import results_file as runs
from gainbook.lab.catalogue import BRIGHT, DARK, PLAIN_DARK, S5_DARK
from gainbook.lab.parameters import Parameters
from gainbook.lab.protocol import Pooled
from gainbook.lab.study import Run, results

from gainmtl.evaluation.scoring import Scores


def pooled(probability_bright: list[float]) -> Pooled:
    """Four tiles in two lights each, two of them defective; all right in the dark."""
    rows = []
    for tile, bad in enumerate((True, True, False, False)):
        for exposure in (1, 5):
            dark = 0.9 if bad else 0.1
            p = dark if exposure == 1 else probability_bright[tile]
            rows.append(
                {
                    "name": f"MT_{'Crack' if bad else 'Free'}/Imgs/exp{exposure}_num_{tile}.jpg",
                    "group": f"tile{tile}",
                    "is_defective": bad,
                    "defect_probability": p,
                    "is_flagged": p >= 0.5,
                    "cam.point_game": p if bad else np.nan,
                    "cam.positive_energy": p / 2 if bad else np.nan,
                }
            )
    scores = Scores(pd.DataFrame(rows), {})
    return Pooled("S1", {}, [scores], scores, pd.DataFrame(), ("abc",), 1.0, (Path("model"),))


SHIFTED = pooled([0.6, 0.2, 0.4, 0.7])
STEADY = pooled([0.9, 0.9, 0.1, 0.1])


def rows_of(steady: Pooled) -> dict[tuple[str, str, str | None, bool], dict]:
    """By system, metric, light and whether it is a difference; `SHIFTED` is the plain system."""
    whole = {PLAIN_DARK.tag: SHIFTED, S5_DARK.tag: steady}
    run = Run(
        Parameters(dataset="tiles"), {}, whole, (PLAIN_DARK, S5_DARK), ((S5_DARK, PLAIN_DARK),),
        {}, pd.DataFrame(), 200,
    )  # fmt: skip
    checked = runs.check_rows(shift_rows(run))
    return {
        (r["system"], r["metric"], r["condition"].get("light"), "against" in r["condition"]): r
        for r in checked
    }


def test_the_name_holds_the_exposure() -> None:
    assert by_light(SHIFTED)["is_bright"].sum() == 4
    assert set(DARK) & set(BRIGHT) == set()


def test_figures_in_either_light_and_their_shift() -> None:
    rows = rows_of(STEADY)
    value = {key[1:3]: row["value"] for key, row in rows.items() if key[0] == "S1"}
    assert value["auroc", "as in training"] == 1
    assert value["auroc", "shifted"] == 0.25  # 0.6 and 0.2 against 0.4 and 0.7
    assert value["auroc_shift", None] == -0.75
    assert value["recall", "shifted"] == value["false_alarm_rate", "shifted"] == 0.5
    assert value["false_alarm_rate_shift", None] == 0.5
    assert value["point_game_shift", None] == pytest.approx(0.4 - 0.9)
    assert rows["S1", "point_game", "shifted", False]["n"] == 2
    assert rows["S1", "auroc", "shifted", False]["condition"]["exposures"] == list(DARK)


def test_differences_are_on_the_same_images() -> None:
    rows = rows_of(STEADY)
    value = {key[1:3]: row["value"] for key, row in rows.items() if key[3]}
    assert value["auroc_difference", "as in training"] == 0
    assert value["auroc_difference", "shifted"] == 0.75
    assert value["auroc_shift_difference", None] == 0.75
    assert rows["S5", "auroc_difference", "shifted", True]["condition"]["against"] == "S1"
    other = SHIFTED.scores.images.assign(name=lambda t: "x/" + t["name"])
    moved = STEADY._replace(scores=STEADY.scores._replace(images=other))
    with pytest.raises(ValueError, match="two tables about the same images"):
        rows_of(moved)


def test_systems_differ_in_their_strategy_alone() -> None:
    assert S5_DARK._replace(tag="", label="", strategy="") == PLAIN_DARK._replace(
        tag="", label="", strategy=""
    )
    assert len({s.tag for s in EXPOSURE.systems}) == len(EXPOSURE.systems)
    assert catalogue.S5.exposures == ()


@pytest.mark.parametrize(
    ("better", "steadier", "expected"),
    [
        (0.1, 0.1, "confirmed"),
        (0.1, -0.1, "refined"),
        (-0.1, 0.1, "refuted"),
        (0.0, 0.0, "undecided"),
        (0.1, 0.0, "undecided"),
    ],
)
def test_the_claim_about_light_is_judged_by_its_criterion(
    better: float, steadier: float, expected: str
) -> None:
    def line(metric: str, value: float, **condition: object) -> dict[str, object]:
        about = {**S5_DARK.condition, **PLAIN_DARK.as_other, **condition}
        ends = {"ci_low": value - 0.05, "ci_high": value + 0.05}
        return runs.row("tiles", S5_DARK.name, metric, value, condition=about, **ends)

    rows = pd.DataFrame(
        [
            line("auroc_difference", better, light="shifted"),
            line("auroc_shift_difference", steadier),
        ]
    )
    assert judge_light(rows).verdict == expected
    with pytest.raises(LookupError):
        judge_light(rows[:1])


def test_without_stored_results_the_page_has_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> None:
        raise FileNotFoundError(name)

    monkeypatch.setattr("gainbook.lab.study.reference", absent)
    chosen = Parameters(notebook="03_right_answer_wrong_reason", dataset="synthetic")
    outcome = results(EXPOSURE, chosen)
    assert outcome.rows is None
    assert "no reference results yet" in outcome.note
    assert "-p real_part exposures" in outcome.note
    assert f"book/results/{EXPOSURE.name}.json" in outcome.note
