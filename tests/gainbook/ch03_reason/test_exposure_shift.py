"""One test, two lights: figures by hand on a few tiles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from gainbook.chapters.ch03_reason import exposure as exposure_shift
from gainbook.chapters.ch03_reason.exposure import (
    NAME,
    by_light,
    shift_differences,
    shift_results,
    shift_rows,
)
from gainbook.lab import reference
from gainbook.lab import results_file as runs
from gainbook.lab.components import BRIGHT, DARK, PLAIN_DARK, S5_DARK
from gainbook.lab.parameters import Parameters
from gainbook.lab.protocol import Pooled

from gainmtl.evaluation.scoring import Scores


def pooled(probability_bright: list[float]) -> Pooled:
    """Four tiles in two lights each, two of them defective; in the dark all is well."""
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


def by_key(rows: list[dict]) -> dict:
    assert runs.check_rows(rows)
    return {(r["metric"], r["condition"].get("light")): r for r in rows}


def test_the_name_decides_the_light() -> None:
    images = by_light(SHIFTED)
    assert images["is_bright"].sum() == 4
    assert set(DARK) & set(BRIGHT) == set()


def test_figures_in_either_light_and_their_shift() -> None:
    found = by_key(shift_rows(PLAIN_DARK, SHIFTED, "tiles", resamples=200))
    value = {key: row["value"] for key, row in found.items()}
    assert value["auroc", "as in training"] == 1
    assert value["auroc", "shifted"] == 0.25  # 0.6 and 0.2 against 0.4 and 0.7
    assert value["auroc_shift", None] == -0.75
    assert value["recall", "shifted"] == value["false_alarm_rate", "shifted"] == 0.5
    assert value["false_alarm_rate_shift", None] == 0.5
    assert value["point_game_shift", None] == pytest.approx(0.4 - 0.9)
    assert found["point_game", "shifted"]["n"] == 2
    assert found["auroc", "shifted"]["condition"]["exposures"] == list(DARK)


def test_differences_are_on_the_same_images_and_who_loses_less_is_told() -> None:
    steady = pooled([0.9, 0.9, 0.1, 0.1])
    both = {PLAIN_DARK.tag: SHIFTED, S5_DARK.tag: steady}
    found = by_key(shift_differences(S5_DARK, PLAIN_DARK, both, "tiles", resamples=200))
    value = {key: row["value"] for key, row in found.items()}
    assert value["auroc_difference", "as in training"] == 0
    assert value["auroc_difference", "shifted"] == 0.75
    assert value["auroc_shift_difference", None] == 0.75
    assert found["auroc_difference", "shifted"]["condition"]["against"] == "S1"
    other = SHIFTED.scores.images.assign(name=lambda t: "x/" + t["name"])
    both[S5_DARK.tag] = steady._replace(scores=steady.scores._replace(images=other))
    with pytest.raises(ValueError, match="not tested on the same images"):
        shift_differences(S5_DARK, PLAIN_DARK, both, "tiles", resamples=10)


def test_systems_differ_in_their_strategy_alone() -> None:
    assert S5_DARK._replace(tag="", label="", strategy="") == PLAIN_DARK._replace(
        tag="", label="", strategy=""
    )
    assert len({s.tag for s in exposure_shift.SYSTEMS}) == len(exposure_shift.SYSTEMS)
    assert reference.S5.exposures == ()


def test_without_a_run_the_page_says_how_to_make_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> None:
        raise FileNotFoundError(name)

    monkeypatch.setattr(runs, "reference", absent)
    chosen = Parameters(notebook="03_right_answer_wrong_reason", dataset="synthetic")
    found = shift_results(chosen, asked=False)
    assert found.rows is None
    assert "not there yet" in found.note
    assert f"book/results/{NAME}.json" in found.note
