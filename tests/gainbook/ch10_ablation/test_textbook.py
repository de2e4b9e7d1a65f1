"""The textbook fine-tune beside S1 and S5, by hand and from the stored runs."""

from __future__ import annotations

import pandas as pd
from gainbook.chapters.ch10_ablation import textbook
from gainbook.chapters.ch10_ablation.textbook import Curve
from gainbook.lab.results_file import row


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


def test_stored_runs_fill_the_page() -> None:
    assert set(textbook.stored()) == set(textbook.SETS)
    for file in textbook.stored().values():
        assert textbook.table(file).count("textbook fine-tune") == 3
        assert "–" not in textbook.table(file).split("\n")[2]
        assert textbook.gap_text(file).count("difference") == 2
        assert textbook.decay_text(file).count("at its best") == len(textbook.SYSTEMS)
