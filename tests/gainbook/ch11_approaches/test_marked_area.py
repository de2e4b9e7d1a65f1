"""Area for area: a system whose map and verdict are known answers as it must."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from gainbook.chapters.ch11_approaches.approaches import CLASSIFIER, INTEGRATED
from gainbook.chapters.ch11_approaches.marked_area import (
    QUESTIONS,
    REASONS,
    ask_about_maps,
    marked_regions,
)
from gainbook.chapters.ch11_approaches.marked_area_rows import (
    columns_of,
    marked_area_differences,
    marked_area_rows,
)
from gainbook.lab.results_file import check_rows
from gainbook.lab.tables import find
from torch import Tensor

from gainmtl import datasets
from gainmtl.backbone import Backbone
from gainmtl.baselines.readout import SEGMENTATION, PlaceInspector
from gainmtl.baselines.unet import UNet
from gainmtl.datasets import Data
from gainmtl.model import GAINMTL
from gainmtl.types import Sample

NAN = math.nan


class Square(torch.utils.data.Dataset[Sample]):
    """A black square on a grey ground; the last part has none."""

    def __init__(self) -> None:
        self.labels = np.array([True, True, True, True, False])
        self.has_mask = np.ones(5, bool)

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> Sample:
        mask = torch.zeros(1, 32, 32)
        if index < 4:
            mask[0, 4 + 4 * index : 10 + 4 * index, 8:14] = 1
        image = 0.6 - 0.6 * mask.expand(3, -1, -1)
        kind = "square" if index < 4 else "normal"
        return Sample(image, index < 4, mask, True, kind, f"g{index}", f"p{index}")


class Dark(PlaceInspector):
    """Defective where dark; its map is honest, or turned upside down."""

    strategy = SEGMENTATION

    def __init__(self, honest: bool = True) -> None:
        super().__init__()
        self.backbone, self.honest = Backbone("test_efficientnet"), honest

    def preprocess(self, images: Tensor) -> Tensor:
        return images

    def localize(self, images: Tensor) -> tuple[Tensor, Tensor]:
        dark = (1 - images.mean(1, keepdim=True)).clamp(0, 1)
        reading = 40 * (dark.amax((1, 2, 3)) - 0.8)
        return reading[:, None], dark if self.honest else 1 - dark


@pytest.fixture(scope="module")
def answers() -> dict[str, pd.DataFrame]:
    models = {"honest": Dark(), "upside down": Dark(honest=False)}
    return ask_about_maps(models, Square(), road=3)


def test_regions_have_the_area_that_was_asked_for() -> None:
    maps = torch.arange(16.0).view(1, 1, 4, 4).repeat(2, 1, 1, 1)
    most, least = marked_regions(maps, torch.tensor([3, 5]))
    assert most.flatten(1).sum(1).tolist() == least.flatten(1).sum(1).tolist() == [3, 5]
    assert most[0].flatten().nonzero()[:, 0].tolist() == [13, 14, 15]
    assert least[1].flatten().nonzero()[:, 0].tolist() == [0, 1, 2, 3, 4]
    flat = marked_regions(torch.zeros(1, 1, 8, 8), torch.tensor([8]))[0]
    assert flat.sum() == 8
    assert flat[0, 0, 0].sum() < 8  # not in reading order


def test_an_honest_map_is_what_the_verdict_hangs_on(answers: dict[str, pd.DataFrame]) -> None:
    honest = answers["honest"]
    assert honest["is_flagged"].all()
    expected = {"removed": 1.0, "marked": 1.0, "moved": 0.0, "unmarked": 0.0, "kept": 0.0}
    for question in QUESTIONS:
        assert honest[f"flip.{question}"].tolist() == [expected[question]] * 4, question
    found = {metric: values.mean() for metric, _, _, values in columns_of(honest)}
    assert (found["selectivity"], found["map_selectivity"]) == (1, 1)
    assert (found["reason_selectivity"], found["reason_road"]) == (1, found["road"])
    assert found["road"] > 0.1


def test_a_map_upside_down_is_not(answers: dict[str, pd.DataFrame]) -> None:
    """The same verdicts and the same answers about the mask; the map alone is different."""
    honest, other = answers["honest"], answers["upside down"]
    for question in ("removed", "moved", "kept"):
        assert honest[f"flip.{question}"].equals(other[f"flip.{question}"])
    assert other["flip.marked"].tolist() == [0.0] * 4
    assert other["flip.unmarked"].tolist() == [1.0] * 4
    assert other["road"].mean() == pytest.approx(-honest["road"].mean(), abs=0.05)
    assert honest["road"].notna().sum() == 3  # as many as were drawn


def test_where_nothing_is_flagged_nothing_is_said() -> None:
    model = Dark()
    model.threshold = 2.0
    table = ask_about_maps({"m": model}, Square(), road=4)["m"]
    columns = [f"flip.{q}" for q in (*QUESTIONS, *REASONS)]
    assert table[[*columns, "road", "reason_road"]].isna().all().all()
    assert marked_area_rows(table, "d", CLASSIFIER, resamples=20) == []


def test_a_defect_of_most_of_the_part_has_no_room() -> None:
    class Large(Square):
        def __getitem__(self, index: int) -> Sample:
            sample = super().__getitem__(index)
            mask = sample.mask.clone()
            if index == 0:
                mask[0, :24] = 1
            return sample._replace(mask=mask, image=0.6 - 0.6 * mask.expand(3, -1, -1))

    table = ask_about_maps({"m": Dark()}, Large())["m"]
    assert table.loc[0, ["flip.marked", "flip.unmarked", "flip.moved"]].isna().all()
    assert table.loc[1:, ["flip.marked", "flip.unmarked", "flip.moved"]].notna().all().all()
    assert table["flip.removed"].notna().all()


def test_only_defective_parts_with_a_mask_are_asked_about() -> None:
    class Sound(Square):
        def __init__(self) -> None:
            super().__init__()
            self.labels[:] = False

    with pytest.raises(ValueError, match="found none"):
        ask_about_maps({"m": Dark()}, Sound())


def test_a_real_system_is_left_as_it_was() -> None:
    data: Data = datasets.load("synthetic", image_size=32, train=4, val=4, test=6)
    model = UNet("test_efficientnet", decoder=(8, 8, 8, 8, 8)).train()
    model.threshold = 0.0
    table = ask_about_maps({"m": model}, data.test, road=1)["m"]
    assert model.training
    assert len(table) == sum(data.test.labels & data.test.has_mask)


def test_the_reason_of_a_network_with_an_evidence_map_is_that_map() -> None:
    """Not its localization, which may be taught another place."""
    model = GAINMTL("test_efficientnet", "S4", width=16).eval()
    model.threshold = 0.0
    with torch.no_grad():
        out = model(model.preprocess(Square()[0].image[None]))
    counts = torch.tensor([40])
    regions = [marked_regions(m, counts, (32, 32))[0] for m in (out.cam, out.defect_map)]
    assert not torch.equal(*regions)
    table = ask_about_maps({"m": model}, Square(), road=2)["m"]
    assert table[["flip.reason_marked", "flip.marked"]].notna().all().all()
    assert (table["reason_road"] != table["road"]).any()


def given(**flips: list[float]) -> pd.DataFrame:
    columns: dict[str, Any] = {
        "name": ["a", "b", "c", "d"], "group": ["1", "1", "2", "3"], "road": [0.1, NAN, 0.3, NAN],
        "reason_road": [NAN] * 4,
    }  # fmt: skip
    asked = (*QUESTIONS, *REASONS)
    return pd.DataFrame(columns | {f"flip.{q}": flips.get(q, [0.0] * 4) for q in asked})


def test_rows_and_differences_by_hand() -> None:
    a = given(marked=[1, 1, 1, NAN], unmarked=[0, 1, 0, NAN])
    b = given(marked=[1, 1, NAN, 1], reason_marked=[1, 1, 1, 0])
    rows = marked_area_rows(a, "d", INTEGRATED, resamples=50)
    rows += marked_area_differences(a, b, "d", INTEGRATED, CLASSIFIER, resamples=50)
    table = pd.DataFrame(check_rows(rows))
    own = find(table, INTEGRATED, "map_selectivity", "defect_map", level="image")
    assert (own.value, own.n) == (pytest.approx(2 / 3), 3)
    other = {"level": "image", **CLASSIFIER.as_other}
    change = find(table, INTEGRATED, "map_selectivity_difference", "defect_map", **other)
    assert (change.value, change.n) == (-0.5, 2)  # (1, 0) minus (1, 1): parts a and b
    assert find(table, INTEGRATED, "road", "defect_map").value == pytest.approx(0.2)
    reason = find(table, INTEGRATED, "reason_selectivity_difference", **other)
    assert (reason.value, reason.n) == (-0.75, 4)
    with pytest.raises(ValueError, match="not asked about the same parts"):
        marked_area_differences(a, b[:2], "d", INTEGRATED, CLASSIFIER)
