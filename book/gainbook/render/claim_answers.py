"""How each claim is answered from stored rows: which figures go into which criterion.

The criteria stand with their chapters and were written before the runs. Each function here takes
the rows of a results file, see `claims.answer`, and raises LookupError where they lack a figure.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import pandas as pd

from gainbook.chapters.ch03_reason import shortcut_findings
from gainbook.chapters.ch05_attention import gate_scores
from gainbook.chapters.ch06_guided import mining
from gainbook.chapters.ch07_localization import focal_study, joint
from gainbook.chapters.ch08_counterfactual import flips
from gainbook.chapters.ch12_fostering import weak_feature_study
from gainbook.chapters.ch12_fostering.fostering_claims import judge_weak_feature
from gainbook.lab import components, reference
from gainbook.lab.judge import Judgement
from gainbook.lab.tables import Value, find
from gainmtl.explanation import methods as explain

Rows: TypeAlias = pd.DataFrame
_UNKNOWN = (math.nan, math.nan, None)


def supervision(first: reference.System, plain: reference.System) -> Callable[[Rows], Judgement]:
    def judge(rows: Rows) -> Judgement:
        figures = {
            name: find(rows, first, f"{metric}_difference", of, **plain.as_other)
            for name, (metric, of) in {
                "positive energy": ("positive_energy", "cam"),
                "IoU": ("iou", "defect_map"),
                "AUROC": ("auroc", None),
            }.items()
        }
        return Judgement(mining.judge_supervision(*figures.values()), figures)

    return judge


def shortcut(rows: Rows) -> Judgement:
    """The verdict is about both agreements; the figures shown are of the stronger."""
    system = next(s for s in shortcut_findings.SYSTEMS if s.name == "S5")
    verdict, figures = shortcut_findings.judge_guidance(rows, system)
    weaker = f"agreement {shortcut_findings.NEEDED[0]:g}"
    return Judgement(verdict, {k: v for k, v in figures.items() if not k.endswith(weaker)})


def mining_alone(rows: Rows) -> Judgement:
    figures = {
        name: find(
            rows, components.MINING_ALONE, f"{metric}_difference", of, **components.PLAIN.as_other
        )
        for name, (metric, of) in {
            "evidence on the defect": ("positive_energy", "cam"),
            "defect under the soft mask": ("soft_mask_coverage", "cam"),
            "AUROC": ("auroc", None),
        }.items()
    }
    return Judgement(mining.judge_mining(*figures.values()), figures)


def _cost_of_cbam(rows: Rows) -> dict[str, Value]:
    """Before the guided attention; of older files, which lack it, in the plain network."""
    network: dict[str, Any] = {"network": "mobilenetv2_100", "image_size": 128}
    for system, against in (
        (components.ATTENTION_CBAM, "attention"),
        (components.WITH_CBAM, "plain"),
    ):
        try:
            return {
                name: find(rows, system, f"{name}_ratio", against=against, **network)
                for name in ("parameters", "operations", "seconds")
            }
        except LookupError:
            continue
    raise LookupError("the cost of CBAM")


def refinement(rows: Rows) -> Judgement:
    cost = _cost_of_cbam(rows)
    bare = components.ATTENTION_BARE
    energy, overlap = (
        find(rows, components.ATTENTION_CBAM, f"{metric}_difference", "defect_map", **bare.as_other)
        for metric in ("positive_energy", "iou")
    )
    return Judgement(*gate_scores.judge_refinement(cost, energy, overlap))


def temperature(rows: Rows) -> Judgement:
    systems = (components.ATTENTION_BARE, components.ATTENTION_CBAM)
    tables = [gate_scores.temperatures(rows, system) for system in systems]
    ends = [
        float(t) for table in tables for t in table.groupby(["seed", "fold"])["temperature"].last()
    ]
    if not ends:
        raise LookupError("temperatures")
    held = {"lesson": "attention", "temperature": "learned", "against": "held at 1"}
    chosen = rows[(rows["system"] == "lesson") & (rows["metric"] == "entropy_difference")]
    chosen = chosen[chosen["condition"].map(lambda given: dict(given) == held)]
    if len(chosen) != 1:
        raise LookupError("the lesson's entropy")
    one = chosen.iloc[0]
    sharper = Value(float(one["value"]), float(one["ci_low"]), float(one["ci_high"]), int(one["n"]))
    return Judgement(*gate_scores.judge_temperature(ends, sharper))


def _of_methods(rows: Rows, metric: str) -> dict[str, float]:
    """The live figure of chapter 4 for each explanation method."""
    chosen = rows[(rows["metric"] == metric) & (rows["dataset"] == "synthetic")]
    return {
        dict(about)["method"]: float(value)
        for about, value in zip(chosen["condition"], chosen["value"], strict=True)
    }


_BESIDE_CAM = ("grad_cam", "grad_cam_plus_plus", "score_cam")
_SHOWN = {name: explain.METHODS[name] for name in ("cam", "grad_cam", "score_cam")}


def differentiable(rows: Rows) -> Judgement:
    """The criterion of chapter 4: confirmed if CAM passes and the other three don't."""
    error, before, after = (
        _of_methods(rows, metric) for metric in ("slope_error", "loss_before", "loss_after")
    )
    if not {"cam", *_BESIDE_CAM} <= set(error):
        raise LookupError("slope_error")
    passed = {name: error[name] < 0.01 and after[name] <= 0.9 * before[name] for name in error}
    others = [passed[name] for name in _BESIDE_CAM]
    verdict = "refined"
    if not passed["cam"] or all(others):
        verdict = "refuted"
    elif not any(others):
        verdict = "confirmed"
    shown = {
        f"share of the loss left, {words}": Value(after[name] / before[name], *_UNKNOWN)
        for name, words in _SHOWN.items()
    }
    return Judgement(verdict, shown)


