"""The weak feature's experiment: figures by hand, and the rows and the claim of its study."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from gainbook.chapters.ch12_fostering import weak_study as study
from gainbook.chapters.ch12_fostering.weak_feature import (
    FeatureScores,
    feature_figures,
    grown,
    score_features,
)
from gainbook.chapters.ch12_fostering.weak_study import JUDGED, WEAK_STUDY
from gainbook.lab import results_file as runs
from gainbook.lab.seed_study import run_cell, seed_rows
from gainbook.lab.study import judge

from gainmtl import GAINMTL
from gainmtl.datasets.synthetic.two_features import make_two_features


def figure(figures: list[dict[str, Any]], metric: str, **condition: str) -> float:
    (one,) = [f for f in figures if f["metric"] == metric and f["condition"] == condition]
    return math.nan if one["value"] is None else float(one["value"])


def by_hand() -> FeatureScores:
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
    return FeatureScores(probability, {"both": both, "strong": both, "weak": both}, masks)


def test_figures_by_hand() -> None:
    figures = feature_figures(by_hand(), 0.5)
    assert figure(figures, "auroc", shown="both") == 1.0
    assert figure(figures, "auroc", shown="weak") == 0.75
    assert figure(figures, "recall", shown="weak") == 0.5
    assert figure(figures, "positive_energy", on="strong", shown="both") == (1 + 0.75) / 2
    assert figure(figures, "positive_energy", on="weak", shown="both") == (0 + 0.25) / 2
    assert figure(figures, "energy_balance", shown="both") == (0 + 0.25) / 2
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25)) / 2
    assert figure(figures, "cam_entropy", shown="both") == pytest.approx(entropy)


def test_nothing_on_either_has_no_balance() -> None:
    dark = by_hand()
    dark.evidence["both"].fill_(-1.0)
    figures = feature_figures(dark, 0.5)
    assert figure(figures, "positive_energy", on="weak", shown="both") == 0.0
    assert math.isnan(figure(figures, "energy_balance", shown="both"))


def test_a_grown_mask_reaches_so_far() -> None:
    mask = torch.zeros(1, 1, 7, 7)
    mask[0, 0, 3, 3] = 1
    assert grown(mask, 1)[0, 0, 2:5, 2:5].sum() == grown(mask, 1).sum() == 9


def test_a_model_gets_images_with_the_chosen_features() -> None:
    parts: Any = make_two_features(train=4, val=4, test=12, weak_alone=0.3).test
    model = GAINMTL("test_efficientnet", "S1", output_stride=4).train()
    scores = score_features(model, parts, batch_size=5)
    assert model.training
    model.eval()
    bad = [i for i in range(12) if parts.labels[i]]
    with torch.no_grad():
        out = model(model.preprocess(torch.stack([parts.picture(i, "weak") for i in bad])))
    torch.testing.assert_close(scores.probability["weak"], out.defect_probability)
    shifted = out.cam + model.evidence_bias
    torch.testing.assert_close(scores.evidence["weak"], shifted)
    assert len(scores.probability["normal"]) == 6


def content(weak: float, strong: float = 0.5, alone: float = 0.6, **more: Any) -> dict[str, Any]:
    """Of one run: energy on both features, and the AUROC with the weak one alone."""
    figures = [
        {"metric": "positive_energy", "condition": {"on": on, "shown": "both"}, "map": "cam",
         "value": value, "n": 3}
        for on, value in (("weak", weak), ("strong", strong))
    ]  # fmt: skip
    shown = {"shown": "weak"}
    figures.append({"metric": "auroc", "condition": shown, "map": None, "value": alone, "n": 3})
    return {"figures": figures, "validation_auroc": 0.9, "settings": study.SETTINGS, **more}


def rows_of(contents: dict[float, list[dict[str, Any]]]) -> pd.DataFrame:
    """Result rows from contents by beta, one per seed."""
    seeds = range(len(next(iter(contents.values()))))
    cells = WEAK_STUDY.cells(beta=tuple(contents), share=(JUDGED,), seed=seeds)
    rows = seed_rows(WEAK_STUDY, cells, [contents[c["beta"]][c["seed"]] for c in cells])
    return pd.DataFrame(runs.check_rows(rows))


def test_rows_hold_means_and_differences_seed_by_seed() -> None:
    rows = rows_of({0.0: [content(0.1), content(0.3)], 1.0: [content(0.2, 0.4), content(0.5, 0.4)]})
    on_weak = {"on": "weak", "shown": "both"}
    assert study.study_value(rows, "positive_energy", 0.0, 0.0, "cam", **on_weak).value == 0.2
    gain = study.study_value(rows, "positive_energy_difference", 1.0, 0.0, "cam", **on_weak)
    assert gain.value == pytest.approx(0.15)
    assert gain.low < 0.1
    assert gain.n == 2
    over = study.study_value(rows, "weak_over_strong_difference", 1.0, 0.0, "cam", shown="both")
    assert over.value == pytest.approx(0.25)
    assert study.study_value(rows, "validation_auroc", 1.0, 0.0).value == pytest.approx(0.9)
    # Student's interval is not cut at the ends of the scale.
    assert study.study_value(rows, "positive_energy", 0.0, 0.0, "cam", **on_weak).low < 0


def test_beta_is_chosen_on_validation() -> None:
    values = dict(zip(study.BETAS, (0.95, 0.97, 0.945, 0.93), strict=True))
    contents = {b: [content(0.1, validation_auroc=value)] for b, value in values.items()}
    assert study.chosen_beta(rows_of(contents), 0.0) == 1.0
    some = {beta: contents[beta] for beta in study.BETAS[:2]}
    assert study.chosen_beta(rows_of(some), 0.0) == 0.3


@pytest.mark.parametrize(
    ("gain", "verdict"), [(0.1, "confirmed"), (-0.1, "refuted"), (0.0, "refuted")]
)
def test_the_claim_is_judged_at_the_chosen_beta(gain: float, verdict: str) -> None:
    def at(gain: float) -> list[dict[str, Any]]:
        return [content(0.2 + gain + s / 1000, 0.5, 0.6 + gain + s / 500) for s in range(3)]

    worse = [content(0.9, 0.1, 0.9, validation_auroc=0.5) for _ in range(3)]
    rows = rows_of({0.0: at(0.0), 1.0: at(gain), 3.0: worse})
    assert judge(WEAK_STUDY.claim("C3"), rows).verdict == verdict
    none = rows_of({0.0: at(0.0), 3.0: worse})
    assert judge(WEAK_STUDY.claim("C3"), none).verdict == "undecided"
    assert judge(WEAK_STUDY.claim("C3"), none.iloc[:0]).verdict == "not run"


def test_a_run_is_kept_in_its_file(tmp_path: Path) -> None:
    cells = WEAK_STUDY.cells()
    assert len(cells) <= 40
    assert {cell["seed"] for cell in cells[: len(study.BETAS) * len(study.SHARES)]} == {0}
    small = {"train": 16, "val": 8, "test": 8, "epochs": 1, "image_size": 32}
    settings = {**study.SETTINGS, **small}
    first = run_cell(WEAK_STUDY, tmp_path, settings, cells[1])
    assert (tmp_path / "alone0/beta0.3/seed0.json").is_file()
    runs.check_rows(seed_rows(WEAK_STUDY, cells[1:2], [first]))
