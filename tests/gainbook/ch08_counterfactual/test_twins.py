"""Verdicts on true twins, by hand and on rendered parts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from gainbook.chapters.ch08_counterfactual.twins import (
    RESULTS,
    answer,
    score_twins,
    twin_rows,
)
from gainbook.lab.catalogue import S5, TEXTBOOK
from gainbook.lab.results_file import stored_results
from torch.utils.data import Dataset

from gainmtl import GAINMTL
from gainmtl.datasets.synthetic import make
from gainmtl.types import Sample


class WithTwins(Dataset[Sample]):
    """Synthetic parts with the rendered part without its defect as the twin."""

    def __init__(self, twins: bool = True) -> None:
        self.parts = make(image_size=32, seed=0, train=1, val=1, test=16)[2]
        self.twins = twins

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, i: int) -> Sample:
        sample = self.parts[i]
        return sample._replace(twin=self.parts.clean_image(i)) if self.twins else sample


@pytest.fixture(scope="module")
def model() -> GAINMTL:
    torch.manual_seed(0)
    model = GAINMTL("test_efficientnet", "S1", output_stride=4).eval()
    model.image_size, model.resize = 32, "squash"
    return model


def test_a_twin_is_judged_by_the_models_threshold(model: GAINMTL) -> None:
    data = WithTwins()
    bad = np.flatnonzero(data.parts.labels)
    twins = torch.stack([data.parts.clean_image(int(i)) for i in bad])
    images = torch.stack([data.parts[int(i)].image for i in bad])
    with torch.no_grad():
        before, after = (
            model(model.preprocess(x)).defect_probability.double().numpy() for x in (images, twins)
        )
    model.threshold = float(np.median(np.concatenate([before, after])))
    table = score_twins(model, data)
    wanted = np.where(before >= model.threshold, after < model.threshold, np.nan)
    assert np.array_equal(table["twin"].to_numpy(float), wanted, equal_nan=True)
    agree = np.where(np.isnan(wanted), np.nan, table["fill"] == table["twin"])
    assert np.array_equal(table["agree.fill"].to_numpy(float), agree, equal_nan=True)
    assert table["twin"].notna().any()


def test_parts_without_twins_are_refused(model: GAINMTL) -> None:
    with pytest.raises(ValueError, match="expected a twin for every defective part, found none"):
        score_twins(model, WithTwins(twins=False))


def test_rows_by_hand() -> None:
    both = {"name": ["a", "b"], "group": ["a", "b"], "defect_type": ["x", "x"], "fill": [1.0, 1.0]}
    both |= {"features": [1.0, 1.0], "agree.features": [1.0, 1.0]}
    some = pd.DataFrame(both | {"twin": [1.0, 0.0], "agree.fill": [1.0, 0.0]})
    none = pd.DataFrame(both | {"twin": [1.0, 1.0], "agree.fill": [1.0, 1.0]})
    tables = {"textbook": [some, some], "S5": [none, none]}
    rows = twin_rows(tables, {"textbook": TEXTBOOK, "S5": S5}, [0, 1], "deep-pcb")
    found = {(row["system"], row["metric"], row["condition"]["by"]): row["value"] for row in rows}
    assert found["textbook", "flip_rate", "twin"] == 0.5
    assert found["S5", "flip_rate", "twin"] == 1
    assert found["S5", "flip_rate_difference", "twin"] == 0.5
    assert found["textbook", "agreement", "fill"] == 0.5
    assert found["S5", "agreement_difference", "fill"] == 0.5
    assert all(row["n"] == 4 for row in rows if row["metric"] == "flip_rate")


def test_the_stored_runs_fill_the_page() -> None:
    file = stored_results(RESULTS)
    assert file is not None
    text = answer(file)
    assert text.count("textbook fine-tune") >= 4
    assert "–" not in text.split("What to notice")[0].replace("−", "")
