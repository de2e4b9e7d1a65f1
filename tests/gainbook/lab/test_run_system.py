"""Running a system: one recipe, folders that chapters share, the live part's parameters."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import yaml
from gainbook.lab import catalogue, run_system, systems
from gainbook.lab.parameters import Parameters
from gainbook.lab.protocol import FACTS, REFERENCE, Pooled

from gainmtl.evaluation.scoring import Scores
from gainmtl.training.recipe import Recipe

ROOT = Path(__file__).resolve().parents[3]


def parameters(**changes: Any) -> Parameters:
    given = {
        "notebook": "none", "dataset": "synthetic", "data_root": None, "image_size": 32,
        "backbone": "test_efficientnet", "weights": None, "epochs": 1, "batch_size": 16,
        "learning_rate": 1e-3, "folds": 1, "seeds": (0,), "accelerator": "cpu", "devices": 1,
        "precision": "32-true", "output_dir": "runs",
    }  # fmt: skip
    return Parameters(**{**given, **changes})


def test_the_recipe_is_the_reference_with_the_notebooks_own_sizes() -> None:
    chosen = parameters(epochs=3, batch_size=5, learning_rate=0.5)
    system = catalogue.S5._replace(changes=(("weight_decay", 0.25),))
    given = run_system.recipe(chosen, system)
    own = {"epochs": 3, "batch_size": 5, "learning_rate": 0.5, "weight_decay": 0.25}
    assert given == REFERENCE | own
    Recipe(**given)


@pytest.mark.parametrize(
    "system", [catalogue.S1_COARSE, catalogue.S1_FINE, catalogue.S1_OWN, catalogue.S5]
)
def test_what_a_system_changes_is_a_recipe(system: systems.System) -> None:
    Recipe(**dict(system.changes))


def test_the_standard_profile_is_the_reference_recipe() -> None:
    text = (ROOT / "notebooks/profiles/standard.yaml").read_text("utf-8")
    profile = yaml.safe_load(text)
    own = ("epochs", "batch_size", "learning_rate")
    assert {key: profile[key] for key in own} == {key: REFERENCE[key] for key in own}


def test_the_live_part_is_about_synthetic_parts_whatever_the_data_set() -> None:
    own = parameters(epochs=3)
    quick = {"epochs": 5, "image_size": 96}
    assert run_system.live(own, quick) is own
    other = run_system.live(
        parameters(dataset="folder", data_root="parts", epochs=99, seeds=(7,)), quick
    )
    assert (other.dataset, other.data_root, other.seeds) == ("synthetic", None, (7,))
    assert (other.epochs, other.image_size) == (5, 96)


def test_the_books_weights_are_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = run_system.find_weights(run_system.WEIGHTS)
    assert found is not None
    assert Path(found).is_file()
    assert Path(found).stat().st_size < 1_000_000
    assert run_system.find_weights(None) is None
    for name in ("imagenet", "package"):
        assert run_system.find_weights(name) == name
    assert run_system.find_weights("no/such.safetensors") == "no/such.safetensors"


def test_folds_of_an_alias_are_read_where_the_other_left_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = []
    alias = catalogue.S5_WITHOUT_TERM._replace(
        tag="S4-stride4", strategy="S4", trained_as=catalogue.S5_WITHOUT_TERM
    )

    def validate(fresh: Any, load: Any, folder: Path, **given: Any) -> Pooled:
        folders.append(folder)
        nothing = pd.DataFrame()
        return Pooled(fresh().strategy.name, given["condition"], [], Scores(nothing, {}), nothing,
                      (), 0.0, ())  # fmt: skip

    monkeypatch.setattr(run_system, "cross_validate", validate)
    p: Any = SimpleNamespace(
        output_dir=str(tmp_path), seeds=(0,), folds=2, weights=None, backbone="test_efficientnet",
        epochs=1, batch_size=8, learning_rate=1e-3, accelerator="cpu", devices=1,
        precision="32-true",
    )  # fmt: skip
    (pooled,) = run_system.run(p, alias)
    assert (pooled.system, pooled.condition) == ("S4", {"output_stride": 4})
    assert folders == [tmp_path / "S5-no-counterfactual-stride4" / "seed0"]
    assert not run_system.is_finished(p, alias)
    for fold in range(2):
        (folders[0] / f"fold{fold}").mkdir(parents=True)
        (folders[0] / f"fold{fold}" / FACTS).touch()
    assert run_system.is_finished(p, alias)
