"""Criteria of claims that several chapters judge: one function each, so that every page agrees.

All figures are paired differences on the same images with 95 % intervals over groups. What counts
as shown was written before the runs; the smallest interesting differences, which separate *refuted*
from *undecided*, came after them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import pandas as pd

from gainbook.lab.judge import INTERESTING, Judgement, gains, keeps, verdict
from gainbook.lab.systems import System
from gainbook.lab.tables import Value, find

Criterion: TypeAlias = Callable[[pd.DataFrame], Judgement]
"""From result rows; raises LookupError where they lack a figure."""
KEPT_MARGIN = 0.10
"""A10: so much larger may be the share of flagged defects that are lost when all but the defect is
removed."""


def find_difference(
    rows: pd.DataFrame, a: System, b: System, metric: str, map: str | None = None, **condition: Any
) -> Value:
    """The pooled paired difference of a metric, a minus b; see `tables.find`."""
    return find(rows, a, f"{metric}_difference", map, **b.as_other, **condition)


def judge_supervision(energy: Value, overlap: Value, auroc: Value) -> Judgement:
    """A1: does supervision of the evidence map improve it and keep the accuracy?

    Differences with minus without supervision: the share of positive evidence on the defect, the
    IoU of the defect map, and AUROC. *Shown* if the first two have intervals above 0 and AUROC's
    lies above -0.02. A map measure below 0.02, or an AUROC below -0.02, is excluded.
    """
    better = [gains(energy, INTERESTING["positive_energy"]), gains(overlap, INTERESTING["iou"])]
    return Judgement(
        verdict(better, [keeps(auroc)]),
        {"evidence on the defect": energy, "IoU of the defect map": overlap, "AUROC": auroc},
    )


def supervision(supervised: System, plain: System) -> Criterion:
    """`judge_supervision` as a criterion from the result rows of two systems."""

    def criterion(rows: pd.DataFrame) -> Judgement:
        pair = rows, supervised, plain
        return judge_supervision(
            find_difference(*pair, "positive_energy", "cam"),
            find_difference(*pair, "iou", "defect_map"),
            find_difference(*pair, "auroc"),
        )

    criterion.__doc__ = judge_supervision.__doc__
    return criterion


def judge_together(figures: Mapping[str, Value]) -> Judgement:
    """A6: does a network that classifies and locates beat networks that do one of the two?

    `figures` by their words: the AUROC of the joint network minus that of the classifier, and a
    measure of the defect map (pixel AP or IoU) minus that of the network that only locates.
    *Shown* if both intervals lie above 0; a difference below 0.02 is excluded.
    """
    return Judgement(verdict([gains(value) for value in figures.values()]), dict(figures))


def judge_counterfactual_term(
    selective_image: Value, selective_features: Value, kept_image: Value, auroc: Value
) -> Judgement:
    """A10: does the counterfactual term force the right reasoning?

    Differences with minus without the term on the parts that both systems flag. The term acts on
    features, so better figures at the features show that it trains; the claim is about reasons,
    which the image decides.

    *Shown* if the selectivity on the image (`removed - moved`) has an interval above 0, the share
    of verdicts lost when only the defect is kept on the image grows by less than 0.10 (upper end),
    and AUROC's interval lies above -0.02. A selectivity below 0.05 is excluded. *Refined* if that
    fails and the selectivity at the features has an interval above 0.
    """
    least = INTERESTING["selectivity"]
    lost = Value(-kept_image.value, -kept_image.high, -kept_image.low, kept_image.n)
    return Judgement(
        verdict(
            [gains(selective_image, least)],
            [keeps(lost, KEPT_MARGIN), keeps(auroc)],
            partly=[gains(selective_features, least)],
        ),
        {
            "selectivity on the image": selective_image,
            "selectivity at the features": selective_features,
            "verdicts lost with only the defect kept on the image": kept_image,
            "AUROC": auroc,
        },
    )


def counterfactual_term(with_term: System, without: System) -> Criterion:
    """`judge_counterfactual_term` as a criterion from the result rows of two systems."""

    def criterion(rows: pd.DataFrame) -> Judgement:
        pair = rows, with_term, without
        return judge_counterfactual_term(
            find_difference(*pair, "selectivity", level="image"),
            find_difference(*pair, "selectivity", level="features"),
            find_difference(*pair, "flip_rate", level="image", intervention="kept"),
            find_difference(*pair, "auroc"),
        )

    criterion.__doc__ = judge_counterfactual_term.__doc__
    return criterion


def judge_consistency(overlap: Value, iou: Value) -> Judgement:
    """A13: does the consistency term keep attention and localization in line?

    Differences with minus without the term: the overlap of the two maps on defective images
    (`map_overlap`) and the IoU of the defect map. *Shown* if the overlap's interval lies above 0
    and the IoU's above -0.02. An overlap below 0.02, or an IoU below -0.02, is excluded.
    """
    return Judgement(
        verdict([gains(overlap)], [keeps(iou, INTERESTING["iou"])]),
        {"overlap of attention and localization": overlap, "IoU of the defect map": iou},
    )


def consistency(with_term: System, without: System) -> Criterion:
    """`judge_consistency` as a criterion from the result rows of two systems."""

    def criterion(rows: pd.DataFrame) -> Judgement:
        return judge_consistency(
            find_difference(rows, with_term, without, "map_overlap"),
            find_difference(rows, with_term, without, "iou", "defect_map"),
        )

    criterion.__doc__ = judge_consistency.__doc__
    return criterion
