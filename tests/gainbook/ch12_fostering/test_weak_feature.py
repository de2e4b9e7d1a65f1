"""The weak feature's experiment: figures by hand, a study that goes on, its rows."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from gainbook.chapters.ch12_fostering import weak_feature_study as study
from gainbook.chapters.ch12_fostering.weak_feature import Answers, ask, grown, measure
from gainbook.lab import results_file as runs
from gainbook.lab.study_runs import read_or_run

from gainmtl import GAINMTL
from gainmtl.datasets.two_features import two_features


def figure(figures: list[dict[str, Any]], metric: str, **condition: str) -> float:
    (found,) = [f for f in figures if f["metric"] == metric and f["condition"] == condition]
    return float(found["value"])


def by_hand() -> Answers:
    """Two parts on 4 x 4 cells: of the first all evidence is on the strong, of the second 3:1."""
    masks = {"strong": torch.zeros(2, 1, 4, 4), "weak": torch.zeros(2, 1, 4, 4)}
    masks["strong"][:, :, 0, 0] = 1
    masks["weak"][:, :, 3, 3] = 1
    both = torch.zeros(2, 1, 4, 4)
    both[0, 0, 0, 0] = 2.0
    both[1, 0, 0, 0], both[1, 0, 3, 3], both[1, 0, 1, 2] = 3.0, 1.0, -9.0
    probability = {
        "both": torch.tensor([0.9, 0.8]),
        "strong": torch.tensor([0.9, 0.8]),
        "weak": torch.tensor([0.2, 0.6]),
        "normal": torch.tensor([0.1, 0.3]),
    }
    return Answers(probability, {"both": both, "strong": both, "weak": both}, masks)


def test_figures_by_hand() -> None:
    found = measure(by_hand(), 0.5)
    assert figure(found, "auroc", shown="both") == 1.0
    assert figure(found, "auroc", shown="weak") == 0.75
    assert figure(found, "recall", shown="weak") == 0.5
    assert figure(found, "positive_energy", on="strong", shown="both") == (1 + 0.75) / 2
    assert figure(found, "positive_energy", on="weak", shown="both") == (0 + 0.25) / 2
    assert figure(found, "energy_balance", shown="both") == (0 + 0.25) / 2
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25)) / 2
    assert figure(found, "cam_entropy", shown="both") == pytest.approx(entropy)


def test_nothing_on_either_has_no_balance() -> None:
    dark = by_hand()
    dark.evidence["both"].fill_(-1.0)
    found = measure(dark, 0.5)
    assert figure(found, "positive_energy", on="weak", shown="both") == 0.0
    assert math.isnan(figure(found, "energy_balance", shown="both"))


def test_a_grown_mask_reaches_so_far() -> None:
    mask = torch.zeros(1, 1, 7, 7)
    mask[0, 0, 3, 3] = 1
    assert grown(mask, 1)[0, 0, 2:5, 2:5].sum() == grown(mask, 1).sum() == 9


def test_a_model_is_asked_as_it_is() -> None:
    parts: Any = two_features(train=4, val=4, test=12, weak_alone=0.3).test
    model = GAINMTL("test_efficientnet", "S1", output_stride=4).train()
    answers = ask(model, parts, batch_size=5)
    assert model.training
    model.eval()
    bad = [i for i in range(12) if parts.labels[i]]
    with torch.no_grad():
        out = model(model.preprocess(torch.stack([parts.picture(i, "weak") for i in bad])))
    torch.testing.assert_close(answers.probability["weak"], out.defect_probability)
    shifted = out.cam + model.evidence_bias
    torch.testing.assert_close(answers.evidence["weak"], shifted)
    assert len(answers.probability["normal"]) == 6


def record(beta: float, seed: int, weak: float, strong: float = 0.5) -> dict[str, Any]:
    figures = [
        {"metric": "positive_energy", "condition": {"on": on, "shown": "both"}, "map": "cam",
         "value": value, "n": 3}
        for on, value in (("weak", weak), ("strong", strong))
    ]  # fmt: skip
    return {
        "beta": beta, "alone": 0.0, "seed": seed, "figures": figures, "validation_auroc": 0.9,
        "settings": study.SETTINGS,
    }  # fmt: skip


def test_rows_hold_means_and_differences_seed_by_seed() -> None:
    records = [
        record(0.0, 0, 0.1), record(0.0, 1, 0.3), record(1.0, 0, 0.2, 0.4), record(1.0, 1, 0.5, 0.4)
    ]  # fmt: skip
    rows = pd.DataFrame(runs.check_rows(study.study_rows(records)))
    on_weak = {"on": "weak", "shown": "both"}
    assert study.study_value(rows, "positive_energy", 0.0, 0.0, "cam", **on_weak).value == 0.2
    gain = study.study_value(rows, "positive_energy_difference", 1.0, 0.0, "cam", **on_weak)
    assert gain.value == pytest.approx(0.15)
    assert gain.low < 0.1
    assert gain.n == 2
    over = study.study_value(rows, "weak_over_strong_difference", 1.0, 0.0, "cam", shown="both")
    assert over.value == pytest.approx(0.25)
    assert study.study_value(rows, "validation_auroc", 1.0, 0.0).value == pytest.approx(0.9)


def test_beta_is_chosen_on_validation() -> None:
    records = [record(beta, 0, 0.1) for beta in study.BETAS]
    for one, value in zip(records, (0.95, 0.97, 0.945, 0.93), strict=True):
        one["validation_auroc"] = value
    rows = pd.DataFrame(study.study_rows(records))
    assert study.chosen_beta(rows, 0.0) == 1.0
    some = pd.DataFrame(study.study_rows(records[:2]))
    assert study.chosen_beta(some, 0.0) == 0.3


def test_seeds_come_first_and_a_study_goes_on(tmp_path: Path) -> None:
    runs_ = study.grid()
    assert len(runs_) <= 40
    assert {run.seed for run in runs_[: len(study.BETAS) * len(study.ALONE)]} == {0}
    small = {"train": 16, "val": 8, "test": 8, "epochs": 1, "image_size": 32}

    def execute(**changes: Any) -> dict[str, Any]:
        settings = {**study.SETTINGS, **small, **changes}
        return read_or_run(tmp_path, settings, runs_[1], study.run_cell)

    first = execute()
    assert execute() == first
    with pytest.raises(ValueError, match="other settings"):
        execute(batch_size=8)
    runs.check_rows(study.study_rows([first]))


def test_without_a_file_the_page_says_how_to_make_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise FileNotFoundError(name)

    monkeypatch.setattr(runs, "reference", missing)
    rows, note = study.stored_study()
    assert rows is None
    assert study.COMMAND in note
