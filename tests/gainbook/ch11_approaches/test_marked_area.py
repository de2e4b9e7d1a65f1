"""Interventions of equal area on a system whose map and verdict are computed by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from gainbook.chapters.ch11_approaches.approaches import CLASSIFIER, INTEGRATED
from gainbook.chapters.ch11_approaches.marked_area import (
    INTERVENTION_WORDS,
    MEASURES,
    REASONS,
    intervention_series,
    marked_regions,
    remove_marked,
    score_marked_areas,
    with_selectivities,
)
from gainbook.lab.measures import measure_rows, paired_rows
from gainbook.lab.results_file import check_rows
from gainbook.lab.tables import find
from torch import Tensor

from gainmtl import datasets
from gainmtl.backbone import Backbone
from gainmtl.baselines.readout import SEGMENTATION, LocalizationModel
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


class Dark(LocalizationModel):
    """Defective where dark; its map marks the dark pixels, or all others."""

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
def tables() -> dict[str, pd.DataFrame]:
    models = {"honest": Dark(), "inverted": Dark(honest=False)}
    return score_marked_areas(models, Square(), road=3)


def test_regions_have_the_wanted_area() -> None:
    maps = torch.arange(16.0).view(1, 1, 4, 4).repeat(2, 1, 1, 1)
    most, least = marked_regions(maps, torch.tensor([3, 5]))
    assert most.flatten(1).sum(1).tolist() == least.flatten(1).sum(1).tolist() == [3, 5]
    assert most[0].flatten().nonzero()[:, 0].tolist() == [13, 14, 15]
    assert least[1].flatten().nonzero()[:, 0].tolist() == [0, 1, 2, 3, 4]
    flat = marked_regions(torch.zeros(1, 1, 8, 8), torch.tensor([8]))[0]
    assert flat.sum() == 8
    assert flat[0, 0, 0].sum() < 8  # not in reading order


def test_the_verdict_depends_on_what_an_honest_map_marks(tables: dict[str, pd.DataFrame]) -> None:
    honest = tables["honest"]
    assert honest["is_flagged"].all()
    expected = {"removed": 1.0, "marked": 1.0, "moved": 0.0, "unmarked": 0.0, "kept": 0.0}
    for name in INTERVENTION_WORDS:
        assert honest[f"flip.{name}"].tolist() == [expected[name]] * 4, name
    means = {m.column: honest[m.column].mean() for m in MEASURES}
    assert (means["selectivity"], means["map_selectivity"]) == (1, 1)
    assert (means["reason_selectivity"], means["reason_road"]) == (1, means["road"])
    assert means["road"] > 0.1


def test_the_verdict_does_not_depend_on_what_an_inverted_map_marks(
    tables: dict[str, pd.DataFrame],
) -> None:
    """The same verdicts and the same flips by the mask; the map alone is different."""
    honest, other = tables["honest"], tables["inverted"]
    for name in ("removed", "moved", "kept"):
        assert honest[f"flip.{name}"].equals(other[f"flip.{name}"])
    assert other["flip.marked"].tolist() == [0.0] * 4
    assert other["flip.unmarked"].tolist() == [1.0] * 4
    assert other["road"].mean() == pytest.approx(-honest["road"].mean(), abs=0.05)
    assert honest["road"].notna().sum() == 3  # as many as were drawn


def test_where_nothing_is_flagged_all_is_undefined() -> None:
    model = Dark()
    model.threshold = 2.0
    table = score_marked_areas({"m": model}, Square(), road=4)["m"]
    columns = [f"flip.{q}" for q in (*INTERVENTION_WORDS, *REASONS)]
    assert table[[*columns, "road", "reason_road"]].isna().all().all()
    assert measure_rows(table, MEASURES, "d", CLASSIFIER, resamples=20) == []


def test_a_defect_of_most_of_the_part_has_no_room() -> None:
    class Large(Square):
        def __getitem__(self, index: int) -> Sample:
            sample = super().__getitem__(index)
            mask = sample.mask.clone()
            if index == 0:
                mask[0, :24] = 1
            return sample._replace(mask=mask, image=0.6 - 0.6 * mask.expand(3, -1, -1))

    table = score_marked_areas({"m": Dark()}, Large())["m"]
    assert table.loc[0, ["flip.marked", "flip.unmarked", "flip.moved"]].isna().all()
    assert table.loc[1:, ["flip.marked", "flip.unmarked", "flip.moved"]].notna().all().all()
    assert table["flip.removed"].notna().all()


def test_defective_parts_with_a_mask_are_required() -> None:
    class Sound(Square):
        def __init__(self) -> None:
            super().__init__()
            self.labels[:] = False

    with pytest.raises(ValueError, match="found none"):
        score_marked_areas({"m": Dark()}, Sound())


def test_a_real_system_is_left_as_it_was() -> None:
    data: Data = datasets.load("synthetic", image_size=32, train=4, val=4, test=6)
    model = UNet("test_efficientnet", decoder=(8, 8, 8, 8, 8)).train()
    model.threshold = 0.0
    table = score_marked_areas({"m": model}, data.test, road=1)["m"]
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
    table = score_marked_areas({"m": model}, Square(), road=2)["m"]
    assert table[["flip.reason_marked", "flip.marked"]].notna().all().all()
    assert (table["reason_road"] != table["road"]).any()


def test_what_the_map_marks_is_removed_share_by_share() -> None:
    image = Square()[0].image[None]
    surface = torch.full_like(image, 0.6)
    left, region, before = remove_marked(Dark(), image, 0.0, surface)
    assert torch.equal(left, image[0])
    assert region.sum() == 0
    left, region, after = remove_marked(Dark(), image, 36 / 32**2, surface)  # the square
    assert torch.equal(region, Square()[0].mask)
    assert before > 0.5 > after
    assert left.min() > 0.5


def by_hand(**flips: list[float]) -> pd.DataFrame:
    columns: dict[str, Any] = {
        "name": ["a", "b", "c", "d"], "group": ["1", "1", "2", "3"], "road": [0.1, NAN, 0.3, NAN],
        "reason_road": [NAN] * 4,
    }  # fmt: skip
    names = (*INTERVENTION_WORDS, *REASONS)
    table = pd.DataFrame(columns | {f"flip.{name}": flips.get(name, [0.0] * 4) for name in names})
    return with_selectivities(table)


def test_rows_and_differences_by_hand() -> None:
    a = by_hand(marked=[1, 1, 1, NAN], unmarked=[0, 1, 0, NAN])
    b = by_hand(marked=[1, 1, NAN, 1], reason_marked=[1, 1, 1, 0])
    rows = measure_rows(a, MEASURES, "d", INTEGRATED, resamples=50)
    rows += paired_rows(a, b, MEASURES, "d", INTEGRATED, CLASSIFIER, resamples=50)
    table = pd.DataFrame(check_rows(rows))
    own = find(table, INTEGRATED, "map_selectivity", "defect_map", level="image")
    assert (own.value, own.n) == (pytest.approx(2 / 3), 3)
    other = {"level": "image", **CLASSIFIER.as_other}
    change = find(table, INTEGRATED, "map_selectivity_difference", "defect_map", **other)
    assert (change.value, change.n) == (-0.5, 2)  # (1, 0) minus (1, 1): parts a and b
    assert find(table, INTEGRATED, "road", "defect_map").value == pytest.approx(0.2)
    reason = find(table, INTEGRATED, "reason_selectivity_difference", **other)
    assert (reason.value, reason.n) == (-0.75, 4)
    with pytest.raises(ValueError, match="two tables about the same images"):
        paired_rows(a, b[:2], MEASURES, "d", INTEGRATED, CLASSIFIER)
    series = intervention_series(table, (INTEGRATED, CLASSIFIER))
    assert series["category"].tolist() == list(INTERVENTION_WORDS.values())
    assert set(series["series"]) == {INTEGRATED.label}
