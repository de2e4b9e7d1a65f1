"""The loop with a fine-tuned backbone: its head is the network's own, rounds resume, the start is
trained once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from gainbook.chapters.ch14_active import finetune, page, study
from gainbook.chapters.ch14_active.finetune import Classifier, FineTuning, fit_classifier
from gainbook.chapters.ch14_active.loop import Plan, first_rows, run
from gainbook.chapters.ch14_active.summary import Summary, read_runs
from gainbook.chapters.ch14_active.tasks import Setting, Split, synthetic
from gainbook.lab.results_file import check_rows

from gainmtl.backbone import Backbone

WEIGHTS = str(Path(__file__).parents[3] / "book/weights/test_efficientnet_synthetic.safetensors")
SETTING = Setting(first=1, batch=8, rounds=2, image_size=32)


@pytest.fixture(scope="module")
def split() -> Split:
    return synthetic(32, 2)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finetune, "STEPS", 4)


def learner(split: Split, seed: int = 0) -> FineTuning:
    return FineTuning(split, SETTING, "test_efficientnet", WEIGHTS, seed)


def test_the_head_on_standardised_features_is_the_networks_own(
    split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    models: list[Classifier] = []
    fit = fit_classifier

    def keep(model: Classifier, *args: object) -> None:
        models.append(model)
        fit(model, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(finetune, "fit_classifier", keep)
    first = first_rows(split.pool.labels, 15, 1, 0)
    problem, head = learner(split)(Plan("entropy"), first, first[:0])
    images = torch.stack([split.test.dataset[int(i)].image for i in split.test.rows])
    with torch.no_grad():
        expected = models[0].eval()(images).softmax(1).numpy()
    found = head.probabilities(problem.features["test"])
    assert np.abs(found - expected).max() < 2e-3  # features are stored with 16 bits
    assert np.ptp(found, axis=0).max() > 0.01


def test_training_lowers_the_loss_and_repeats(
    split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finetune, "STEPS", 40)
    rows = np.flatnonzero(split.pool.labels < 2)
    images = torch.stack([split.pool.dataset[int(split.pool.rows[i])].image for i in rows])
    labels = torch.from_numpy(split.pool.labels[rows])

    def loss() -> tuple[float, float]:
        torch.manual_seed(0)
        model = Classifier(Backbone("test_efficientnet"), 2)
        found = []
        for trained in (False, True):
            if trained:
                before = images.clone()
                fit_classifier(model, images, labels, 0)
                assert torch.equal(images, before)
            with torch.no_grad():
                logits = model.train()(images)
            found.append(float(torch.nn.functional.cross_entropy(logits, labels)))
        return found[0], found[1]

    before, after = loss()
    assert after < 0.7 * before
    assert loss() == (before, after)


def test_a_run_resumes_and_its_start_is_shared(split: Split, tmp_path: Path) -> None:
    learn, trained = learner(split), []
    whole = learn._train
    learn._train = lambda rows: trained.append(len(rows)) or whole(rows)  # type: ignore[method-assign,func-returns-value]
    plans = [Plan(method) for method in finetune.METHODS]
    for plan in plans:
        rounds = run(learn.problem, plan, 0, tmp_path / f"{plan.tag}-0.json", learn)
        assert [one["labels"] for one in rounds] == [15, 23, 31]
    assert trained == [15, *[23, 31] * 3]
    path = tmp_path / "entropy-0.json"
    text = path.read_text("utf-8")
    stopped = tmp_path / "stopped.json"
    calls = iter(range(100))

    def stop(plan: Plan, first: np.ndarray, new: np.ndarray):  # type: ignore[no-untyped-def]
        if next(calls) == 2:
            raise KeyboardInterrupt
        return learn(plan, first, new)

    with pytest.raises(KeyboardInterrupt):
        run(learn.problem, Plan("entropy"), 0, stopped, stop)
    run(learn.problem, Plan("entropy"), 0, stopped, learner(split))
    assert stopped.read_text("utf-8") == text
    rows = pd.DataFrame(
        check_rows(Summary("deep-pcb", read_runs(tmp_path, plans, (0,)), plans).rows())
    )
    table = page.tuned_table(None, rows)
    assert table.count("fine-tuned") == 3
    assert "nan" not in table
    assert "with 31 labels" in page.tuned_text(None, rows)
    assert study.last_labels(rows) == 31
