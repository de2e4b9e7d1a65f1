"""Classification of defect types: scores, result rows and training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from gainbook.chapters.ch12_fostering.systems import TILE_CLASSES, fostered, fostered_types
from gainbook.lab import results_file as runs
from gainbook.lab import run_system
from gainbook.lab.comparison import compare, pooled_rows
from gainbook.lab.protocol import cross_validate

from gainmtl import GAINMTL, datasets, fit
from gainmtl.evaluation.scoring import score
from gainmtl.evaluation.tidy import class_codes, tidy_rows
from gainmtl.strategies import foster

KINDS = ("normal", "blowhole", "stain")


def three(**sizes: int) -> Any:
    options: dict[str, Any] = {"train": 96, "val": 32, "test": 48, "image_size": 64, **sizes}
    return datasets.load("synthetic", defect_types=KINDS[1:], **options)


def build(strategy: Any = "S1", kinds: tuple[str, ...] = KINDS) -> GAINMTL:
    torch.manual_seed(0)
    return GAINMTL(
        "test_efficientnet", strategy, run_system.find_weights(run_system.WEIGHTS),
        num_classes=len(kinds), classes=kinds, output_stride=4,
    )  # fmt: skip


def test_codes_are_the_same_for_the_same_name() -> None:
    a, b = class_codes(["x", "y", "x"], pd.Series(["y", "z", "x"]))
    assert ((a[:, None] == b[None]) == (np.array(list("xyx"))[:, None] == list("yzx"))).all()


def test_types_of_a_set_are_the_same_in_every_part() -> None:
    assert three(train=8, val=8, test=8).types() == KINDS
    shown = datasets.load(
        "synthetic", image_size=32, train=20, val=20, test=20, defect_types=KINDS[1:],
        unseen_defect_types=("stain",),
    )  # fmt: skip
    assert "stain" not in shown.train.defect_types  # type: ignore[attr-defined]
    assert shown.types() == KINDS


def test_scores_name_the_most_probable_class_and_two_classes_stay_as_they_were() -> None:
    data = three(train=4, val=4, test=10)
    model = build().eval()
    scores = score(model, data.test)
    table = scores.images
    assert set(table["predicted_type"]) <= set(KINDS)
    with torch.no_grad():
        images = torch.stack([data.test[i].image for i in range(10)])
        best = model(model.preprocess(images)).logits.argmax(1)
    assert [KINDS[k] for k in best] == table["predicted_type"].tolist()
    rows = tidy_rows(scores, "synthetic", "test", "S1", resamples=50)
    values = rows.set_index("metric")["value"]
    expected = (table["predicted_type"] == table["defect_type"]).mean()
    assert values["type_accuracy"] == pytest.approx(expected)
    assert 0 <= values["macro_f1"] <= 1
    plain = GAINMTL("test_efficientnet", "S1", output_stride=4)
    scores = score(plain, data.test)
    assert "predicted_type" not in scores.images
    metrics_of = set(tidy_rows(scores, "synthetic", "test", "S1", resamples=0)["metric"])
    assert not {"type_accuracy", "macro_f1"} & metrics_of


def test_a_system_sets_its_classes() -> None:
    system = fostered_types(1.0)
    assert system.condition == {**fostered(1.0).condition, "num_classes": 6}
    model: Any = run_system.build(system, "test_efficientnet", None)
    assert model.classes == TILE_CLASSES
    assert model.head.weight.shape[0] == 6
    tags = {fostered_types(0.0).tag, system.tag, fostered(0.0).tag, fostered(1.0).tag}
    assert len(tags) == 4


@pytest.mark.slow
def test_three_classes_are_learned_with_and_without_fostering(tmp_path: Path) -> None:
    pooled = {}
    for name, strategy in (("plain", "S1"), ("fostered", foster("S1", 0.3))):

        def fresh(strategy: Any = strategy) -> GAINMTL:
            return build(strategy)

        pooled[name], again = (
            cross_validate(
                fresh, lambda fold: three(train=200, image_size=48), tmp_path / name, folds=1,
                epochs=5, batch_size=8, learning_rate=8e-3, average_decay=0.9, progress=False,
                accelerator="cpu",
            )
            for _ in range(2)
        )  # fmt: skip
        pd.testing.assert_frame_equal(pooled[name].scores.images, again.scores.images)
        rows = pooled_rows(pooled[name], "synthetic", 0, resamples=50)
        runs.check_rows(rows.to_dict("records"))
        value = rows[rows["seed"].isna()].set_index("metric")["value"]
        assert value["type_accuracy"] > 0.7
        assert value["macro_f1"] > 0.65
    rows = compare(pooled["fostered"], pooled["plain"], "synthetic", resamples=50)
    tables = [pooled[name].scores.images for name in ("fostered", "plain")]
    accuracies = [float((t["predicted_type"] == t["defect_type"]).mean()) for t in tables]
    difference = rows.set_index("metric")["value"]["type_accuracy_difference"]
    assert difference == pytest.approx(accuracies[0] - accuracies[1])


def test_a_type_that_is_no_class_ends_the_training() -> None:
    with pytest.raises(ValueError, match="got 'stain'"):
        fit(build(kinds=("normal", "blowhole", "chip")), three(), 1, progress=False)
