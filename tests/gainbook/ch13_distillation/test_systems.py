"""Named detectors by folds: result rows, paired differences, tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from gainbook.chapters.ch13_distillation.study import (
    CHOSEN_ON,
    DETECTORS,
    WITHOUT,
    chosen_on,
    detectors,
    unchosen_rows,
    without_chosen,
    without_folds,
)
from gainbook.chapters.ch13_distillation.swap_rows import DETECTOR_COLUMNS
from gainbook.chapters.ch13_distillation.systems import (
    BANK,
    BANK_SAME,
    RD,
    SYSTEMS,
    DetectorSystem,
    build,
    compare_detectors,
    detector_rows,
    on,
    recipe_of,
    run_detector,
)
from gainbook.lab import results_file as runs
from gainbook.lab.parameters import Parameters
from gainbook.lab.study import Run, results
from gainbook.lab.tables import pair_table, system_table

from gainmtl.anomaly.memory_bank import MemoryBank
from gainmtl.anomaly.reverse_distillation import ReverseDistillation

BACKBONE = "test_efficientnet"


def parameters(tmp_path: Path, **changes: Any) -> Parameters:
    given = {
        "notebook": "99_none", "dataset": "synthetic", "data_root": None, "image_size": 32,
        "backbone": BACKBONE, "weights": None, "epochs": 1, "batch_size": 8,
        "learning_rate": 1e-3, "folds": 2, "seeds": (0,), "accelerator": "cpu", "devices": 1,
        "precision": "32-true", "output_dir": str(tmp_path),
    }  # fmt: skip
    return Parameters(**{**given, **changes})


def test_each_system_has_a_folder_and_rows_of_its_own() -> None:
    assert len({system.tag for system in SYSTEMS}) == len(SYSTEMS)
    places = {(on(s, "b").name, str(s.condition)) for s in SYSTEMS}
    assert len(places) == len(SYSTEMS)
    for system in SYSTEMS:  # a condition is the same in a run's rows and in stored ones
        assert json.loads(json.dumps(system.condition)) == system.condition


def test_a_system_builds_the_detector_of_its_options(tmp_path: Path) -> None:
    student, bank, same = (build(on(system, BACKBONE)) for system in (RD, BANK, BANK_SAME))
    assert isinstance(student, ReverseDistillation)
    assert isinstance(bank, MemoryBank)
    assert student.teacher.features == "scaled"
    assert (student.teacher.strides, student.balanced) == ((8, 16, 32), True)
    # The comparison on the same features: nothing but the detector differs.
    shared = ("features", "strides", "neighborhood", "flat_field")
    assert [same.config[k] for k in shared] == [student.config[k] for k in shared]
    assert (student.name, bank.name) == (on(RD, BACKBONE).name, on(BANK, BACKBONE).name)
    p = parameters(tmp_path)
    assert recipe_of(RD, p)["learning_rate"] == p.learning_rate
    assert recipe_of(RD._replace(recipe="paper"), p)["learning_rate"] == 5e-3


def test_pairs_are_of_the_compared_systems() -> None:
    every, fewer = detectors("b"), detectors("b", leaking=False)
    assert (len(every.systems), len(every.pairs)) == (7, 7)
    assert (len(fewer.systems), len(fewer.pairs)) == (5, 5)
    assert fewer.systems == every.systems[:5]
    for found in (every, fewer):
        assert {system for pair in found.pairs for system in pair} == set(found.systems)
    split = [(a.split, b.split) for a, b in every.pairs]
    assert split == [("", "")] * 5 + [("leaking", "")] * 2


def test_stored_results_are_read_for_synthetic_parts(tmp_path: Path) -> None:
    stored = results(DETECTORS, parameters(tmp_path))
    assert stored.pooled == {}
    assert "anomaly.yaml" in stored.note
    assert "notebooks/13_reverse_distillation.ipynb" in stored.note
    own = "without_folds", "against_without_folds"
    assert set(without_chosen(stored.rows)) == set(own)
    assert without_chosen(stored.rows.iloc[:0]) == {}


@pytest.mark.slow
def test_rows_of_folds_fill_the_tables(tmp_path: Path) -> None:
    p = parameters(tmp_path, image_size=64)
    systems = [on(RD, BACKBONE), on(BANK._replace(options=(("size", 50),)), BACKBONE)]
    pooled = [run_detector(p, system, progress=False) for system in systems]
    parts = [detector_rows(run, p.seeds, "synthetic", resamples=20) for run in pooled]
    (first,), (second,) = pooled
    parts.append(compare_detectors(first, second, "synthetic", resamples=50))
    whole = pd.concat(parts, ignore_index=True)
    assert runs.check_rows(whole.to_dict("records"))
    assert "ece" not in set(whole["metric"])
    by_type = [c for c in whole.loc[whole["fold"].notna(), "condition"] if "defect_type" in c]
    assert by_type == []
    table = system_table(whole, systems, DETECTOR_COLUMNS, "detector", 3)
    assert "–" not in table
    pairs = [(systems[0], systems[1])]
    differences = pair_table(whole, pairs, DETECTOR_COLUMNS, digits=3)
    assert differences.count("[") == 7
    # Without a fold the pooled images are those of the other one, and the condition names it.
    kept = without_folds(first, [0])
    assert kept.scores.images.equals(first.folds[1].images)
    tiles = Parameters(**{**vars(p), "dataset": "magnetic-tile", "folds": 5})
    three = {
        system.tag: one._replace(folds=[one.folds[0], *one.folds])
        for system, one in zip(systems, (first, second), strict=True)
    }
    run = Run(tiles, {}, three, systems, pairs, {}, whole, 50)
    fewer = pd.DataFrame(unchosen_rows(run)).assign(dataset="synthetic")
    both = pd.concat([whole, fewer], ignore_index=True)
    assert runs.check_rows(both.to_dict("records"))
    without = without_chosen(both)
    assert without == WITHOUT | {"against_without_folds": WITHOUT["without_folds"]}
    elsewhere = pair_table(both, pairs, DETECTOR_COLUMNS, digits=3, **without)
    assert elsewhere.count("[") == 7
    assert elsewhere != differences
    assert pair_table(both, pairs, DETECTOR_COLUMNS, digits=3) == differences
    assert unchosen_rows(run._replace(parameters=p)) == []


def test_folds_that_chose_are_those_of_one_deal_only(tmp_path: Path) -> None:
    tiles = parameters(tmp_path, dataset="magnetic-tile", folds=5)
    assert chosen_on(tiles) == CHOSEN_ON
    for other in ({"folds": 4}, {"seeds": (1,)}, {"seeds": (0, 1)}, {"dataset": "mvtec"}):
        assert chosen_on(Parameters(**{**vars(tiles), **other})) == ()


def test_the_other_system_of_a_difference_is_named_with_its_condition() -> None:
    system = DetectorSystem("tag", "rd", "label", (("strides", (4, 8)),), backbone="b")
    assert system.as_other == {
        "against": "rd-b",
        "against_recipe": "modern",
        "against_strides": [4, 8],
    }
