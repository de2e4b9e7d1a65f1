"""The labels of a training set, counted by hand and read back from rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from gainbook.chapters.ch11_approaches.approaches import SIX
from gainbook.chapters.ch11_approaches.prices import (
    count_labels,
    label_rows,
    label_text,
    price_table,
    stored_labels,
)
from gainbook.lab.results_file import check_rows, row

from gainmtl.types import Sample


class Two:
    """Two defective parts, one of them without a mask."""

    labels = np.array([True, False, True])
    has_mask = np.array([True, True, False])

    def __getitem__(self, index: int) -> Sample:
        mask = torch.zeros(1, 12, 12)
        mask[0, 2:6, 2:6] = 1  # 4 x 4: 12 pixels on its border
        mask[0, 8, 8] = 1  # and one
        return Sample(torch.zeros(3, 12, 12), True, mask, True, "x", "g", "n")


def test_labels_by_hand_and_from_rows() -> None:
    counts = count_labels(Two())  # type: ignore[arg-type]
    assert counts == (3, 2, 2, 13.0)
    rows = check_rows(label_rows(counts, "d"))
    assert stored_labels(pd.DataFrame(rows)) == counts
    assert "**2** boxes" in label_text(counts)


def test_the_price_table_has_a_dash_where_a_figure_is_missing() -> None:
    network = {"backbone": "b", "image_size": 64}
    rows = [row("d", SIX[0].name, "parameters", 2.5e6, condition={**SIX[0].condition, **network})]
    lines = price_table(pd.DataFrame(rows), SIX, **network).splitlines()
    assert len(lines) == 2 + len(SIX)
    assert lines[2] == "| classifier only | defective or not | nothing | 2.50 | – | – | – |"