def cost_of_maps(rows: Rows) -> Judgement:
    """The criterion of chapter 4: counts as claimed, and times that are felt.

    The chapter also counts one pass of Score-CAM per living channel; here it is more than one, for
    the number of living channels is not stored.
    """
    forward, backward, time = (
        _of_methods(rows, metric)
        for metric in ("forward_passes", "head_backward_passes", "time_ratio")
    )
    if not {"cam", *_BESIDE_CAM} <= set(forward):
        raise LookupError("forward_passes")
    counts = forward["cam"] == 1 and backward["cam"] == 0
    counts &= all(forward[n] == 1 and backward[n] == 1 for n in _BESIDE_CAM[:2])
    counts &= forward["score_cam"] > 1 and backward["score_cam"] == 0
    slower = all(time[n] >= 1.1 for n in _BESIDE_CAM[:2]) and time["score_cam"] >= 10
    verdict = "refuted" if not counts else "confirmed" if slower else "refined"
    shown = {
        f"time in predictions, {words}": Value(time[name], *_UNKNOWN)
        for name, words in _SHOWN.items()
    }
    return Judgement(verdict, shown)


def focal(rows: Rows) -> Judgement:
    gain = focal_study.study_value(rows, "auroc_difference", 2.0, min(focal_study.RATES))
    return Judgement(focal_study.judge_focal(gain), {"AUROC, rarest rate": gain})


def together(rows: Rows) -> Judgement:
    together = components.TOGETHER
    by_map = joint.against(components.LOCALIZATION_ALONE, verdict_by_map=True)
    found = joint.judge_together(
        find(rows, together, "auroc_difference", **joint.against(components.PLAIN)),
        find(rows, together, "pixel_ap_difference", "defect_map", **by_map),
    )
    return Judgement(*found)


def counterfactual_term(rows: Rows) -> Judgement:
    def gain(metric: str, **condition: str) -> Value:
        other = reference.S5_WITHOUT_TERM.as_other
        return find(rows, reference.S5, f"{metric}_difference", **other, **condition)

    return flips.judge_term(
        gain("selectivity", level="image"),
        gain("selectivity", level="features"),
        gain("flip_rate", level="image", intervention="kept"),
        gain("auroc"),
    )


def weak_feature(rows: Rows) -> Judgement:
    """The criterion of chapter 12, where the weak feature is never needed; of the beta that
    validation data chose, and out of reach if they left none but 0."""
    share = weak_feature_study.JUDGED
    beta = weak_feature_study.chosen_beta(rows, share)
    if beta == 0:
        return Judgement("out of reach here", {})
    both = {"shown": "both"}
    gains = [
        weak_feature_study.study_value(rows, f"{metric}_difference", beta, share, map, **about)
        for metric, map, about in (
            ("positive_energy", "cam", {"on": "weak", **both}),
            ("weak_over_strong", "cam", both),
            ("auroc", None, {"shown": "weak"}),
        )
    ]
    return judge_weak_feature(*gains)
