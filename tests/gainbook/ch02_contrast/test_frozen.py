"""Figures of a bench whose scores are known, features by hand, and the cache of both."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from gainbook.chapters.ch02_contrast.crossing import BANK, DISTILLATION, HYBRID, PROBE
from gainbook.chapters.ch02_contrast.detectors import build_detector, detector_scores
from gainbook.chapters.ch02_contrast.draws import SYNTHETIC, load_draw
from gainbook.chapters.ch02_contrast.features import features_of, pooled
from gainbook.chapters.ch02_contrast.figures import recalls, threshold, verdict_figures
from gainbook.chapters.ch02_contrast.frozen import (
    FROZEN,
    Bench,
    by_contamination,
    by_count,
    by_look,
    by_size,
    by_type,
)
from gainbook.lab.run_system import WEIGHTS, find_weights

from gainmtl.backbone import Backbone
from gainmtl.types import NORMAL

SMALL_WEIGHTS = find_weights(WEIGHTS)
SETTINGS = {**FROZEN, "backbone": "test_efficientnet", "weights": None, "bank_size": 20,
            "detector_epochs": 1}  # fmt: skip


def value(figures: list[dict[str, Any]], metric: str, **condition: Any) -> float:
    (found,) = [f for f in figures if (f["metric"], f["condition"]) == (metric, condition)]
    return float(found["value"])


def test_the_threshold_is_from_validation_and_the_figures_from_the_test() -> None:
    val = np.arange(20.0)  # 5 % of 20 is one false alarm
    assert 18 < threshold(val) <= 19
    types = np.array([NORMAL, NORMAL, "a", "a"])
    found = verdict_figures(val, np.array([0.0, 30, 10, 40]), types, defects=3)
    assert value(found, "recall", defects=3) == 0.5
    assert value(found, "false_alarms", defects=3) == 0.5
    assert value(found, "auroc", defects=3) == 0.75


def test_the_two_recalls_differ_in_whose_normal_images_count() -> None:
    """Validation allows scores up to 18, the test's twenty normal images up to 38."""
    test = np.array([*np.arange(20.0) + 20, 30, 38.5, 10])
    normal = np.arange(23) < 20
    chosen = ~normal & (test > 15)
    found = recalls(np.arange(20.0), test, chosen, normal)
    assert found == {"recall": 1.0, "recall_at_fpr05": 0.5}


def test_a_probe_has_no_figure_without_defects_and_a_bank_the_same_for_all(bench: Bench) -> None:
    probe, bank = by_count(bench, PROBE.tag, [1, 6]), by_count(bench, BANK.tag, [1, 6])
    assert {f["condition"]["defects"] for f in probe} == {1, 6}
    assert {f["condition"]["defects"] for f in bank} == {0, 1, 6}
    assert len({f["value"] for f in bank if f["metric"] == "recall"}) == 1
    assert value(probe, "recall", defects=6) == 1
    hybrid = by_count(bench, HYBRID.tag, [1, 6])
    assert value(hybrid, "detector_share", defects=0) == 1
    assert value(hybrid, "detector_share", defects=1) == pytest.approx(2.5 / 3, abs=1e-4)


def test_a_new_type_is_missed_by_the_probe_and_found_by_the_bank(bench: Bench) -> None:
    """Each type moves a feature of its own: the probe gains nothing for a type left out."""
    probe, bank = (by_type(bench, arm.tag, [4]) for arm in (PROBE, BANK))
    about = {"defects": 4}
    assert value(probe, "recall", types="seen", **about) == 1
    assert value(probe, "recall", types="unseen", **about) < 0.5
    assert value(bank, "recall", types="unseen", **about) == 1


def test_questions_have_a_figure_for_each_condition(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "gainbook.chapters.ch02_contrast.frozen"
    monkeypatch.setattr(f"{module}.TAUGHT", 2)
    found = by_contamination(bench, BANK.tag)
    assert {f["condition"]["contamination"] for f in found} == {0.0, 0.01, 0.05, 0.1}
    looks = by_look(bench, BANK.tag)
    other = [f["n"] for f in looks if f["condition"]["look"] == "other"]
    assert set(other) == {6, 0, None}
    sides = bench.features.sides
    sizes = by_size(bench, BANK.tag, 512, 128, sides, 2)
    pixels = [f["value"] for f in sizes if f["metric"] == "pixels"]
    assert pixels == sorted(pixels)
    third = np.sort(sides[bench.draw.test])[-3:]
    assert pixels[-1] == pytest.approx(128 * third.mean(), abs=0.005)


def test_pooled_features_by_hand() -> None:
    level = torch.tensor([[[[1.0, 3.0]], [[0.0, 8.0]]]])
    assert pooled([level, -level]).tolist() == [[2, 4, 3, 8, -2, -4, -1, 0]]


def test_features_and_scores_are_read_for_the_same_images_only(tmp_path: Path) -> None:
    few = {"normal": 6, "val": 4, "most": 3, "test_normal": 2, "test_type": 1}
    draw = load_draw(SYNTHETIC, None, 0, few, 64, train=20, val=12, test=20)
    torch.manual_seed(0)
    backbone = Backbone("test_efficientnet")
    path = tmp_path / "features.npz"
    first = features_of(backbone, draw.images, path)
    assert (first.shares[draw.normal] == 0).all()
    assert (first.shares[draw.defective()] > 0).all()
    stamp = path.stat().st_mtime_ns
    assert np.array_equal(first.vectors, features_of(backbone, draw.images, path).vectors)
    assert path.stat().st_mtime_ns == stamp
    other = Backbone("test_efficientnet", SMALL_WEIGHTS)
    assert not np.array_equal(first.vectors, features_of(other, draw.images, path).vectors)
    rows = np.concatenate([draw.val, draw.test])
    kept = tmp_path / "scores.npz"
    scores = detector_scores(BANK.tag, draw, rows, SETTINGS, kept)
    assert np.isnan(np.delete(scores, rows)).all()
    assert np.isfinite(scores[rows]).all()
    stamp = kept.stat().st_mtime_ns
    detector_scores(BANK.tag, draw, rows, SETTINGS, kept)
    assert kept.stat().st_mtime_ns == stamp
    for given in ({"contamination": draw.parts[0]}, {"made_with": "other weights"}):
        detector_scores(BANK.tag, draw, rows, SETTINGS, kept, **given)
        assert kept.stat().st_mtime_ns != stamp
        stamp = kept.stat().st_mtime_ns


def test_a_contaminated_bank_contains_the_defective_image() -> None:
    few = {"normal": 6, "val": 4, "most": 3, "test_normal": 2, "test_type": 1}
    draw = load_draw(SYNTHETIC, None, 0, few, 64, train=20, val=12, test=20)
    wrong = draw.parts[0]
    settings = {**SETTINGS, "bank_size": 10_000}  # every feature is kept
    clean, bad = (
        detector_scores(BANK.tag, draw, np.concatenate([draw.val, wrong]), settings, None, c)
        for c in (None, wrong)
    )
    assert bad[wrong] == pytest.approx(0, abs=1e-3)
    assert (clean[wrong] > 10 * bad[wrong]).all()


def test_both_detectors_have_the_same_levels_and_others_are_refused() -> None:
    settings = SimpleNamespace(**SETTINGS)
    found = [
        build_detector(arm.tag, vars(settings)).teacher.strides for arm in (BANK, DISTILLATION)
    ]
    assert found[0] == found[1]
    with pytest.raises(ValueError, match="expected bank or rd, got 'probe'"):
        build_detector(PROBE.tag, SETTINGS)
