"""The mark's experiment: pairs of pictures, figures by hand, and the study over seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from gainbook.chapters.ch03_reason import shortcut
from gainbook.chapters.ch03_reason.shortcut import EXCESS, PLAIN, guided
from gainbook.chapters.ch03_reason.study import SHORTCUT, judge_guidance
from gainbook.lab import results_file as runs
from gainbook.lab.marked_parts import (
    MEASURES,
    MarkedParts,
    Predictions,
    figures,
    marked_parts,
    part_table,
    predict_both,
)
from gainbook.lab.measures import measure_rows, paired_rows
from gainbook.lab.seed_study import SETTINGS, run_cell, seed_rows

from gainmtl import GAINMTL, datasets
from gainmtl.files import read_json
from gainmtl.losses import LossWeights
from gainmtl.strategies import Strategy

SMALL = SETTINGS | {
    "image_size": 32, "train": 16, "val": 8, "test": 12, "weights": None, "epochs": 1,
    "batch_size": 8,
}  # fmt: skip
STRONG = next(s for s in shortcut.SYSTEMS if s == guided(10.0))


def drawn_tests(**settings: Any) -> dict[str, Any]:
    return {
        name: datasets.load(
            "synthetic", image_size=64, train=4, val=4, test=20, shortcut=0.9, shortcut_test=share,
            **settings,
        ).test
        for name, share in (("as in training", 0.9), ("reversed", 0.0))
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
    # the pictures of a test set are among the two
    for name, test in drawn.items():
        for i in range(len(test)):
            pictures = parts.with_mark if parts.marked[name][i] else parts.without
            assert torch.equal(test[i].image, pictures[i])
    assert (parts.marked["reversed"] == ~bad).all()
    assert torch.equal(parts.regions["defect"], parts.masks)
    assert not (parts.regions["defect"] * parts.regions["mark"]).any()


def test_sets_of_other_parts_are_refused() -> None:
    with pytest.raises(ValueError, match="expected the same parts .* found other parts in 'b'"):
        marked_parts({"a": drawn_tests()["reversed"], "b": drawn_tests(seed=1)["reversed"]})


def by_hand() -> tuple[Predictions, MarkedParts]:
    """Two defective and two normal parts of 4 x 4 pixels; scores that rise with the mark."""
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
    predictions = Predictions(
        np.array([0.6, 0.2, 0.1, 0.7]), np.array([0.9, 0.8, 0.6, 0.8]), cam, torch.sigmoid(cam)
    )
    parts = MarkedParts(pictures, pictures, bad, marked, masks, {"defect": masks, "mark": mark})
    return predictions, parts


def test_figures_by_hand() -> None:
    value = {
        (f["metric"], f["map"], *f["condition"].values()): f["value"]
        for f in figures(part_table(*by_hand(), threshold=0.5))
    }
    # as in training 0.9 0.8 | 0.1 0.7: one false alarm
    assert value["accuracy", None, "as in training"] == 0.75
    assert value["auroc", None, "as in training"] == 1
    # reversed 0.6 0.2 | 0.6 0.8: one found defect, two false alarms
    assert value["accuracy", None, "reversed"] == 0.25
    assert value["auroc", None, "reversed"] == pytest.approx(0.5 / 4)
    assert value["accuracy", None, "absent"] == 0.5
    # the verdicts on the second and the third part change
    assert value["verdict_change", None] == 0.5
    assert value["flip_rate", None, "printed"] == 1  # one normal part was passed
    assert value["flip_rate", None, "removed"] == 0.5  # one of two found defects
    assert value["mark_effect", None] == pytest.approx((0.3 + 0.6 + 0.5 + 0.1) / 4)
    assert value["positive_energy", "cam", "defect"] == pytest.approx((1 / 4 + 3 / 4) / 2)
    assert value["positive_energy", "cam", "mark"] == pytest.approx((3 / 4 + 1 / 4) / 2)
    assert value["point_game", "cam", "defect"] == value["point_game", "cam", "mark"] == 0.5
    assert value["region_area", None, "mark"] == 1 / 16


def test_without_passed_or_found_parts_a_rate_is_undefined() -> None:
    predictions, parts = by_hand()
    rates = {
        f["condition"]["mark"]: (f["value"], f["n"])
        for f in figures(part_table(predictions, parts, threshold=0.0))
        if f["metric"] == "flip_rate"
    }
    assert rates == {"printed": (None, 0), "removed": (0, 2)}


def test_live_rows_have_the_figures_of_the_study_with_intervals() -> None:
    table = part_table(*by_hand(), threshold=0.5)
    rows = runs.check_rows(measure_rows(table, MEASURES, "synthetic", PLAIN, resamples=50))
    value = {(r["metric"], r["map"], str(r["condition"])): r["value"] for r in rows}
    for one in figures(table):
        condition = str({**PLAIN.condition, **one["condition"]})
        assert value[one["metric"], one["map"], condition] == one["value"]
    pair = paired_rows(table, table, MEASURES, "synthetic", STRONG, PLAIN, resamples=50)
    assert {r["value"] for r in pair} == {0.0}


def test_both_pictures_are_predicted_and_the_model_keeps_its_mode() -> None:
    parts = marked_parts(drawn_tests())
    model = GAINMTL("test_efficientnet", "S2", output_stride=4).train()
    predictions = predict_both(model, parts, batch_size=7)
    assert model.training
    model.eval()
    with torch.no_grad():
        out = model(model.preprocess(parts.with_mark))
    np.testing.assert_allclose(predictions.with_mark, out.defect_probability.numpy(), atol=1e-5)
    torch.testing.assert_close(predictions.cam, out.cam[torch.from_numpy(parts.is_defective)])
    other = parts._replace(masks=1 - parts.masks, regions={})
    assert torch.equal(predict_both(model, other, batch_size=7).cam, predictions.cam)


def test_guidance_is_a_weight_of_s2_and_nothing_else() -> None:
    weights = LossWeights(classification=1.0, cam_guidance=10.0)
    assert STRONG.strategy == Strategy("S2-guidance10", weights)
    assert guided(0.3).strategy.weights == shortcut.STRATEGIES["S2"].weights  # type: ignore[union-attr]


def content(metric: str, value: float | None, **condition: Any) -> dict[str, Any]:
    figure = {"metric": metric, "map": None, "condition": condition, "value": value, "n": 12}
    return {"figures": [figure]}


def test_rows_hold_seeds_means_and_differences_from_s1() -> None:
    systems = [PLAIN.tag, STRONG.tag]
    cells = SHORTCUT.cells(system=systems, agreement=[0.9], seed=[0, 1, 2])
    values = {PLAIN.tag: [0.2, 0.4, 0.9], STRONG.tag: [0.3, 0.6, None]}
    contents = [content("accuracy", values[c["system"]][c["seed"]], mark="reversed") for c in cells]
    rows = runs.check_rows(seed_rows(SHORTCUT, cells, contents))
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


def test_an_area_has_no_difference_and_an_effect_may_be_negative() -> None:
    cells = SHORTCUT.cells(system=[PLAIN.tag, STRONG.tag], agreement=[0.9], seed=[0, 1])
    for metric, metrics in (
        ("region_area", {"region_area"}),
        ("mark_effect", {"mark_effect", "mark_effect_difference"}),
    ):
        rows = seed_rows(SHORTCUT, cells, [content(metric, 0.1 * c["seed"]) for c in cells])
        assert {r["metric"] for r in rows} == metrics
        mean = next(r for r in rows if r["seed"] is None)
        assert (mean["ci_low"] < 0) == (metric == "mark_effect")


def test_the_excess_is_over_the_same_seeds_control() -> None:
    cells = SHORTCUT.cells(system=[PLAIN.tag], agreement=[0.5, 1.0], seed=[0, 1])
    shares = {0.5: [0.1, 0.3], 1.0: [0.4, 0.8]}
    contents = [content("verdict_change", shares[c["agreement"]][c["seed"]]) for c in cells]
    rows = seed_rows(SHORTCUT, cells, contents)
    excess = [r for r in rows if r["metric"] == EXCESS]
    assert [r["value"] for r in excess] == pytest.approx([0.4])  # 0.3 and 0.5
    assert excess[0]["condition"]["agreement"] == 1.0


def test_seeds_come_first_so_that_a_study_cut_short_has_every_system() -> None:
    cells = SHORTCUT.cells()
    assert len(cells) == len(set(cells)) == 5 * 4 * 5
    assert {cell["system"] for cell in cells[:5]} == {s.tag for s in shortcut.SYSTEMS}
    assert {cell["seed"] for cell in cells[:20]} == {0}
    assert SHORTCUT.file(cells[0]) == "S1-stride4/agreement0.5/seed0.json"


def test_a_run_is_kept_and_its_maps_are_written(tmp_path: Path) -> None:
    (cell,) = SHORTCUT.cells(system=[PLAIN.tag], agreement=[0.9], seed=[0])
    first, again = (run_cell(SHORTCUT, tmp_path, SMALL, cell) for _ in range(2))
    assert first == again
    rows = runs.check_rows(seed_rows(SHORTCUT, [cell], [first]))
    assert {"accuracy", "flip_rate", "positive_energy"} <= {r["metric"] for r in rows}
    assert len(first["maps"]) == shortcut.SHOWN_PARTS
    SHORTCUT.write_more(tmp_path, [cell], [first])
    assert read_json(tmp_path / "maps.json")["maps"] == {"S1-stride4 0.9": first["maps"]}
    with pytest.raises(ValueError, match="other settings \\(epochs\\)"):
        run_cell(SHORTCUT, tmp_path, SMALL | {"epochs": 2}, cell)


def test_the_parts_of_the_stored_maps_are_drawn_again() -> None:
    images, masks, marks = shortcut.shown_parts(SMALL)
    assert images.shape == (shortcut.SHOWN_PARTS, 3, 32, 32)
    assert masks.flatten(1).any(1).all()
    assert marks.flatten(1).any(1).all()
    stored = shortcut.stored_maps(SHORTCUT.name, 1.0)
    assert set(stored) == {s.tag for s in shortcut.SYSTEMS}
    assert {maps.shape[:2] for maps in stored.values()} == {(shortcut.SHOWN_PARTS, 1)}
    assert shortcut.stored_maps("no_such_study", 1.0) == {}


@pytest.mark.parametrize(
    ("change", "auroc", "excess", "expected"),
    [
        (-0.4, 0.3, 0.0, "confirmed"),
        (-0.4, 0.3, 0.2, "refined"),  # it helps, and does not remove the dependence
        (-0.4, 0.3, 0.05, "undecided"),
        (-0.4, -0.3, 0.0, "refuted"),  # nothing changes with the mark, nothing is found either
        (-0.4, 0.015, 0.0, "undecided"),
        (0.0, 0.3, 0.0, "refuted"),
        (0.4, -0.3, 0.2, "refuted"),
    ],
)
def test_the_claim_is_judged_by_its_criterion(
    change: float, auroc: float, excess: float, expected: str
) -> None:
    def line(metric: str, value: float, **condition: object) -> dict[str, object]:
        ends = {"ci_low": value - 0.02, "ci_high": value + 0.02}
        about = {**STRONG.condition, **condition}
        return runs.row("synthetic", STRONG.name, metric, value, condition=about, **ends)

    lines = [line(EXCESS, excess, agreement=1.0)]
    for agreement in (0.9, 1.0):
        about = {"agreement": agreement, **PLAIN.as_other}
        lines.append(line("verdict_change_difference", change, **about))
        lines.append(line("auroc_difference", auroc, mark="unrelated", **about))
    rows = pd.DataFrame(lines)
    assert judge_guidance(rows, STRONG).verdict == expected
    with pytest.raises(LookupError):
        judge_guidance(rows[1:], STRONG)


def test_one_agreement_alone_refines_the_claim() -> None:
    rows = runs.reference(SHORTCUT.name).rows
    at_one = rows["condition"].map(lambda condition: condition["agreement"] == 1.0)
    worse = rows.copy()
    differs = rows["metric"].isin(["verdict_change_difference", "auroc_difference"])
    worse.loc[at_one & differs, ["value", "ci_low", "ci_high"]] = [0.0, -0.01, 0.01]
    assert judge_guidance(worse).verdict == "refined"
