"""The thresholds of chapter 15, on scores whose verdicts are counted by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from gainbook.chapters.ch15_own_data.thresholds import (
    INNER,
    STUDY,
    VALIDATION,
    threshold_figures,
    threshold_text,
)
from gainbook.lab.seed_study import figure, seed_rows

LABELS = np.array([False] * 10 + [True] * 4)


def figures(inner: float) -> list[dict[str, object]]:
    """Normal scores 0.0, 0.1, …, 0.9, defective ones 0.35, 0.55, 0.75, 0.95."""
    scores = np.concatenate([np.arange(10) / 10, [0.35, 0.55, 0.75, 0.95]])
    return [
        *threshold_figures(scores, LABELS, {VALIDATION: 0.65, INNER: inner}),
        figure("normal_images", 5, chosen_on=VALIDATION),
    ]


def test_false_alarms_and_recall_of_both_thresholds() -> None:
    found = {(f["metric"], str(f["condition"])): f["value"] for f in figures(0.9)}
    on = {name: str({"chosen_on": name}) for name in (VALIDATION, INNER)}
    assert found["false_alarms", on[VALIDATION]] == pytest.approx(0.3)  # 0.7, 0.8, 0.9
    assert found["false_alarms", on[INNER]] == pytest.approx(0.1)  # a score at the threshold
    assert found["off", on[VALIDATION]] == pytest.approx(0.25)
    assert found["off", on[INNER]] == pytest.approx(0.05)
    assert found["recall", on[VALIDATION]] == 0.5
    assert found["recall", on[INNER]] == 0.25
    assert found["off_difference", "{}"] == pytest.approx(-0.2)
    assert found["recall_difference", "{}"] == -0.25


def test_the_sentence_has_both_thresholds_and_their_difference() -> None:
    assert threshold_text(None) == ""
    cells = STUDY.cells(seed=(0, 1))
    rows = pd.DataFrame(seed_rows(STUDY, cells, [{"figures": figures(0.9)}] * 2))
    text = threshold_text(rows)
    assert "5.0 normal tiles are in the validation part" in text
    assert "has 0.30 [0.30, 0.30] on the test tiles, at recall 0.50" in text
    assert "that of 5 inner folds 0.10 [0.10, 0.10], at recall 0.25" in text
    assert "distance from 5% -0.20 [-0.20, -0.20]" in text
