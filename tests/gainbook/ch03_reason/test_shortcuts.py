"""The mark's experiment: pairs of pictures, figures by hand, and a study that goes on."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from gainbook.chapters.ch03_reason import shortcut_study
from gainbook.chapters.ch03_reason.marked_parts import (
    Answers,
    MarkedParts,
    ask_both,
    marked_parts,
    measure,
)
from gainbook.chapters.ch03_reason.shortcut_findings import EXCESS, judge_guidance, study_rows
from gainbook.chapters.ch03_reason.shortcut_study import PLAIN, STRONG, Settings, Task, run_task
from gainbook.lab import results_file as runs
from gainbook.lab import study_runs

from gainmtl import GAINMTL, datasets

SMALL = Settings(image_size=32, train=16, val=8, test=12, weights=None, epochs=1, batch_size=8)


def drawn_tests(**dials: Any) -> dict[str, Any]:
    return {
        habit: datasets.load(
            "synthetic", image_size=64, train=4, val=4, test=20, shortcut=0.9, shortcut_test=share,
            **dials,
        ).test
        for habit, share in (("as in training", 0.9), ("reversed", 0.0))
    }  # fmt: skip


def test_pictures_of_a_part_differ_in_the_mark_alone() -> None:
    drawn = drawn_tests()
    parts = marked_parts(drawn, margin=0)
    changed = (parts.with_mark != parts.without).any(1)
    bad = parts.is_defective
    marks = torch.stack([torch.from_numpy(drawn["reversed"].render(int(i), marked=True).mark_mask)
                         for i in np.flatnonzero(bad)]).bool()[:, 0]  # fmt: skip
    grown = torch.nn.functional.max_pool2d(marks[:, None].float(), 3, 1, 1)[:, 0] > 0
    assert not (changed[torch.from_numpy(bad)] & ~grown).any()
    assert changed.flatten(1).any(1).all()
    # what a test set prints is one of the two pictures
    for habit, test in drawn.items():
        for i in range(len(test)):
            pictures = parts.with_mark if parts.marked[habit][i] else parts.without
            assert torch.equal(test[i].image, pictures[i])
    assert (parts.marked["reversed"] == ~bad).all()
    assert torch.equal(parts.regions["defect"], parts.masks)
    assert not (parts.regions["defect"] * parts.regions["mark"]).any()


def test_sets_of_other_parts_are_refused() -> None:
    with pytest.raises(ValueError, match="not those of the others"):
        marked_parts({"a": drawn_tests()["reversed"], "b": drawn_tests(seed=1)["reversed"]})


def by_hand() -> tuple[Answers, MarkedParts]:
    """Two defective and two normal parts of 4 x 4 pixels; a reader of the mark."""
    bad = np.array([True, True, False, False])
    masks = torch.zeros(2, 1, 4, 4)
    masks[:, :, 0, 0] = 1
    mark = torch.zeros(2, 1, 4, 4)
    mark[:, :, 3, 3] = 1
    cam = torch.zeros(2, 1, 4, 4)
    cam[:, :, 0, 0] = torch.tensor([1.0, 3.0])[:, None]
    cam[:, :, 3, 3] = torch.tensor([3.0, 1.0])[:, None]
    pictures = torch.zeros(4, 3, 4, 4)
    marked = {"as in training": bad, "reversed": ~bad}
    answers = Answers(
        np.array([0.6, 0.2, 0.1, 0.7]), np.array([0.9, 0.8, 0.6, 0.8]), cam, torch.sigmoid(cam)
    )
    parts = MarkedParts(pictures, pictures, bad, marked, masks, {"defect": masks, "mark": mark})
    return answers, parts


def test_figures_by_hand() -> None:
    found = {
        (f["metric"], f["map"], *f["condition"].values()): f["value"]
        for f in measure(*by_hand(), threshold=0.5)
    }
    # as in training 0.9 0.8 | 0.1 0.7: one false alarm
    assert found["accuracy", None, "as in training"] == 0.75
    assert found["auroc", None, "as in training"] == 1
    # reversed 0.6 0.2 | 0.6 0.8: one find, two false alarms
    assert found["accuracy", None, "reversed"] == 0.25
    assert found["auroc", None, "reversed"] == pytest.approx(0.5 / 4)
    assert found["accuracy", None, "absent"] == 0.5
    # the second and the third part change sides
    assert found["verdict_change", None] == 0.5
    assert found["flip_rate", None, "printed"] == 1  # one normal part was passed
    assert found["flip_rate", None, "removed"] == 0.5  # one of two finds
    assert found["mark_effect", None] == pytest.approx((0.3 + 0.6 + 0.5 + 0.1) / 4)
    assert found["positive_energy", "cam", "defect"] == pytest.approx((1 / 4 + 3 / 4) / 2)
    assert found["positive_energy", "cam", "mark"] == pytest.approx((3 / 4 + 1 / 4) / 2)
    assert found["point_game", "cam", "defect"] == found["point_game", "cam", "mark"] == 0.5
    assert found["region_area", None, "mark"] == 1 / 16


def test_nothing_passed_or_found_is_undefined() -> None:
    answers, parts = by_hand()
    figures = measure(answers, parts, threshold=0.0)
    rates = {f["condition"]["mark"]: f["value"] for f in figures if f["metric"] == "flip_rate"}
    assert math.isnan(rates["printed"])
    assert rates["removed"] == 0


def test_a_model_is_asked_about_both_and_left_as_it_was() -> None:
    parts = marked_parts(drawn_tests())
    model = GAINMTL("test_efficientnet", "S2", output_stride=4).train()
    answers = ask_both(model, parts, batch_size=7)
    assert model.training
    model.eval()
    with torch.no_grad():
        out = model(model.preprocess(parts.with_mark))
    np.testing.assert_allclose(answers.with_mark, out.defect_probability.numpy(), atol=1e-5)
    torch.testing.assert_close(answers.cam, out.cam[torch.from_numpy(parts.is_defective)])
    other = parts._replace(masks=1 - parts.masks, regions={})
    assert torch.equal(ask_both(model, other, batch_size=7).cam, answers.cam)


def content(value: float | None) -> dict[str, Any]:
    figure = {"metric": "accuracy", "map": None, "condition": {"mark": "reversed"}}
    return {"figures": [{**figure, "value": value, "n": 12}]}


def test_rows_hold_seeds_means_and_paired_differences() -> None:
    strong = next(s for s in shortcut_study.SYSTEMS if s.strategy is STRONG)
    wanted = [Task(s, 0.9, k) for s in (PLAIN, strong) for k in (0, 1, 2)]
    values = [0.2, 0.4, 0.9, 0.3, 0.6, None]
    rows = runs.check_rows(study_rows([content(v) for v in values], wanted))
    pooled = [r for r in rows if r["seed"] is None]
    assert len(rows) - len(pooled) == 6
    plain, own, difference = pooled
    assert EXCESS not in {r["metric"] for r in rows}
    assert plain["value"] == pytest.approx(0.5)
    assert (plain["ci_low"], plain["n"]) == (0, 3)  # kept in [0, 1]
    assert own["value"] == pytest.approx(0.45)
    # seeds 0 and 1 have both: 0.1 and 0.2
    assert difference["metric"] == "accuracy_difference"
    assert difference["value"] == pytest.approx(0.15)
    assert difference["ci_low"] == pytest.approx(0.15 - 12.706 * 0.05, abs=1e-3)
    assert difference["condition"] == {
        "output_stride": 4, "agreement": 0.9, "mark": "reversed", "against": "S1",
        "against_output_stride": 4,
    }  # fmt: skip


def test_seeds_come_first_so_that_a_study_cut_short_has_every_system() -> None:
    wanted = shortcut_study.tasks()
    assert len(wanted) == len(set(wanted)) == 5 * 4 * 5
    assert {task.system for task in wanted[:5]} == set(shortcut_study.SYSTEMS)
    assert {task.seed for task in wanted[:20]} == {0}


def test_a_study_goes_on_where_it_was(tmp_path: Path) -> None:
    wanted = shortcut_study.tasks([PLAIN], [0.9], [0])
    left: list[int] = []

    def run(settings: Settings) -> list[dict[str, Any]]:
        return study_runs.run(
            tmp_path, settings, wanted, run_task, done=lambda task, n: left.append(n)
        )

    first, again = run(SMALL), run(SMALL)
    assert left == [0]
    assert first == again
    rows = runs.check_rows(study_rows(first, wanted))
    assert {"accuracy", "flip_rate", "positive_energy"} <= {r["metric"] for r in rows}
    assert len(first[0]["maps"]) == shortcut_study.SHOWN_PARTS
    changed = Settings(**{**vars(SMALL), "epochs": 2})
    with pytest.raises(ValueError, match="other settings \\(epochs\\)"):
        run(changed)


@pytest.mark.parametrize(
    ("change", "auroc", "excess", "expected"),
    [
        (-0.4, 0.3, 0.0, "confirmed"),
        (-0.4, 0.3, 0.2, "refined"),
        (-0.4, 0.0, 0.0, "refuted"),  # timid: nothing hangs on the mark, nothing is found either
        (0.0, 0.3, 0.0, "refuted"),
        (0.4, -0.3, 0.2, "refuted"),
    ],
)
def test_the_claim_is_judged_by_its_criterion(
    change: float, auroc: float, excess: float, expected: str
) -> None:
    strong = next(s for s in shortcut_study.SYSTEMS if s.strategy is STRONG)

    def line(metric: str, value: float, **condition: object) -> dict[str, object]:
        ends = {"ci_low": value - 0.01, "ci_high": value + 0.01}
        about = {**strong.condition, **condition}
        return runs.row("synthetic", strong.name, metric, value, condition=about, **ends)

    rows = [line(EXCESS, excess, agreement=1.0)]
    for agreement in (0.9, 1.0):
        about = {"agreement": agreement, **PLAIN.as_other}
        rows.append(line("verdict_change_difference", change, **about))
        rows.append(line("auroc_difference", auroc, mark="unrelated", **about))
    assert judge_guidance(pd.DataFrame(rows), strong).verdict == expected


def test_the_excess_is_over_the_same_seeds_control() -> None:
    def changed(value: float) -> dict[str, Any]:
        return {"figures": [{"metric": "verdict_change", "map": None, "condition": {},
                             "value": value, "n": 4}]}  # fmt: skip

    wanted = [Task(PLAIN, a, k) for a in (0.5, 1.0) for k in (0, 1)]
    rows = study_rows([changed(v) for v in (0.1, 0.3, 0.4, 0.8)], wanted)
    excess = [r for r in rows if r["metric"] == EXCESS]
    assert [r["value"] for r in excess] == pytest.approx([0.4])  # 0.3 and 0.5
    assert excess[0]["condition"]["agreement"] == 1.0
