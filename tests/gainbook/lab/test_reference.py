"""The reference systems: one recipe, folders that chapters share, rows that say what is meant."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import numpy as np
import pandas as pd
import pytest
import yaml
from gainbook.lab import chapter_results as findings
from gainbook.lab import reference
from gainbook.lab import results_file as runs
from gainbook.lab.parameters import Parameters
from gainbook.lab.protocol import REFERENCE, Pooled

from gainmtl import metrics
from gainmtl.evaluation.scoring import Scores
from gainmtl.training.recipe import Recipe

ROOT = Path(__file__).resolve().parents[3]
NAMES = (
    "03_right_answer_wrong_reason",
    "04_class_activation_maps",
    "05_attention",
    "06_guided_attention",
    "07_localization",
    "09_staged_training",
    "10_ablation",
    "11_six_approaches",
    "12_cam_fostering",
)
CHAPTERS = [ROOT / "notebooks" / f"{name}.ipynb" for name in NAMES]


def parameters(**changes: Any) -> Parameters:
    given = {
        "notebook": "none", "dataset": "synthetic", "data_root": None, "image_size": 32,
        "backbone": "test_efficientnet", "weights": None, "epochs": 1, "batch_size": 16,
        "learning_rate": 1e-3, "folds": 1, "seeds": (0,), "accelerator": "cpu", "devices": 1,
        "precision": "32-true", "output_dir": "runs",
    }  # fmt: skip
    return Parameters(**{**given, **changes})


def scores(hits: list[float], flagged: list[bool], prefix: str = "") -> Scores:
    """Defective images in groups of two, one normal image at the end."""
    count = len(hits)
    images = pd.DataFrame(
        {
            "name": [f"{prefix}{i}" for i in range(count + 1)],
            "group": [f"g{i // 2}" for i in range(count)] + ["normal"],
            "defect_type": ["crack"] * count + ["normal"],
            "is_defective": [True] * count + [False],
            "has_mask": True,
            "defect_probability": [0.9] * count + [0.1],
            "is_flagged": [*flagged, True],
            "cam.point_game": [*hits, np.nan],
            "defect_map.point_game": [*hits, np.nan],
            "oracle.point_game": [1.0] * count + [np.nan],
        }
    )
    counts = np.ones((count + 1, 4))
    return Scores(images, {"cam": metrics.PixelHistogram(counts, counts, 0.0, 1.0)})


def test_wrong_reason_counts_found_defects_whose_map_peaks_beside_them() -> None:
    # five defects, the fourth is missed: of four found, two peak on the defect, one half of a tie
    found = findings.wrong_reason(
        scores([1, 0, 0.5, 0, 1], [True, True, True, False, True]),
        {"dataset": "set", "split": "test", "system": "S1"}, {"output_stride": 4}, resamples=200,
    )  # fmt: skip
    assert runs.check_rows(found.to_dict("records"))
    cam, defect_map, oracle = found.itertuples()
    assert cam.value == defect_map.value == pytest.approx((0 + 1 + 0.5 + 0) / 4)
    assert (cam.n, oracle.value, oracle.condition["oracle"]) == (4, 0, True)
    assert cam.ci_low <= cam.value <= cam.ci_high


def test_wrong_reason_of_a_system_that_finds_nothing_has_no_rows() -> None:
    assert findings.wrong_reason(scores([1], [False]), {}, {}).empty


def pooled(prefix: str, hits: list[float]) -> Pooled:
    one = scores(hits, [True] * len(hits), prefix)
    history = pd.DataFrame({"epoch": [0], "fold": [0]})
    return Pooled("S1", {}, [one], one, history, ("abc",), 1.0, (Path("model"),))


def test_seeds_are_merged_with_their_groups_kept() -> None:
    merged = findings.merge([pooled("", [1, 0]), pooled("", [0, 0])], (3, 4))
    assert len(merged.scores.images) == 6
    assert set(merged.scores.images["group"]) == {"g0", "normal"}
    assert merged.scores.images["name"].is_unique
    assert merged.scores.histograms["cam"].positives.shape == (6, 4)
    assert (merged.commits, merged.seconds) == (("abc",), 2.0)
    assert findings.merge([merged], (0,)) is merged


def test_the_recipe_is_the_reference_with_the_notebooks_own_sizes() -> None:
    chosen = parameters(epochs=3, batch_size=5, learning_rate=0.5)
    system = reference.S5._replace(changes=(("weight_decay", 0.25),))
    given = reference.recipe(chosen, system)
    own = {"epochs": 3, "batch_size": 5, "learning_rate": 0.5, "weight_decay": 0.25}
    assert given == REFERENCE | own
    Recipe(**given)


@pytest.mark.parametrize(
    "system", [reference.S1_COARSE, reference.S1_FINE, reference.S1_OWN, reference.S5]
)
def test_what_a_system_changes_is_a_recipe(system: reference.System) -> None:
    Recipe(**dict(system.changes))


def test_the_standard_profile_is_the_reference_recipe() -> None:
    text = (ROOT / "notebooks/profiles/standard.yaml").read_text("utf-8")
    profile = yaml.safe_load(text)
    own = ("epochs", "batch_size", "learning_rate")
    assert {key: profile[key] for key in own} == {key: REFERENCE[key] for key in own}


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_the_chapters_defaults_are_the_quick_ones(path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    cell = next(c for c in cells if "parameters" in c.metadata.get("tags", []))
    defaults = {
        ast.unparse(line.target): ast.literal_eval(line.value)
        for line in ast.parse(cell.source).body
        if isinstance(line, ast.AnnAssign) and line.value is not None
    }
    quick = reference.QUICK[path.stem]
    assert {key: defaults[key] for key in quick} == quick


def test_the_live_part_is_about_synthetic_parts_whatever_was_asked() -> None:
    own = parameters(epochs=3)
    assert reference.live(own) is own
    asked = {"dataset": "folder", "data_root": "parts", "epochs": 99, "seeds": (7,)}
    for notebook, quick in reference.QUICK.items():
        other = reference.live(parameters(notebook=notebook, **asked))
        assert (other.dataset, other.data_root, other.seeds) == ("synthetic", None, (7,))
        assert {key: getattr(other, key) for key in quick} == quick


def test_the_books_weights_are_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = reference.find_weights(reference.WEIGHTS)
    assert found is not None
    assert Path(found).is_file()
    assert Path(found).stat().st_size < 1_000_000
    assert reference.find_weights(None) is None
    assert reference.find_weights("imagenet") == "imagenet"
    assert reference.find_weights("no/such.safetensors") == "no/such.safetensors"


def test_without_stored_results_the_page_says_how_to_make_them() -> None:
    found = findings.results(parameters(notebook="99_none"), [reference.S5])
    assert found.rows is None
    assert found.pooled == {}
    assert "no reference results yet" in found.note
    assert "papermill notebooks/99_none.ipynb" in found.note
    assert "profiles/standard.yaml" in found.note
    assert "profiles/components.yaml" in findings.command("05_attention")


def test_the_note_of_a_fuller_run_repeats_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for unguided, there in ((True, True), (False, False)):
        file = SimpleNamespace(parameters={"unguided": unguided})
        monkeypatch.setattr(runs, "reference", lambda name, file=file: file)
        words = findings._as_it_was("05_attention")
        assert ("-p unguided true" in findings.command("05_attention", words)) == there
    assert findings._as_it_was("06_guided_attention") == ""


def test_stored_results_leave_the_live_part_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = parameters(dataset="magnetic-tile", notebook="98_some", data_root="tiles")
    facts = runs.provenance(given, 1.0, trained_at_commits=["0123456789abcdef"])
    both = [
        runs.row(name, "S5", "auroc", 0.9, condition=reference.S5.condition)
        for name in ("synthetic", "magnetic-tile")
    ]
    folder = tmp_path / "book" / "results"
    runs.write_results(
        folder / "98_some.json", notebook="98_some", parameters=given, provenance=facts, rows=both
    )
    monkeypatch.chdir(tmp_path)
    found = findings.results(parameters(notebook="98_some"), [reference.S5])
    assert found.rows is not None
    assert found.rows["dataset"].tolist() == ["magnetic-tile"]
    assert "the reference run" in found.note
    assert "commit 0123456789." in found.note


@pytest.mark.slow
def test_a_chapter_runs_its_systems_by_fold_and_reads_them_again(
    tmp_path: Path, folder_of_parts: Callable[[Path], Path]
) -> None:
    p = parameters(
        dataset="folder", data_root=str(folder_of_parts(tmp_path)), folds=2, seeds=(0, 1),
        output_dir=str(tmp_path / "out"),
    )  # fmt: skip
    systems = (reference.S1_FINE, reference.S5)
    first = findings.results(p, systems, pairs=[(reference.S5, reference.S1_FINE)])
    assert (tmp_path / "out/S5-stride4/seed1/fold1/scores.json").is_file()
    assert first.rows is not None
    assert runs.check_rows(first.rows.to_dict("records"))
    again = findings.results(p, systems, pairs=[(reference.S5, reference.S1_FINE)])
    assert again.rows is not None
    pd.testing.assert_frame_equal(first.rows, again.rows)
    assert "the run in front of you" in again.note
