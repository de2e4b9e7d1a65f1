"""The number of masks: means over draws computed by hand, and rows of the whole chapter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from gainbook.chapters.ch06_guided import study
from gainbook.chapters.ch06_guided.label_budget import (
    draw_differences,
    draw_rows,
    marked,
    over_draws,
    places,
)
from gainbook.lab import catalogue
from gainbook.lab.parameters import Parameters
from gainbook.lab.results_file import check_rows
from gainbook.lab.run_system import is_finished
from gainbook.lab.study import results
from gainbook.lab.tables import find, present

from gainmtl import datasets, metrics
from gainmtl.evaluation.scoring import Scores

MEAN = over_draws(0.2, 2)


def scores(probability: list[float], energy: float, bins: list[int], prefix: str = "") -> Scores:
    """Two defective images of two groups and two normal ones of two more, 4 bins of pixels."""
    columns: dict[str, Any] = {
        "name": [f"{prefix}{i}" for i in range(4)],
        "group": list("abcd"),
        "is_defective": [True, True, False, False],
        "defect_probability": probability,
    }
    for name in ("cam", "defect_map"):
        for measure in ("iou", "point_game", "positive_energy"):
            columns[f"{name}.{measure}"] = [energy, energy / 2, np.nan, np.nan]
        columns[f"{name}.false_activation"] = [np.nan, np.nan, 0.0, energy]
    positives = np.zeros((4, 4), np.int32)
    positives[0, bins], positives[1, bins] = 1, 1
    histogram = metrics.PixelHistogram(positives, np.ones((4, 4), np.int32), 0.0, 1.0)
    return Scores(pd.DataFrame(columns), {"cam": histogram, "defect_map": histogram})


RIGHT = scores([0.9, 0.8, 0.2, 0.1], 0.8, [3])
WRONG = scores([0.3, 0.1, 0.4, 0.2], 0.4, [0])  # one pair of four in order


def test_means_over_draws() -> None:
    found = pd.DataFrame(check_rows(draw_rows([RIGHT, WRONG], "d", MEAN, resamples=50)))
    assert find(found, MEAN, "auroc").value == (1 + 0.25) / 2
    energy = find(found, MEAN, "positive_energy", "cam")
    # (0.8 + 0.4) / 2 of the first image, half of it of the second
    assert (energy.value, energy.n) == (pytest.approx((0.6 + 0.3) / 2), 2)
    assert find(found, MEAN, "false_activation", "defect_map").value == pytest.approx(0.3)
    alone = [float(s.histograms["cam"].average_precision()) for s in (RIGHT, WRONG)]
    assert find(found, MEAN, "pixel_ap", "cam").value == pytest.approx(np.mean(alone))
    assert alone[0] > alone[1]


def test_a_mean_of_rankings_is_not_the_ranking_of_the_mean() -> None:
    ensemble = RIGHT._replace(
        images=RIGHT.images.assign(
            defect_probability=(
                RIGHT.images["defect_probability"] + WRONG.images["defect_probability"]
            )
            / 2
        )
    )
    found = pd.DataFrame(draw_rows([ensemble], "d", MEAN, resamples=20))
    assert find(found, MEAN, "auroc").value == 1


def test_one_draw_is_the_measure_itself() -> None:
    system = catalogue.with_share(0.2, 0)
    found = pd.DataFrame(draw_rows([WRONG], "d", system, resamples=20))
    assert find(found, system, "auroc").value == 0.25
    assert find(found, system, "iou", "cam").value == pytest.approx(0.3)


def test_draws_minus_another_system() -> None:
    other = catalogue.BOTH
    rows = draw_differences([RIGHT, WRONG], RIGHT, "d", MEAN, other, resamples=50)
    found = pd.DataFrame(check_rows(rows))
    assert find(found, MEAN, "auroc_difference", **other.as_other).value == 0.625 - 1
    less = find(found, MEAN, "positive_energy_difference", "cam", **other.as_other)
    assert less.value == pytest.approx(0.45 - 0.6)
    assert less.low <= less.value <= less.high


def test_runs_on_other_images_are_refused() -> None:
    with pytest.raises(ValueError, match="tested on the same images, in one order"):
        draw_rows([RIGHT, scores([0.1] * 4, 0.5, [0], "other ")], "d", MEAN)


def test_marked_counts_groups_and_images() -> None:
    data = datasets.load("synthetic", image_size=32, train=40, val=4, test=4, views=2)
    whole = marked(data)
    assert whole.images == int(data.train.labels.sum())  # type: ignore[attr-defined]
    assert whole.groups == whole.images / 2  # two photographs of every part
    few = marked(datasets.limit_masks(data, 0.2))
    assert few == (round(0.2 * whole.groups), 2 * round(0.2 * whole.groups))
    assert marked(datasets.limit_masks(data, 0.0)) == (0, 0)


def test_the_mean_over_draws_has_rows_of_its_own() -> None:
    draws = [str(catalogue.with_share(0.2, draw).condition) for draw in range(2)]
    assert str(MEAN.condition) not in draws
    assert MEAN.name == catalogue.BOTH.name


def parameters(folder: Path, parts: Path) -> Parameters:
    given = {
        "notebook": "none", "dataset": "folder", "data_root": str(parts),
        "image_size": 32, "backbone": "test_efficientnet", "weights": None, "epochs": 1,
        "batch_size": 16, "learning_rate": 1e-3, "folds": 2, "seeds": (0,), "accelerator": "cpu",
        "devices": 1, "precision": "32-true", "output_dir": str(folder / "out"),
    }  # fmt: skip
    return Parameters(**given)


def test_only_finished_systems_are_chosen_without_training(tmp_path: Path) -> None:
    p = parameters(tmp_path, tmp_path)
    assert study.chosen_systems(p, 1, only_finished=True) == []
    assert not is_finished(p, catalogue.PLAIN)
    assert len(study.chosen_systems(p, 2, only_finished=False)) == 4 + 2 * 2 + 2
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_chapters_rows(tmp_path: Path, folder_of_parts: Callable[[Path], Path]) -> None:
    p = parameters(tmp_path, folder_of_parts(tmp_path))
    systems = study.all_systems(2)
    first = results(study.STUDY, p, systems=systems, resamples=20)
    assert first.rows is not None
    assert check_rows(first.rows.to_dict("records"))
    mean = over_draws(0.2, 2)
    assert present(first.rows, [*systems, mean]) == [*systems, mean]
    find(first.rows, mean, "auroc_difference", **catalogue.BOTH.as_other)
    find(first.rows, catalogue.MINING_ALONE, "score_left", "cam")
    box = catalogue.with_quality("box")
    find(first.rows, box, "iou_difference", "defect_map", **catalogue.BOTH.as_other)
    assert len(places(first.rows)) == 4  # mining alone, two shares, all masks
    finished = study.chosen_systems(p, 2, only_finished=True)
    again = results(study.STUDY, p, systems=finished, resamples=20)
    pd.testing.assert_frame_equal(first.rows, again.rows)
