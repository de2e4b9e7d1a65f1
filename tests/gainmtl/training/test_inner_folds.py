"""Inner folds: every training and validation image judged once, by a network without its part."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from gainmtl.datasets import Data, load
from gainmtl.datasets.data import Described
from gainmtl.datasets.subsets import inner_fold
from gainmtl.evaluation.scoring import defect_scores
from gainmtl.io import load as load_model
from gainmtl.metrics import threshold_at_fpr
from gainmtl.model import GAINMTL
from gainmtl.training import inner_folds
from gainmtl.training.fitting import fit
from gainmtl.training.inner_folds import within_folds
from gainmtl.training.run import MODEL, TrainingRun

EPOCHS, FOLDS = 3, 2


@pytest.fixture(scope="module")
def data() -> Data:
    return load("synthetic", image_size=32, train=16, val=12, test=4)


def run(data: Data, folder: Path | None = None, **arguments: Any) -> tuple[GAINMTL, Any]:
    torch.manual_seed(0)
    model = GAINMTL("test_efficientnet", "S1", width=8)
    recipe = {"epochs": EPOCHS, "batch_size": 8, "inner_folds": FOLDS, **arguments}
    history = fit(model, data, output_dir=folder, accelerator="cpu", progress=False, **recipe)
    return model, history


def test_inner_folds_are_a_partition_by_group(data: Data) -> None:
    wanted = sorted([*cast(Described, data.train).names, *cast(Described, data.val).names])
    held: list[str] = []
    for fold in range(3):
        inner = inner_fold(data, fold, 3, seed=1)
        train, val = cast(Described, inner.train), cast(Described, inner.val)
        assert not set(train.groups) & set(val.groups)
        assert sorted([*train.names, *val.names]) == wanted
        assert inner.counts["val"]["defective"] >= 1
        assert inner.fingerprint != data.fingerprint
        held += val.names
        for index in (0, len(inner.val) - 1):  # type: ignore[arg-type]
            sample = inner.val[index]
            assert (sample.name, sample.is_defective) == (val.names[index], val.labels[index])
    assert sorted(held) == wanted
    with pytest.raises(ValueError, match="fold"):
        inner_fold(data, 3, 3)


def test_auroc_of_pairs_within_a_fold() -> None:
    """By hand: fold 0 has pairs .9>.1, .9>.5, .4>.1, .4<.5; fold 1 has .2>.0; 4 of 5 are right."""
    scores = [np.array([0.9, 0.4, 0.1, 0.5]), np.array([0.2, 0.0])]
    labels = [np.array([True, True, False, False]), np.array([True, False])]
    assert within_folds(scores, labels) == pytest.approx(4 / 5)
    assert within_folds(scores[:1], labels[:1]) == roc_auc_score(labels[0], scores[0])
    assert np.isnan(within_folds([np.array([0.1])], [np.array([False])]))


def test_threshold_and_curve_are_those_of_the_held_out_images(data: Data, tmp_path: Path) -> None:
    model, history = run(data, tmp_path)
    scores, labels = [], []
    for fold in range(FOLDS):
        inner = load_model(tmp_path / f"inner{fold}" / MODEL)
        found, is_bad = defect_scores(inner, inner_fold(data, fold, FOLDS).val)
        scores.append(found)
        labels.append(is_bad)
    joined = np.concatenate(scores), np.concatenate(labels)
    assert model.threshold == pytest.approx(threshold_at_fpr(*joined))
    assert history["inner_auroc"].iloc[-1] == pytest.approx(within_folds(scores, labels))
    assert len(history) == EPOCHS
    assert load_model(tmp_path / MODEL).threshold == model.threshold


def test_weights_do_not_depend_on_inner_folds_that_keep_the_last_epoch(data: Data) -> None:
    with_folds, _ = run(data)
    without, _ = run(data, inner_folds=0)
    for name, value in with_folds.state_dict().items():
        assert torch.equal(value, without.state_dict()[name]), name


def test_the_chosen_epoch_is_kept(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    """A curve whose best epoch is the second: the result has that epoch's averaged weights."""
    curve = iter([0.6, 0.9, 0.7])
    monkeypatch.setattr(inner_folds, "within_folds", lambda *_: next(curve))
    monkeypatch.setattr(inner_folds, "ENOUGH", 1)
    averages = []
    one = TrainingRun.train_epoch

    def spy(self: TrainingRun) -> dict[str, float]:
        shown = one(self)
        averages.append({k: v.clone() for k, v in self.average.state_dict().items()})
        return shown

    monkeypatch.setattr(TrainingRun, "train_epoch", spy)
    model, history = run(data, keep="best")
    assert len(averages) == (FOLDS + 1) * EPOCHS
    for name, value in model.state_dict().items():
        assert torch.equal(value, averages[FOLDS * EPOCHS + 1][name]), name
    assert history["inner_auroc"].tolist() == [0.6, 0.9, 0.7]


def test_too_few_defective_groups_keep_the_last_epoch(data: Data) -> None:
    with pytest.warns(UserWarning, match="needs 30 defective groups.*the last epoch is kept"):
        model, _ = run(data, keep="best")
    last, _ = run(data)
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), last.parameters(), strict=True)
    )


def test_an_interrupted_run_continues(
    data: Data, tmp_path: Path, interrupted: Callable[[Data, int], Data]
) -> None:
    whole, _ = run(data)
    with pytest.raises(KeyboardInterrupt):
        run(interrupted(data, 120), tmp_path)
    assert (tmp_path / "inner0" / MODEL).is_file()  # within the second inner fold
    assert not (tmp_path / "inner1" / MODEL).is_file()
    continued, _ = run(data, tmp_path)
    assert continued.threshold == whole.threshold
    for name, value in continued.state_dict().items():
        assert torch.equal(value, whole.state_dict()[name]), name
