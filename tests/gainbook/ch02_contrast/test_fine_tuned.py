"""Fine-tuned classifiers: what each is trained on, and whose scores the figures are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gainbook.chapters.ch02_contrast import fine_tuned
from gainbook.chapters.ch02_contrast.crossing import EQUAL
from gainbook.chapters.ch02_contrast.draws import BOARDS, SYNTHETIC, load_draw
from gainbook.lab.seed_study import Cell

from gainmtl.types import NORMAL

FEW: dict[str, Any] = {
    **fine_tuned.SETTINGS[BOARDS], "backbone": "test_efficientnet", "weights": None, "normal": 10,
    "val": 8, "most": 6, "test_normal": 5, "test_type": 2, "least": 4, "epochs": 1,
}  # fmt: skip
CELL = Cell((("system", "textbook"), ("defects", 2), ("seed", 0)))


@pytest.fixture
def tuning() -> fine_tuned.Tuning:
    return fine_tuned.Tuning(
        load_draw(SYNTHETIC, None, 0, FEW, 32, train=60, val=40, test=60), FEW, 0
    )


def test_a_classifier_learns_from_the_parts_of_its_cell_and_is_scored_on_the_test(
    tuning: fine_tuned.Tuning, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores that are 1 for the types of training and 0 for others: a type left out is missed."""
    trained: list[set[str]] = []

    def learn(model: Any, data: Any, epochs: int, **recipe: Any) -> None:
        assert sum(kind != NORMAL for kind in data.train.defect_types) >= FEW["least"]
        trained.append(set(data.train.defect_types) - {NORMAL})

    def judge(model: Any, part: Any) -> tuple[np.ndarray, np.ndarray]:
        known = np.array([float(kind in trained[-1]) for kind in part.defect_types])
        return known, np.array(part.labels)

    monkeypatch.setattr(fine_tuned, "fit", learn)
    monkeypatch.setattr(fine_tuned, "defect_scores", judge)
    draw, kinds = tuning.draw, tuning.draw.kinds()
    for one in fine_tuned.at_types(tuning, CELL):
        left_out = one["condition"].get("left_out")
        if one["condition"]["types"] == "unseen":
            assert one["value"] == 0
        assert left_out is None or one["metric"] == EQUAL
    assert len(trained) == len(kinds)
    assert all(kind not in types for kind, types in zip(kinds, trained, strict=True))

    trained.clear()
    figures = {one["metric"]: one["value"] for one in fine_tuned.at_count(tuning, CELL)}
    types = draw.types[draw.test]
    (learned,) = trained
    assert learned == set(draw.types[draw.defective(2)])
    assert figures["recall"] == np.isin(types[types != NORMAL], list(learned)).mean()


def test_a_trained_network_scores_validation_and_test_images_alone(
    tuning: fine_tuned.Tuning,
) -> None:
    scores, share = tuning.scores("textbook", tuning.draw.defective(2))
    scored = np.zeros(len(scores), dtype=bool)
    scored[np.concatenate([tuning.draw.val, tuning.draw.test])] = True
    assert (np.isnan(scores) == ~scored).all()
    assert ((scores[scored] >= 0) & (scores[scored] <= 1)).all()
    assert share == 0
