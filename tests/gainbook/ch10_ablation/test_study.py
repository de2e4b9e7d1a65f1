"""The studies of the chapter: criteria from rows, and small runs of every part."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from gainbook.chapters.ch10_ablation import ladder, page
from gainbook.chapters.ch10_ablation.ladder import (
    COPY_PASTE_PAIRS,
    LEAKING_PAIRS,
    S1,
    S2,
    S4,
    S4_NO_CONSISTENCY,
    S5,
    SIX,
    WHOLE_STEPS,
)
from gainbook.chapters.ch10_ablation.study import (
    LADDER,
    LEAKING_SPLIT,
    LEAVE_ONE_OUT,
    PARTS,
    PASTED,
    PROMISES,
    RATIOS,
    judge_each,
)
from gainbook.lab import results_file as runs
from gainbook.lab.measures import paired_rows
from gainbook.lab.parameters import Parameters
from gainbook.lab.study import Results, Study, judge, judge_stored, results
from gainbook.lab.systems import System
from gainbook.lab.tables import Value, find

from gainmtl import datasets

UP, FLAT, DOWN = (0.1, 0.05, 0.15), (0.0, -0.01, 0.01), (-0.1, -0.15, -0.05)
OPEN = (0.0, -0.1, 0.1)
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


def judged(id: str, rows: list[dict[str, Any]]) -> str:
    verdict = judge(LADDER.claim(id), pd.DataFrame(runs.check_rows(rows))).verdict
    for place in range(len(rows)):  # every figure is needed
        fewer = pd.DataFrame(rows[:place] + rows[place + 1 :] + [less(S1, S5, "x", UP)])
        assert judge(LADDER.claim(id), fewer).verdict == "not run"
    return verdict


@pytest.mark.parametrize(
    ("overlap", "auroc", "verdict"),
    [
        (UP, FLAT, "confirmed"), (UP, DOWN, "refined"), (UP, OPEN, "undecided"),
        (OPEN, UP, "undecided"), (FLAT, UP, "refined"), (DOWN, DOWN, "refined"),
    ],
)  # fmt: skip
def test_supervision_is_s2_minus_s1(overlap: Ends, auroc: Ends, verdict: str) -> None:
    rows = [
        less(S2, S1, "positive_energy", UP, "cam"),
        less(S2, S1, "iou", overlap, "defect_map"),
        less(S2, S1, "auroc", auroc),
    ]
    assert judged("A1", rows) == verdict


@pytest.mark.parametrize(
    ("image", "features", "verdict"),
    [
        (UP, UP, "confirmed"), (FLAT, UP, "refined"), (FLAT, FLAT, "refuted"),
        (OPEN, OPEN, "undecided"),
    ],
)  # fmt: skip
def test_the_term_is_s5_minus_s4(image: Ends, features: Ends, verdict: str) -> None:
    rows = [
        less(S5, S4, "selectivity", image, level="image"),
        less(S5, S4, "selectivity", features, level="features"),
        less(S5, S4, "flip_rate", FLAT, level="image", intervention="kept"),
        less(S5, S4, "auroc", FLAT),
    ]
    assert judged("A10", rows) == verdict


def test_every_whole_step_has_one_promise() -> None:
    assert list(PROMISES) == [system.name for system in SIX[1:]]


@pytest.mark.parametrize(
    ("first", "others", "verdict"),
    [
        (UP, UP, "confirmed"), (UP, DOWN, "refined"), (FLAT, DOWN, "refuted"),
        (UP, OPEN, "undecided"), (OPEN, OPEN, "undecided"), (FLAT, OPEN, "refuted"),
    ],
)  # fmt: skip
def test_each_step_by_its_promise(first: Ends, others: Ends, verdict: str) -> None:
    rows = []
    for place, step in enumerate(WHOLE_STEPS):
        _, (metric, of, condition) = PROMISES[step.system.name]
        ends = others if place else first
        rows.append(less(*step.pair, metric, ends, of, **condition))
    assert judged("A12", rows) == verdict
    names = list(judge(LADDER.claim("A12"), pd.DataFrame(rows)).figures)
    assert names[0] == "S1 to S2, evidence on the defect"
    assert len(names) == 5


def test_an_undefined_step_leaves_the_claim_open() -> None:
    unknown = Value(math.nan, math.nan, math.nan, None)
    figures = {"a": ("auroc", Value(*UP, 9)), "b": ("auroc", unknown)}
    assert judge_each(figures).verdict == "undecided"


@pytest.mark.parametrize(
    ("overlap", "iou", "verdict"),
    [
        (UP, FLAT, "confirmed"), (UP, DOWN, "refined"), (DOWN, UP, "refuted"),
        (OPEN, UP, "undecided"),
    ],
)  # fmt: skip
def test_consistency_is_s4_minus_s4_without_it(overlap: Ends, iou: Ends, verdict: str) -> None:
    rows = [
        less(S4, S4_NO_CONSISTENCY, "map_overlap", overlap),
        less(S4, S4_NO_CONSISTENCY, "iou", iou, "defect_map"),
    ]
    assert judged("A13", rows) == verdict


def test_the_claims_wait_for_their_file() -> None:
    assert [claim.id for claim in LADDER.claims] == ["A1", "A10", "A12", "A13"]
    assert {judge_stored(claim, None).verdict for claim in LADDER.claims} == {"not run"}


def test_ratios_are_of_the_same_images() -> None:
    def images(values: list[float], order: list[int]) -> pd.DataFrame:
        columns = {f"defect_map.{name}": [*values, np.nan] for name in ("iou", "point_game")}
        table = pd.DataFrame({"name": ["a", "b", "c"], "group": ["g", "g", "h"], **columns})
        return table.iloc[order]

    first, second = images([0.4, 0.8], [2, 0, 1]), images([0.3, 0.1], [0, 1, 2])
    iou, point = runs.check_rows(paired_rows(first, second, RATIOS, "d", S5, S1, 50))
    assert iou["value"] == point["value"] == pytest.approx(3.0)
    assert (iou["metric"], iou["map"], iou["n"]) == ("iou_ratio", "defect_map", 2)
    assert iou["condition"]["against"] == "S1"


@pytest.mark.parametrize("part", PARTS)
def test_a_part_names_its_command(part: str) -> None:
    command = PARTS[part].command
    profile = "standard" if part in ("ladder", "copy_paste") else "components"
    assert f"-p part {part}" in command
    assert f"profiles/{profile}.yaml" in command
    assert f"book/results/{PARTS[part].name}.json" in command


def few_parts(parameters: Parameters, seed: int, split: str = "") -> Any:
    """A few synthetic parts instead of the folds of a data set."""
    return lambda fold: datasets.load(
        "synthetic", image_size=32, train=16, val=8, test=10, seed=fold
    )


@pytest.fixture(scope="module")
def run_small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Runs a study on a few parts; systems that two studies share are trained once."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("run_system", "folds"):
            patch.setattr(f"gainbook.lab.{module}.load_fold", few_parts)
        p = Parameters(
            notebook="10_ablation", dataset="folder", data_root="parts", image_size=32,
            backbone="test_efficientnet", weights=None, epochs=1, batch_size=8,
            learning_rate=1e-3, folds=1, seeds=(0,), accelerator="cpu", devices=1,
            precision="32-true", output_dir=str(tmp_path_factory.mktemp("runs")),
        )  # fmt: skip

        def run(study: Study, systems: Any = None) -> tuple[Parameters, Results]:
            return p, results(study, p, systems=systems, resamples=20)

        yield run


def test_the_ladder_measures_verdicts_maps_reasons_and_cost(run_small: Any, tmp_path: Path) -> None:
    systems = (S1, S4_NO_CONSISTENCY, S4, S5)
    p, ran = run_small(LADDER, systems)
    rows = ran.rows
    path = tmp_path / "results.json"
    facts = runs.provenance(p, 1.0, None, trained_at_commits=["0123456789"])
    runs.write_results(path, notebook=p.notebook, parameters=p, provenance=facts, rows=rows)
    for system in systems:
        assert 0 <= find(rows, system, "validation_auroc").value <= 1
        assert page.cost_of(rows, system, "parameters").value > 0
        assert 0 <= find(rows, system, "auroc_without_defects").value <= 1
    for a, b in ((S4, S4_NO_CONSISTENCY), (S5, S4), (S5, S1)):
        for metric in ("auroc", "recall_at_fpr05"):
            assert 0 <= find(rows, a, f"{metric}_p_value", **b.as_other).value <= 1
        for name in ("cam", "defect_map"):
            find(rows, a, "pixel_ap_difference", name, **b.as_other)
    find(rows, S4, "map_overlap_difference", **S4_NO_CONSISTENCY.as_other)
    typed = rows["condition"].map(lambda condition: "defect_type" in condition)
    assert set(rows.loc[typed, "metric"]) <= {"auroc", "auroc_without_defects"}
    assert set(rows.loc[rows["fold"].notna(), "metric"]) == {"auroc"}
    assert str(tmp_path) not in json.dumps(json.loads(path.read_text("utf-8")))


def test_the_leaking_split_is_measured_without_interventions(run_small: Any) -> None:
    _, ran = run_small(LEAKING_SPLIT)
    assert {"leaking"} <= {dict(c).get("split") for c in ran.rows["condition"]}
    for a, b in LEAKING_PAIRS:
        assert find(ran.rows, a, "auroc_p_value", **b.as_other).value <= 1
    assert not set(ran.rows["metric"]) & {"flip_rate", "map_overlap", "parameters"}


@pytest.mark.slow
def test_the_other_parts_run(run_small: Any) -> None:
    _, without = run_small(LEAVE_ONE_OUT)
    values = page.step_values(without.rows, ladder.LEAVE_ONE_OUT)
    assert set(values) == set(page.PANELS)
    assert not any(math.isnan(v.value) for v in values["verdict"]["AUROC"])
    _, pasted = run_small(PASTED)
    for a, b in COPY_PASTE_PAIRS:
        assert find(pasted.rows, a, "auroc_p_value", **b.as_other).value <= 1
