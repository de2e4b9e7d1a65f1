"""Erasing the soft mask: masks counted by hand, and the model's own loss as a second witness."""

from __future__ import annotations

import math

import pandas as pd
import pytest
import torch
from gainbook.chapters.ch06_guided.mining import (
    MEASURES,
    elsewhere,
    score_erased,
    soft_mask_scores,
)
from gainbook.chapters.ch06_guided.study import judge_mining
from gainbook.lab import catalogue
from gainbook.lab.judge import CONFIRMED, REFINED, REFUTED, UNDECIDED
from gainbook.lab.measures import measure_rows, paired_rows
from gainbook.lab.results_file import check_rows
from gainbook.lab.tables import Value, find

from gainmtl import GAINMTL, datasets
from gainmtl.cam import soft_mask
from gainmtl.types import Sample, collate

TEST = datasets.load("synthetic", image_size=32, train=4, val=4, test=8).test
BAD = [i for i in range(8) if TEST[i].is_defective]


def a_model() -> GAINMTL:
    torch.manual_seed(0)
    return GAINMTL("test_efficientnet", catalogue.MINING, output_stride=4).eval()


def test_scores_by_hand() -> None:
    soft = torch.tensor([[[[1.0, 0.5], [0.0, 0.5]]]]).repeat(2, 1, 1, 1)
    masks = torch.tensor([[[[1.0, 1.0], [0.0, 0.0]]], [[[0.0, 0.0], [0.0, 0.0]]]])
    found = soft_mask_scores(soft, masks)
    assert found.coverage[0] == found.inside[0] == 0.75  # 1.5 of 2 pixels, 1.5 of 2 of the mask
    assert found.area.tolist() == [0.5, 0.5]
    assert math.isnan(found.coverage[1])
    assert math.isnan(found.inside[1])


def test_a_mask_over_everything_covers_everything() -> None:
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :2, :4] = 1
    found = soft_mask_scores(torch.ones(1, 1, 2, 2), mask)
    assert (found.coverage.item(), found.inside.item(), found.area.item()) == (1, 1 / 8, 1)


def test_elsewhere_is_half_the_image_away_and_as_much() -> None:
    soft = torch.zeros(1, 1, 4, 4)
    soft[..., 0, 1] = 1
    moved = elsewhere(soft)
    assert moved[..., 2, 3] == 1
    assert moved.sum() == 1


def test_what_is_left_is_the_models_mining_loss() -> None:
    model = a_model()
    found = score_erased(model, TEST)
    normal = [TEST[i] for i in range(8) if i not in BAD][:3]
    for place, index in enumerate(BAD):
        # a quarter of a batch of four is its one defective image
        batch = collate([TEST[index], *normal])
        with torch.no_grad():
            loss = model.training_step(batch)["mining"].item()
        assert found["score_left"][place] == pytest.approx(loss, abs=1e-5)


def test_measures_of_one_image_step_by_step() -> None:
    model, sample = a_model(), TEST[BAD[0]]
    found = score_erased(model, TEST, batch_size=1).iloc[0]
    images = model.preprocess(sample.image[None])
    with torch.no_grad():
        out = model(images)
        mean = images.mean((2, 3), keepdim=True)
        removed = images * (1 - sample.mask) + mean * sample.mask
        left = model(removed).defect_probability.item()
    area = torch.nn.functional.interpolate(soft_mask(out.cam), (32, 32), mode="bilinear").mean()
    assert found["name"] == sample.name
    assert found["score_before"] == pytest.approx(out.defect_probability.item(), abs=1e-6)
    assert found["score_left_truth"] == pytest.approx(left, abs=1e-5)
    assert found["soft_mask_area"] == pytest.approx(area.item(), abs=1e-5)
    assert found["is_flagged"] == (found["score_before"] >= model.threshold)


class Swapped(torch.utils.data.Dataset[Sample]):
    """The same images with everything marked."""

    labels, has_mask = TEST.labels, TEST.has_mask  # type: ignore[attr-defined]

    def __getitem__(self, index: int) -> Sample:
        return TEST[index]._replace(mask=torch.ones(1, 32, 32))


def test_a_mask_changes_the_yardstick_and_no_answer() -> None:
    model = a_model().train()
    true, other = score_erased(model, TEST), score_erased(model, Swapped())
    same = ["score_before", "score_left", "score_left_elsewhere", "soft_mask_area"]
    pd.testing.assert_frame_equal(true[same], other[same])
    assert (other["soft_mask_inside"] == 1).all()
    assert model.training


def test_nothing_to_ask_about() -> None:
    class Empty(Swapped):
        has_mask = TEST.has_mask & ~TEST.labels  # type: ignore[attr-defined]

    with pytest.raises(ValueError, match="expected defective images with a mask"):
        score_erased(a_model(), Empty())


def table(coverage: list[float]) -> pd.DataFrame:
    about = {"name": ["a", "b", "c"], "group": ["1", "1", "2"], "defect_type": "crack"}
    return pd.DataFrame(
        {
            **about,
            **dict.fromkeys([m.column for m in MEASURES], 0.5),
            "soft_mask_coverage": coverage,
        }
    )


def test_rows_and_differences() -> None:
    mine, plain = catalogue.MINING_ALONE, catalogue.PLAIN
    first, second = table([0.6, 0.8, 1.0]), table([0.5, 0.7, 0.9])
    rows = measure_rows(first, MEASURES, "d", mine, resamples=50)
    rows += paired_rows(first, second, MEASURES, "d", mine, plain, resamples=50)
    found = pd.DataFrame(check_rows(rows))
    value = find(found, mine, "soft_mask_coverage", "cam")
    assert (value.value, value.n) == (pytest.approx(0.8), 3)
    assert value.low == pytest.approx(0.7)  # the first group alone, (0.6 + 0.8) / 2
    more = find(found, mine, "soft_mask_coverage_difference", "cam", **plain.as_other)
    assert more.value == more.low == pytest.approx(0.1)


UP, LEVEL, DOWN = Value(0.2, 0.1, 0.3, 9), Value(0.0, -0.01, 0.01, 9), Value(-0.1, -0.2, -0.05, 9)
OPEN = Value(0.1, -0.1, 0.3, 9)


@pytest.mark.parametrize(
    ("energy", "coverage", "auroc", "word"),
    [
        (UP, UP, LEVEL, CONFIRMED),
        (UP, UP, OPEN, UNDECIDED),
        (OPEN, OPEN, LEVEL, UNDECIDED),
        (UP, UP, DOWN, REFINED),
        (LEVEL, UP, LEVEL, REFINED),
        (DOWN, LEVEL, UP, REFUTED),
    ],
)
def test_mining_verdicts(energy: Value, coverage: Value, auroc: Value, word: str) -> None:
    assert judge_mining(energy, coverage, auroc).verdict == word
