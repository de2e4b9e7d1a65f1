"""The training matrix: finished runs are read, and each is compared with the textbook fine-tune."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from gainbook.lab.results_file import check_rows

from tools import training_matrix as matrix
from tools.training_matrix import Cell, Setting


def test_a_row_per_run_with_its_difference_from_the_textbook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = Setting(64, 8, 1, {"train": 16, "val": 8, "test": 16})
    monkeypatch.setitem(matrix.SETTINGS, "synthetic", setting)
    args = argparse.Namespace(
        weights=str(tmp_path), data_root=str(tmp_path), output=str(tmp_path),
        epochs=None, folds=1, image_size=32,
    )  # fmt: skip
    cells = [Cell("synthetic", "test_efficientnet", name) for name in ("textbook", "S1")]
    runs = {cell: matrix.run(cell, args) for cell in cells}

    def trained_again(*_: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr("gainmtl.model.GAINMTL.training_step", trained_again)
    rows = matrix.table(cells, lambda cell: matrix.run(cell, args))
    assert rows["auroc"].between(0, 1).all()
    assert np.isnan(rows["difference"][0])
    assert rows["difference"][1] == pytest.approx(rows["auroc"][1] - rows["auroc"][0])
    assert rows["low"][1] <= rows["difference"][1] <= rows["high"][1]
    assert rows["behind"][1] == (rows["high"][1] < 0)
    assert [len(history) for history in rows["validation"]] == [1, 1]
    assert runs[cells[0]].system == "textbook"
    assert matrix.load_data(cells[0], args, fold=0).test[0].image.shape[-2:] == (32, 32)
    assert (tmp_path / "synthetic/test_efficientnet/S1/0/fold0/scores.json").is_file()
    by_system = {cell.system: [runs[cell]] for cell in cells}
    kept = pd.DataFrame(check_rows(matrix.result_rows(by_system, [0], "synthetic")))
    pooled = kept[kept["fold"].isna() & (kept["metric"] == "auroc")]
    assert pooled["value"].tolist() == rows["auroc"].tolist()
    gaps = kept[kept["metric"] == "auroc_difference"]
    assert gaps["value"].tolist() == pytest.approx([rows["difference"][1]])
    curve = kept[kept["metric"] == matrix.CURVE]
    assert curve["value"].round(3).tolist() == [line[0] for line in rows["validation"]]
