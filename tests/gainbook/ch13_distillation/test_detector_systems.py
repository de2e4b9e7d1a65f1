"""Named detectors, by folds, as rows and tables."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from gainbook.chapters.ch13_distillation.detector_results import (
    CHOSEN_ON,
    WITHOUT,
    chosen_on,
    detector_results,
    detector_rows,
    detector_table,
    difference_rows,
    difference_table,
    without_folds,
)
from gainbook.chapters.ch13_distillation.detector_systems import (
    BANK,
    BANK_SAME,
    RD,
    SYSTEMS,
    build,
    on,
    recipe_of,
    run_detector,
)
from gainbook.lab import results_file as runs

from gainmtl.anomaly.memory_bank import MemoryBank
from gainmtl.anomaly.reverse_distillation import ReverseDistillation

BACKBONE = "test_efficientnet"


def parameters(tmp_path: Path, **changes: Any) -> Any:
    given = {
        "notebook": "99_none", "dataset": "synthetic", "data_root": None, "image_size": 32,
        "backbone": BACKBONE, "weights": None, "epochs": 1, "batch_size": 8,
        "learning_rate": 1e-3, "folds": 2, "seeds": (0,), "accelerator": "cpu", "devices": 1,
        "precision": "32-true", "output_dir": str(tmp_path),
    }  # fmt: skip
    return SimpleNamespace(**{**given, **changes})


def test_each_system_has_a_folder_and_rows_of_its_own() -> None:
    assert len({one.tag for one in SYSTEMS}) == len(SYSTEMS)
    places = {(on(s, "b").name, str(s.condition)) for s in SYSTEMS}
    assert len(places) == len(SYSTEMS)
    for one in SYSTEMS:  # what is found in a run's rows is found in the stored ones
        assert json.loads(json.dumps(one.condition)) == one.condition


def test_a_system_builds_what_it_says(tmp_path: Path) -> None:
    student, bank = build(RD, BACKBONE, None), build(BANK, BACKBONE, None)
    assert isinstance(student, ReverseDistillation)
    assert isinstance(bank, MemoryBank)
    assert student.teacher.features == "scaled"
    assert (student.teacher.strides, student.balanced) == ((8, 16, 32), True)
    # The comparison on the same features is one: nothing but the detector differs.
    same = build(BANK_SAME, BACKBONE, None)
    taken = ("features", "strides", "neighborhood", "flat_field")
    assert [same.config[k] for k in taken] == [student.config[k] for k in taken]
    assert (student.name, bank.name) == (on(RD, BACKBONE).name, on(BANK, BACKBONE).name)
    p = parameters(tmp_path)
    assert recipe_of(RD, p)["learning_rate"] == p.learning_rate
    assert recipe_of(RD._replace(recipe="paper"), p)["learning_rate"] == 5e-3


def test_without_a_reference_run_the_page_says_how_to_make_it(tmp_path: Path) -> None:
    found = detector_results(parameters(tmp_path), [RD])
    assert found.rows is None
    assert "anomaly.yaml" in found.note
    assert "notebooks/99_none.ipynb" in found.note


@pytest.mark.slow
def test_rows_of_folds_fill_the_tables(tmp_path: Path) -> None:
    p = parameters(tmp_path, image_size=64)
    systems = [on(RD, BACKBONE), on(BANK._replace(options=(("size", 50),)), BACKBONE)]
    pooled = [run_detector(p, one, None, progress=False) for one in systems]
    rows = detector_rows(pooled[0], p.seeds, "synthetic", resamples=20)
    other = detector_rows(pooled[1], p.seeds, "synthetic", resamples=20)
    apart = difference_rows(pooled[0], pooled[1], p.seeds, "synthetic")
    import pandas as pd

    whole = pd.concat([rows, other, apart], ignore_index=True)
    assert runs.check_rows(whole.to_dict("records"))
    assert "ece" not in set(whole["metric"])
    table = detector_table(whole, systems)
    assert "–" not in table
    differences = difference_table(whole, [(systems[0], systems[1])])
    assert differences.count("[") == 7
    # Without a fold the pooled images are those of the other one, and rows say so.
    kept = [without_folds(one, [0]) for one in pooled]
    assert kept[0][0].scores.images.equals(pooled[0][0].folds[1].images)
    fewer = difference_rows(*kept, p.seeds, "synthetic", **WITHOUT)
    both = pd.concat([whole, fewer], ignore_index=True)
    assert runs.check_rows(both.to_dict("records"))
    elsewhere = difference_table(both, [(systems[0], systems[1])], **WITHOUT)
    assert elsewhere.count("[") == 7
    assert elsewhere != differences
    assert difference_table(both, [(systems[0], systems[1])]) == differences


def test_folds_that_chose_are_known_for_one_deal_only(tmp_path: Path) -> None:
    tiles = parameters(tmp_path, dataset="magnetic-tile", folds=5)
    assert chosen_on(tiles) == CHOSEN_ON
    for other in ({"folds": 4}, {"seeds": (1,)}, {"seeds": (0, 1)}, {"dataset": "mvtec"}):
        assert chosen_on(SimpleNamespace(**{**vars(tiles), **other})) == ()
