"""The chapter's measures on a small run of every part: all rows valid, and the page finds them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from gainbook.chapters.ch10_ablation import ladder as ablation
from gainbook.chapters.ch10_ablation import overlap as map_overlaps
from gainbook.chapters.ch10_ablation.ablation_results import (
    PANELS,
    cost_of,
    difference,
    figure_of,
    part_command,
    part_results,
    ratio,
    ratio_rows,
    step_values,
    trained_by,
)
from gainbook.chapters.ch10_ablation.ladder import LADDER, LEAVE_ONE_OUT, S1, S5, SIX, STEPS
from gainbook.lab import results_file as runs
from gainbook.lab.parameters import Parameters
from gainbook.lab.results_file import check_rows
from gainbook.lab.tables import find

from gainmtl.cam import resize_map
from gainmtl.metrics import soft_overlap
from gainmtl.model import GAINMTL
from gainmtl.types import Sample


def test_a_ratio_of_means_by_hand() -> None:
    assert ratio(np.array([0.2, 0.6]), np.array([0.1, 0.1])) == pytest.approx(4.0)
    assert np.isnan(ratio(np.array([0.2]), np.array([0.0])))


def test_ratio_rows_are_about_the_same_images() -> None:
    def pooled(values: list[float], order: list[int]) -> Any:
        table = pd.DataFrame(
            {
                "name": ["a", "b", "c"],
                "group": ["g", "g", "h"],
                "defect_map.iou": [*values, np.nan],
                "defect_map.point_game": [*values, np.nan],
            }
        )
        return SimpleNamespace(scores=SimpleNamespace(images=table.iloc[order]))

    first, second = pooled([0.4, 0.8], [2, 0, 1]), pooled([0.3, 0.1], [0, 1, 2])
    iou, point = check_rows(ratio_rows(S5, S1, first, second, "d", 50))
    assert iou["value"] == point["value"] == pytest.approx(3.0)
    assert (iou["metric"], iou["map"], iou["n"]) == ("iou_ratio", "defect_map", 2)
    assert iou["condition"]["against"] == "S1"


class Parts:
    """Two defective parts and a normal one."""

    labels = np.array([True, True, False])
    has_mask = np.array([True, True, True])

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Sample:
        image = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(index))
        mask = torch.zeros(1, 32, 32)
        mask[0, 4:9, 4:9] = float(self.labels[index])
        return Sample(image, bool(self.labels[index]), mask, True, "x", f"g{index}", f"{index}")


def test_overlap_is_asked_of_models_that_have_both_maps() -> None:
    torch.manual_seed(0)
    models = {name: GAINMTL("test_efficientnet", name, None).eval() for name in ("S2", "S3", "S4")}
    found = map_overlaps.map_overlaps(models, Parts())
    assert set(found) == {"S4"}
    assert found["S4"]["name"].tolist() == ["0", "1"]
    model, image = models["S4"], Parts()[0].image[None]
    with torch.no_grad():
        out = model(model.preprocess(image))
    maps = resize_map(out.attention_logits, (32, 32)), out.localization_logits
    expected = soft_overlap(*(torch.sigmoid(m) for m in maps)).item()
    assert found["S4"]["map_overlap"][0] == pytest.approx(expected, abs=1e-6)


def test_overlap_rows_pair_what_can_be_paired() -> None:
    table = pd.DataFrame({"name": ["a", "b"], "group": ["g", "h"], "map_overlap": [0.2, 0.4]})
    overlaps = {S5.tag: table, ablation.S4.tag: table.assign(map_overlap=[0.1, 0.3])}
    pairs = [(S5, ablation.S4), (S5, S1)]
    rows = check_rows(map_overlaps.overlap_rows(overlaps, SIX, pairs, "d", 50))
    assert [row["metric"] for row in rows] == ["map_overlap"] * 2 + ["map_overlap_difference"]
    assert rows[-1]["value"] == pytest.approx(0.1)


def test_what_nobody_measured_is_nan() -> None:
    assert np.isnan(difference(None, S5, S1, ("auroc", None, {})).value)
    assert np.isnan(figure_of(pd.DataFrame(columns=list(runs.ROW_RULES)), S5, ("x", None, {})).low)


@pytest.mark.parametrize("part", ablation.PARTS)
def test_a_missing_part_names_its_command(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise FileNotFoundError(name)

    monkeypatch.setattr(runs, "reference", missing)
    given = SimpleNamespace(dataset="synthetic")
    found = part_results(given, part, True)  # type: ignore[arg-type]
    assert found.rows is None
    assert f"-p part {part}" in found.note
    assert ablation.PARTS[part] in part_command(part)
    profile = "standard" if part in ("ladder", "copy_paste") else "components"
    assert f"profiles/{profile}.yaml" in found.note


def write_part(part: str, folder: Path, runs_folder: Path, resamples: int = 20) -> Any:
    """Run a part on a few parts and store its results as the book would."""
    given = {
        "notebook": "10_ablation", "dataset": "folder", "data_root": "parts", "image_size": 32,
        "backbone": "test_efficientnet", "weights": None, "epochs": 1, "batch_size": 8,
        "learning_rate": 1e-3, "folds": 1, "seeds": (0,), "accelerator": "cpu", "devices": 1,
        "precision": "32-true", "output_dir": str(runs_folder),
    }  # fmt: skip
    p = Parameters(**given)
    found = part_results(p, part, True, resamples)
    facts = runs.provenance(p, 1.0, None, trained_by(ablation.systems_of(part)),
                            trained_at_commits=["0123456789"])  # fmt: skip
    assert found.rows is not None
    path = folder / "book" / "results" / f"{ablation.PARTS[part]}.json"
    runs.write_results(path, notebook=p.notebook, parameters=p, provenance=facts, rows=found.rows)
    return found


def few_parts(parameters: Parameters, seed: int, split: str = "") -> Any:
    """A few synthetic parts for `reference.load_fold`."""
    from gainmtl import datasets

    return lambda fold: datasets.load(
        "synthetic", image_size=32, train=16, val=8, test=10, seed=fold
    )


@pytest.mark.slow
def test_every_part_runs_and_is_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("reference", "fold_questions"):
        monkeypatch.setattr(f"gainmtl.{module}.load_fold", few_parts)
    for part in ablation.PARTS:
        shared = "r" if part in ("ladder", "copy_paste") else "c"
        write_part(part, tmp_path, tmp_path / "runs" / shared)
    monkeypatch.chdir(tmp_path)
    given: Any = SimpleNamespace(dataset="synthetic")
    ladder, without, split, pasted = (part_results(given, part, False) for part in ablation.PARTS)
    assert "the reference run" in ladder.note
    for rows, steps in ((ladder.rows, STEPS), (without.rows, LEAVE_ONE_OUT)):
        values = step_values(rows, steps)
        assert set(values) == set(PANELS)
        assert not any(np.isnan(v.value) for v in values["verdict"]["AUROC"])
    assert ladder.rows is not None
    assert 0 <= find(ladder.rows, S5, "auroc_without_defects").value <= 1
    for system in ablation.systems_of("ladder"):
        assert 0 <= find(ladder.rows, system, "validation_auroc").value <= 1
    for system in LADDER:
        assert cost_of(ladder.rows, system, "parameters").value > 0
    assert split.rows is not None
    assert {"leaking"} <= {dict(c).get("split") for c in split.rows["condition"]}
    assert pasted.rows is not None
    for a, b in ablation.copy_paste_pairs():
        assert find(pasted.rows, a, "auroc_p_value", **b.as_other).value <= 1
    stored = json.loads((tmp_path / "book/results/10_ablation.json").read_text("utf-8"))
    assert str(tmp_path) not in json.dumps(stored)
