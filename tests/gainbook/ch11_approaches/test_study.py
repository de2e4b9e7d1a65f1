"""The whole of chapter 11's study on a small run, and its claims from result rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from gainbook.chapters.ch11_approaches import study
from gainbook.chapters.ch11_approaches.abilities import PAIRED, target_table, tick_table
from gainbook.chapters.ch11_approaches.approaches import (
    CLASSIFIER,
    DETECTION,
    GUIDED,
    INTEGRATED,
    MULTI_TASK,
    SEGMENTATION,
    SEVEN,
    SIX,
    TUNED,
)
from gainbook.lab.folds import VALIDATION
from gainbook.lab.parameters import Parameters
from gainbook.lab.results_file import check_rows
from gainbook.lab.study import judge, results
from gainbook.lab.systems import System
from gainbook.lab.tables import pooled_row

from gainmtl import datasets
from gainmtl.evaluation.stats import Interval

SMALL_UNET = SEGMENTATION._replace(options=(("decoder", (8, 8, 8, 8, 8)),))
SMALL_DETECTOR = DETECTION._replace(options=(("width", 32), ("convolutions", 1)))


@pytest.mark.slow
def test_the_whole_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All six on a few parts: every row valid, none twice; a second time all is read."""

    def few(parameters: Parameters, seed: int) -> Any:
        return lambda fold: datasets.load(
            "synthetic", image_size=32, train=16, val=8, test=8, seed=fold
        )

    for module in ("run_system", "folds"):
        monkeypatch.setattr(f"gainbook.lab.{module}.load_fold", few)
    monkeypatch.setattr(study, "load_fold", few)
    given = {
        "notebook": "none", "dataset": "folder", "data_root": None, "image_size": 32,
        "backbone": "test_efficientnet", "weights": None, "epochs": 1, "batch_size": 8,
        "learning_rate": 1e-3, "folds": 1, "seeds": (0,), "accelerator": "cpu", "devices": 1,
        "precision": "32-true", "output_dir": str(tmp_path),
    }  # fmt: skip
    systems = [{"U-Net": SMALL_UNET, "FCOS": SMALL_DETECTOR}.get(s.tag, s) for s in SIX]
    pairs = [(a, b) for b in (systems[0], systems[-1]) for a in systems if a is not b]
    small = dataclasses.replace(study.STUDY, questions=study.questions(road=1))

    def measure() -> Any:
        return results(small, Parameters(**given), systems=systems, pairs=pairs, resamples=100)

    first = measure().rows
    rows = check_rows(first.to_dict("records"))
    assert {row["system"] for row in rows} == {s.name for s in SIX} | {"all"}
    assert {"ece_platt", "parameters", "seconds", "labels"} <= {row["metric"] for row in rows}
    monkeypatch.setattr("gainbook.lab.folds.load", lambda path: pytest.fail(f"{path} was loaded"))
    again = measure().rows
    platt = [table[table["metric"] == "ece_platt"]["value"] for table in (first, again)]
    assert platt[0].equals(platt[1])
    assert VALIDATION in small.questions


def test_a_fold_keeps_no_single_types_and_no_oracle() -> None:
    conditions = [{}, {"defect_type": "a"}, {"oracle": True}, {"defect_type": "a", "oracle": True}]
    rows = pd.DataFrame([{"fold": k, "condition": c} for k in (None, 0.0) for c in conditions])
    assert np.flatnonzero(study._kept(rows)).tolist() == [0, 1, 2, 4]


def difference_row(first: System, second: System, figure: str, middle: float) -> dict[str, Any]:
    metric, of, condition = PAIRED[figure]
    a, b = TUNED[first.tag], TUNED[second.tag]
    interval = Interval(middle, middle - 0.015, middle + 0.015, 9, 0)
    about = {**b.as_other, **condition}
    return pooled_row("d", a, f"{metric}_difference", interval, of, **about)


@pytest.mark.parametrize(
    ("auroc", "iou", "verdict"),
    [
        (0.05, 0.05, "confirmed"),
        (0.05, -0.05, "refined"),
        (-0.05, -0.05, "refuted"),
        (0.05, 0.01, "undecided"),
    ],
)
def test_together(auroc: float, iou: float, verdict: str) -> None:
    rows = [
        difference_row(MULTI_TASK, CLASSIFIER, "AUROC", auroc),
        difference_row(MULTI_TASK, SEGMENTATION, "IoU", iou),
    ]
    assert judge(study.STUDY.claim("A6"), pd.DataFrame(rows)).verdict == verdict


STANDARDS = {"AUROC": CLASSIFIER, "PointGame": SEGMENTATION, "reason selectivity": GUIDED,
             "selectivity": INTEGRATED}  # fmt: skip


def cells(own: Mapping[str, float], others: float) -> pd.DataFrame:
    """Differences of GAIN-MTL by figure (0 unless named), of the others in selectivity, and
    selectivities of 0.5."""
    rows = []
    for system in SIX:
        for figure, standard in STANDARDS.items():
            if system is not standard:
                middle = own.get(figure, 0.0) if system is INTEGRATED else others
                middle = middle if figure == "selectivity" or system is INTEGRATED else 0.0
                rows.append(difference_row(system, standard, figure, middle))
        for figure in ("reason selectivity", "selectivity"):
            metric, of, condition = PAIRED[figure]
            interval = Interval(0.5, 0.4, 0.6, 9, 0)
            tuned = TUNED[system.tag]
            rows.append(pooled_row("d", tuned, metric, interval, of, **condition))
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("own", "others", "verdict"),
    [
        ({}, -0.3, "confirmed"),
        ({}, 0.0, "refuted"),  # the others verify, too
        ({"AUROC": -0.1}, -0.3, "refuted"),
        ({}, -0.1, "undecided"),  # whether the others verify is open
    ],
)
def test_only_the_integrated_system(own: Mapping[str, float], others: float, verdict: str) -> None:
    judgement = judge(study.STUDY.claim("A14"), cells(own, others))
    assert judgement.verdict == verdict
    assert len(judgement.figures) == 4
    table = tick_table(cells(own, others)).splitlines()
    assert len(table) == 2 + len(SIX)
    assert "all four" in table[-1]
    assert table[-1].count("yes") == (4 if not own else 3)
    assert target_table(cells(own, others)).splitlines()[2].endswith("| open | none |")


def test_without_rows_the_claims_are_not_run() -> None:
    none = cells({}, 0.0).iloc[:0]
    assert {judge(claim, none).verdict for claim in study.STUDY.claims} == {"not run"}


def test_every_system_is_compared_with_the_standards() -> None:
    seconds = {b.tag for _, b in study.PAIRS}
    standards = (CLASSIFIER, SEGMENTATION, GUIDED, INTEGRATED)
    assert seconds == {TUNED[s.tag].tag for s in standards}
    assert len(study.PAIRS) == 4 * (len(SEVEN) - 1)
