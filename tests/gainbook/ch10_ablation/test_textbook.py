"""The textbook fine-tune beside S1 and S5, by hand and from the stored runs."""

from __future__ import annotations

import pandas as pd
import pytest
from gainbook.chapters.ch10_ablation import textbook
from gainbook.chapters.ch10_ablation.textbook import Curve
from gainbook.lab.results_file import ResultsFile, row


def rows_of(values: dict[str, list[float]]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            row("deep-pcb", system, "validation_auroc", value, condition={"epoch": epoch})
            for system, of_system in values.items()
            for epoch, value in enumerate(of_system, 1)
        ]
    )


def test_best_and_last_epoch_by_hand() -> None:
    rows = rows_of({"S5": [0.5, 0.9, 0.7, 0.9, 0.8], "S1": [0.6]})
    assert textbook.curve(rows, "S5") == Curve(best=0.9, epoch=2, last=0.8, epochs=5)
    assert textbook.curve(rows, "S1") == Curve(best=0.6, epoch=1, last=0.6, epochs=1)


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [(0.01, 0.05, "above"), (-0.05, -0.01, "below"), (-0.01, 0.05, "not shown to differ from")],
)
def test_the_sentence_follows_the_interval(low: float, high: float, words: str) -> None:
    condition = {**textbook.S5.condition, **textbook.TEXTBOOK.as_other}
    gap = row(
        "deep-pcb", "S5", "auroc_difference", 0.02, condition=condition, ci_low=low, ci_high=high,
        n=10,
    )  # fmt: skip
    text = textbook.gap_text(ResultsFile("", {}, {}, pd.DataFrame([gap])))
    assert f"is {words} the textbook fine-tune's: +0.020" in text


def test_stored_runs_fill_the_page() -> None:
    for file in textbook.stored().values():
        assert textbook.table(file).count("textbook fine-tune") == 3
        assert "–" not in textbook.table(file).split("\n")[2]
        assert textbook.gap_text(file)
        assert textbook.decay_text(file).count("at its best") == len(textbook.SYSTEMS)
