"""Evaluation: no output depends on masks; tidy rows; measures agree with other computations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from gainbook.lab.results_file import ROW_RULES, check_rows
from sklearn.metrics import roc_auc_score
from torch.utils.data import Dataset

from gainmtl import metrics
from gainmtl.datasets import load
from gainmtl.evaluation.scoring import Scores, defect_scores, score
from gainmtl.evaluation.tidy import evaluate, tidy_rows
from gainmtl.model import GAINMTL
from gainmtl.types import Sample, collate


class Changed(Dataset[Sample]):
    """A dataset with a function applied to its samples."""

    def __init__(self, dataset: Any, change: Callable[[int, Sample], Sample]) -> None:
        self.dataset, self.change = dataset, change

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        return self.change(index, self.dataset[range(len(self))[index]])


@pytest.fixture(scope="module")
def dataset() -> Any:
    return load("synthetic", image_size=64, train=4, val=4, test=24, seed=2, views=2).test


@pytest.fixture(scope="module")
def model(dataset: Any) -> GAINMTL:
    """An untrained model with a threshold that gives both verdicts in each class."""
    torch.manual_seed(0)
    model = GAINMTL("test_efficientnet", "S5", width=16).eval()
    with torch.no_grad():
        model.normal_features.mean.normal_()
        for head in (model.head, model.attended_head):
            assert head is not None
            head.weight.mul_(20)
    scores, labels = defect_scores(model, dataset)
    model.threshold = float(np.median(scores))
    flagged = scores >= model.threshold
    assert {(bool(a), bool(b)) for a, b in zip(flagged, labels, strict=True)} == {
        (a, b) for a in (False, True) for b in (False, True)
    }
    return model


@pytest.fixture(scope="module")
def scores(model: GAINMTL, dataset: Any) -> Scores:
    return score(model, dataset)


@pytest.fixture(scope="module")
def table(scores: Scores) -> pd.DataFrame:
    return tidy_rows(scores, dataset="synthetic", split="test", system="S5", resamples=200)


def value(table: pd.DataFrame, metric: str, map_name: str | None = None, **condition: Any) -> float:
    rows = table[(table["metric"] == metric) & (table["condition"] == condition)]
    rows = rows[rows["map"].isna() if map_name is None else rows["map"] == map_name]
    assert len(rows) == 1
    return float(rows["value"].iloc[0])


ANSWERS = ["name", "group", "defect_probability", "is_flagged"]


@pytest.mark.parametrize("strategy", ["S1", "S3", "S5", "S6"])
def test_predictions_do_not_depend_on_masks(strategy: str, dataset: Any) -> None:
    """Neither on their content nor on their presence; the map measures do."""
    torch.manual_seed(0)
    model = GAINMTL("test_efficientnet", strategy, width=16)
    model.threshold = 0.4

    def invert(_: int, sample: Sample) -> Sample:
        return sample._replace(mask=1 - sample.mask, has_mask=True)

    def forget(_: int, sample: Sample) -> Sample:
        return sample._replace(mask=torch.zeros_like(sample.mask), has_mask=False)

    true = score(model, dataset).images
    for change in (invert, forget):
        swapped = score(model, Changed(dataset, change)).images
        pd.testing.assert_frame_equal(true[ANSWERS], swapped[ANSWERS], check_exact=True)
        assert not true["cam.energy_inside"].equals(swapped["cam.energy_inside"])


def test_predictions_do_not_depend_on_labels_or_batches(model: GAINMTL, dataset: Any) -> None:
    def lie(_: int, sample: Sample) -> Sample:
        return sample._replace(is_defective=not sample.is_defective)

    expected = score(model, dataset).images
    lied = score(model, Changed(dataset, lie)).images
    assert lied["defect_probability"].equals(expected["defect_probability"])
    alone = score(model, dataset, batch_size=5).images
    np.testing.assert_allclose(
        alone["defect_probability"], expected["defect_probability"], atol=1e-5
    )


def test_one_row_per_image(scores: Scores, dataset: Any, model: GAINMTL) -> None:
    images = scores.images
    assert images["name"].tolist() == list(dataset.names)
    assert images["is_defective"].tolist() == dataset.labels.tolist()
    assert (images["is_flagged"] == (images["defect_probability"] >= model.threshold)).all()
    marked = images["is_defective"] & images["has_mask"]
    assert images.loc[marked, "cam.iou"].notna().all()
    assert images.loc[~marked, "cam.iou"].isna().all()
    assert images.loc[images["is_defective"], "cam.false_activation"].isna().all()
    assert images.loc[~images["is_defective"], "cam.false_activation"].notna().all()


def test_measures_against_other_computations(
    table: pd.DataFrame, scores: Scores, model: GAINMTL, dataset: Any
) -> None:
    batch = collate([dataset[i] for i in range(len(dataset))])
    with torch.no_grad():
        out = model(model.preprocess(batch.image))
    probability = scores.images["defect_probability"].to_numpy()
    labels = batch.is_defective.numpy()
    # Close, not equal: an untrained model's answers nearly tie, and rounding may order them anew.
    np.testing.assert_allclose(out.defect_probability.numpy(), probability, atol=1e-5)
    flagged = probability >= model.threshold
    assert value(table, "auroc") == pytest.approx(roc_auc_score(labels, probability))
    assert value(table, "accuracy") == pytest.approx((flagged == labels).mean())
    assert value(table, "recall") == pytest.approx(flagged[labels].mean())
    assert value(table, "precision") == pytest.approx(labels[flagged].mean())
    bad = batch.is_defective
    assert out.attention_logits is not None
    for name, maps in (
        ("cam", out.cam),
        ("attention", out.attention_logits.sigmoid()),
        ("localization", out.defect_map),
        ("defect_map", out.defect_map),
    ):
        for metric, function in (
            ("iou", metrics.map_iou),
            ("energy_inside", metrics.energy_inside),
        ):
            expected = float(function(maps[bad], batch.mask[bad]).mean())
            assert value(table, metric, name) == pytest.approx(expected, abs=1e-4), (name, metric)
        pooled = metrics.pooled_pixel_ap(maps, batch.mask)
        assert value(table, "pixel_ap", name) == pytest.approx(pooled, abs=0.01)


def test_oracle_is_the_mask_on_the_grid_of_the_evidence(table: pd.DataFrame, dataset: Any) -> None:
    bad = [dataset[i] for i in range(len(dataset)) if dataset.labels[i]]
    masks = torch.stack([sample.mask for sample in bad])
    reached = metrics.oracle_map(masks, (16, 16))
    for name, function in (("iou", metrics.map_iou), ("point_game", metrics.point_game)):
        expected = float(function(reached, masks).mean())
        assert value(table, name, "cam", oracle=True) == pytest.approx(expected)
        assert value(table, name, "cam", oracle=True) > value(table, name, "cam")


def test_rows_are_tidy(table: pd.DataFrame) -> None:
    assert set(table.columns) == set(ROW_RULES)
    assert len(check_rows(table.to_dict("records"))) == len(table)
    named = set(table["metric"])
    assert named >= {
        *("accuracy", "precision", "recall", "f1", "auroc", "average_precision", "ece"),
        *("recall_at_fpr01", "recall_at_fpr05", "iou", "point_game", "energy_inside"),
        *("positive_energy", "pixel_ap", "pixel_auroc", "false_activation", "flip_rate"),
    }
    assert set(table["map"].dropna()) == {"cam", "attention", "localization", "defect_map"}
    assert table["value"].between(0, 1).all()


def test_types_and_their_mean(table: pd.DataFrame, scores: Scores) -> None:
    images = scores.images[scores.images["is_defective"]]
    by_type = images.groupby("defect_type")["defect_map.iou"].mean()
    assert len(by_type) > 1
    for kind, expected in by_type.items():
        assert value(table, "iou", "defect_map", defect_type=kind) == pytest.approx(expected)
    mean = value(table, "iou", "defect_map", defect_type="mean over types")
    assert mean == pytest.approx(by_type.mean())


def test_intervals_contain_the_value(table: pd.DataFrame) -> None:
    found = table.dropna(subset=["ci_low"])
    assert len(found) > 30
    assert (found["ci_low"] <= found["value"] + 1e-12).all()
    assert (found["value"] <= found["ci_high"] + 1e-12).all()
    whole = found[(found["metric"] == "auroc") & (found["condition"] == {})]
    assert float((whole["ci_high"] - whole["ci_low"]).iloc[0]) > 0.05


def test_without_resamples_intervals_are_nan(scores: Scores, table: pd.DataFrame) -> None:
    plain = tidy_rows(scores, dataset="synthetic", split="test", system="S5", resamples=0)
    assert plain["ci_low"].isna().all()
    assert plain["ci_high"].isna().all()
    pd.testing.assert_series_equal(plain["value"], table["value"])


def test_interventions(table: pd.DataFrame, scores: Scores, model: GAINMTL, dataset: Any) -> None:
    images = scores.images
    asked = images["is_defective"] & images["has_mask"] & images["is_flagged"]
    for name in ("removed", "kept", "moved"):
        column = images[f"flip.{name}"]
        assert column[~asked].isna().all()
        defined = column[asked].dropna()
        assert defined.isin([0.0, 1.0]).all()
        assert len(defined) == asked.sum() or name == "moved"
        assert value(table, "flip_rate", intervention=name) == pytest.approx(column[asked].mean())
    index = int(np.flatnonzero(asked)[0])
    sample = dataset[index]
    answer = model.counterfactual(
        model.features(model.preprocess(sample.image[None])), sample.mask[None]
    )
    assert images["flip.removed"][index] == float(answer.removed < model.threshold)
    with pytest.raises(ValueError, match="batch_size: expected a whole number from 1"):
        score(model, dataset, batch_size=0)
    without = score(model, dataset, interventions=False).images
    assert not [name for name in without if name.startswith("flip")]


def test_a_defect_without_mask_is_scored_but_its_maps_are_not_measured(
    model: GAINMTL, dataset: Any
) -> None:
    first = int(np.flatnonzero(dataset.labels)[0])

    def forget(index: int, sample: Sample) -> Sample:
        if index != first:
            return sample
        return sample._replace(has_mask=False, mask=torch.zeros_like(sample.mask))

    found = score(model, Changed(dataset, forget))
    row = found.images.iloc[first]
    assert np.isfinite(row["defect_probability"])
    assert np.isnan(row["cam.iou"])
    assert np.isnan(row["oracle.iou"])
    histogram = found.histograms["cam"]
    assert histogram.positives[first].sum() + histogram.negatives[first].sum() == 0
    assert histogram.negatives[first - 1].sum() > 0


def test_undefined_measures(model: GAINMTL, dataset: Any) -> None:
    """Without a defect there are no map measures, and measures of both classes are NaN."""
    normal = Changed(dataset, lambda _, s: s._replace(is_defective=False, defect_type="normal"))
    table = evaluate(model, normal, resamples=20)
    assert np.isnan(value(table, "auroc"))
    assert np.isnan(value(table, "recall"))
    assert "iou" not in set(table["metric"])
    assert np.isfinite(value(table, "false_activation", "defect_map"))


def test_evaluation_does_not_change_the_model(dataset: Any) -> None:
    torch.manual_seed(0)
    model = GAINMTL("test_efficientnet", "S2").train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    table = evaluate(model, dataset, resamples=0, name="tiles", split="val")
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert set(table["dataset"]) == {"tiles"}
    assert set(table["split"]) == {"val"}
    assert set(table["system"]) == {"S2"}


def test_the_stored_threshold_decides(
    model: GAINMTL, dataset: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores, labels = defect_scores(model, dataset)
    for threshold, recall in ((0.0, 1.0), (1.0, 0.0)):
        monkeypatch.setattr(model, "threshold", threshold)
        table = evaluate(model, dataset, resamples=0)
        assert value(table, "recall") == recall
        assert value(table, "auroc") == metrics.auroc(scores, labels)
