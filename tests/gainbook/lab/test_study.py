"""A study is run or read: folds kept, stored rows without the live part, notes and commands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from gainbook.chapters import studies
from gainbook.lab import catalogue
from gainbook.lab import results_file as runs
from gainbook.lab.folds import Question, of_each
from gainbook.lab.judge import CONFIRMED, NOT_RUN, Judgement
from gainbook.lab.measures import Measure
from gainbook.lab.parameters import Parameters
from gainbook.lab.study import (
    Claim,
    Run,
    Study,
    is_fuller,
    judge,
    judge_stored,
    on_boards,
    results,
    stored,
)
from gainbook.lab.tables import find

from gainmtl.evaluation.scoring import defect_scores


def parameters(**changes: Any) -> Parameters:
    given = {
        "notebook": "none", "dataset": "synthetic", "data_root": None, "image_size": 32,
        "backbone": "test_efficientnet", "weights": None, "epochs": 1, "batch_size": 16,
        "learning_rate": 1e-3, "folds": 1, "seeds": (0,), "accelerator": "cpu", "devices": 1,
        "precision": "32-true", "output_dir": "runs",
    }  # fmt: skip
    return Parameters(**{**given, **changes})


CLAIM = Claim(
    "X1",
    lambda rows: Judgement(
        CONFIRMED,
        {"AUROC": find(rows, catalogue.S5, "auroc"), "price": find(rows, catalogue.S5, "price")},
    ),
    ("price",),
)


def study(**changes: Any) -> Study:
    given: dict[str, Any] = {
        "name": "98_some", "notebook": "98_some", "title": "Some", "systems": (catalogue.S5,),
        "claims": (CLAIM,),
    }  # fmt: skip
    return Study(**{**given, **changes})


def file_of(folder: Path, **more: Any) -> runs.ResultsFile:
    given = parameters(dataset="magnetic-tile", notebook="98_some", data_root="tiles", **more)
    facts = runs.provenance(given, 1.0, trained_at_commits=["0123456789abcdef"])
    rows = [
        runs.row(name, "S5", "auroc", value, condition=catalogue.S5.condition)
        for name, value in (("synthetic", 0.1), ("magnetic-tile", 0.9))
    ]
    rows.append(runs.row("synthetic", "S5", "price", 3.0, condition=catalogue.S5.condition))
    path = folder / "book" / "results" / "98_some.json"
    runs.write_results(path, notebook="98_some", parameters=given, provenance=facts, rows=rows)
    return runs.read_results(path)


def test_without_stored_results_the_note_has_the_command() -> None:
    found = results(study(name="99_none", notebook="99_none"), parameters())
    assert found.rows is None
    assert found.pooled == {}
    assert "no reference results yet" in found.note
    assert "papermill notebooks/99_none.ipynb" in found.note
    assert "profiles/standard.yaml" in found.note


def test_the_command_has_profile_and_options() -> None:
    block = study(profile="components", options={"part": "leaking"}, written="x.json").command
    assert "-f notebooks/profiles/components.yaml -p part leaking" in block
    assert "-p output_dir runs/components" in block
    assert "cp runs/components/x.json book/results/98_some.json" in block


def test_stored_results_leave_the_live_part_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file_of(tmp_path)
    monkeypatch.chdir(tmp_path)
    found = results(study(), parameters(dataset="magnetic-tile"), selected=False)
    assert found.rows is not None
    assert found.rows["dataset"].tolist() == ["magnetic-tile"]
    assert "the reference run" in found.note
    assert "commit 0123456789." in found.note


def test_the_note_of_a_fuller_run_repeats_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fuller = study(fuller=("-p unguided true", "more"))
    monkeypatch.chdir(tmp_path)
    for unguided in (True, False):
        file = file_of(tmp_path, unguided=unguided)
        assert is_fuller(fuller, file) == unguided
        assert ("-p unguided true" in stored(fuller).note) == unguided


def test_a_claim_is_judged_by_own_rows_and_named_live_ones(tmp_path: Path) -> None:
    file = file_of(tmp_path)
    judgement = judge_stored(CLAIM, file)
    assert judgement.verdict == CONFIRMED
    assert [value.value for value in judgement.figures.values()] == [0.9, 3.0]
    assert judge_stored(CLAIM, None).verdict == NOT_RUN
    own = file.rows[file.rows["dataset"] == "magnetic-tile"]
    assert judge(CLAIM, own).verdict == NOT_RUN  # the price is missing
    assert judge(CLAIM, None).verdict == NOT_RUN


def test_a_study_may_run_and_compare_its_systems_in_its_own_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rows(pooled: Any, seeds: Any, dataset: str, resamples: int) -> pd.DataFrame:
        return pd.DataFrame([runs.row(dataset, pooled[0], "auroc", 0.5, n=resamples)])

    def compare(a: Any, b: Any, dataset: str, resamples: int) -> pd.DataFrame:
        return pd.DataFrame([runs.row(dataset, f"{a} - {b}", "auroc_difference", 0.1)])

    own = study(
        systems=(catalogue.S1_FINE, catalogue.S5), pairs=((catalogue.S5, catalogue.S1_FINE),),
        run=lambda p, system: [system.name], rows=rows, compare=compare,
        about=lambda given: f"{given['image_size']} px alone",
    )  # fmt: skip
    table = results(own, parameters(dataset="tiles"), resamples=7).rows
    assert table is not None
    assert table["system"].tolist() == ["S1", "S5", "S5 - S1"]
    assert table["n"].tolist()[:2] == [7, 7]
    file_of(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert "`book/results/98_some.json`: 32 px alone. This repeats it" in stored(own).note


@of_each
def confidence(model: Any, dataset: Any) -> pd.DataFrame:
    """One row per image: the defect probability."""
    scores, _ = defect_scores(model, dataset)
    return pd.DataFrame({"name": dataset.names, "group": dataset.groups, "confidence": scores})


def extra_rows(run: Run) -> list[dict[str, Any]]:
    """A row that counts the answers."""
    count = len(run.answers["confidence"]["S5-stride4"])
    return [runs.row(run.parameters.dataset, "all", "answers", count)]


@pytest.mark.slow
def test_a_study_runs_its_systems_by_fold_and_reads_them_again(
    tmp_path: Path, folder_of_parts: Callable[[Path], Path]
) -> None:
    p = parameters(
        dataset="folder", data_root=str(folder_of_parts(tmp_path)), folds=2, seeds=(0, 1),
        output_dir=str(tmp_path / "out"),
    )  # fmt: skip
    both = study(
        systems=(catalogue.S1_FINE, catalogue.S5),
        pairs=((catalogue.S5, catalogue.S1_FINE), (catalogue.S5, catalogue.S1_OWN)),
        questions=(Question(confidence, (Measure("confidence", "confidence"),)),),
        keep=lambda rows: rows["metric"].str.startswith("auroc"),
        extra=extra_rows,
    )
    first = results(both, p, resamples=50)
    assert (tmp_path / "out/S5-stride4/seed1/fold1/scores.json").is_file()
    assert first.rows is not None
    assert runs.check_rows(first.rows.to_dict("records"))
    metrics = set(first.rows["metric"])
    assert metrics == {
        "auroc",
        "auroc_difference",
        "confidence",
        "confidence_difference",
        "answers",
    }
    against = {c["against"] for c in first.rows["condition"] if "against" in c}
    assert against == {"S1"}  # the pair with a system that is not run is left out
    again = results(both, p, resamples=50)
    assert again.rows is not None
    pd.testing.assert_frame_equal(first.rows, again.rows)
    assert "the run in front of you" in again.note


def test_a_study_on_boards_has_the_pairs_of_its_systems() -> None:
    s1, s2, s5 = catalogue.PLAIN, catalogue.SUPERVISION_ALONE, catalogue.S5
    whole = study(systems=(s1, s2, s5), pairs=((s5, s1), (s5, s2)))
    boards = on_boards(whole, (s1, s5), claims=())
    assert (boards.systems, boards.pairs) == ((s1, s5), ((s5, s1),))
    assert boards.name == f"{whole.name}_boards"
    assert f"tools/study.py {boards.name} --data-root path/to/deep-pcb" in boards.command


def test_the_criteria_on_boards_have_their_pairs() -> None:
    expected = {
        "05_attention_boards": [("attention-stride4", "attention-bare-stride4")],
        "06_guided_attention_boards": [
            ("S2-stride4", "S1-stride4"),
            ("mining-stride4", "S1-stride4"),
        ],
        "07_localization_boards": [("joint-stride4", "S1-stride4")],
        "10_ablation_boards": [
            *((f"S{k + 1}-stride4", f"S{k}-stride4") for k in range(1, 6)),
            ("S4-stride4", "S4-no-consistency-stride4"),
        ],
    }  # fmt: skip
    for name, pairs in expected.items():
        found = studies()[name]
        assert isinstance(found, Study)
        assert set(pairs) <= {(a.tag, b.tag) for a, b in found.pairs}
