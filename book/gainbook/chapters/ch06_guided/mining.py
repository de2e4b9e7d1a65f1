"""Attention mining as a question to a trained network: erase its soft mask, and ask it again.

Mining trains on the first answer, the class score that is left, and claims completeness: a map that
misses half of a defect leaves half of it in the picture. The mask of the defect is a yardstick
here, and no part of a prediction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from gainbook.lab.parameters import Parameters
from gainbook.lab.protocol import Pooled
from gainbook.lab.reference import System, load_fold
from gainbook.lab.tables import Value, pooled_row
from gainmtl.cam import erase, resize_map, soft_mask
from gainmtl.evaluation.stats import bootstrap_interval, paired_interval
from gainmtl.io import load
from gainmtl.model import GAINMTL
from gainmtl.types import Sample, collate

MEASURES = {
    "soft_mask_coverage": "defect covered by the soft mask",
    "soft_mask_inside": "soft mask that lies on the defect",
    "soft_mask_area": "image covered by the soft mask",
    "score_before": "class score, nothing erased",
    "score_left": "left after erasing the soft mask",
    "score_left_elsewhere": "left after erasing as much elsewhere",
    "score_left_truth": "left after erasing the true mask",
}
"""What `ask_erased` measures, in words; all in [0, 1]."""


class SoftMaskScores(NamedTuple):
    """How a soft mask lies on a defect; (B,) each, in [0, 1]."""

    coverage: Tensor
    """`sum_M T / |M|`: the share of the defect that T covers, a recall. 1 for T = 1."""
    inside: Tensor
    """`sum_M T / sum T`: the share of T that lies on the defect, a precision."""
    area: Tensor
    """The mean of T over the image."""


def soft_mask_scores(soft: Tensor, masks: Tensor) -> SoftMaskScores:
    """Measure T (B, 1, h, w) in [0, 1] against M (B, 1, H, W) in {0, 1}.

    T is resized bilinearly. Coverage and inside are NaN where a mask is empty.
    """
    pixels = resize_map(soft.double(), (masks.shape[2], masks.shape[3]))
    marked = masks.double().sum((1, 2, 3))
    both = (pixels * masks).sum((1, 2, 3))
    nan = torch.full_like(marked, math.nan)
    coverage = torch.where(marked > 0, both / marked.clamp_min(1), nan)
    inside = torch.where(marked > 0, both / pixels.sum((1, 2, 3)).clamp_min(1e-12), nan)
    return SoftMaskScores(coverage, inside, pixels.mean((1, 2, 3)))


def elsewhere(soft: Tensor) -> Tensor:
    """The soft mask moved by half the image, down and across, round the edges: as much, not there.

    What covers the whole image covers it elsewhere, too.
    """
    return soft.roll((soft.shape[2] // 2, soft.shape[3] // 2), (2, 3))


@torch.no_grad()
def ask_erased(
    model: GAINMTL,
    dataset: Dataset[Sample],
    batch_size: int = 32,
    threshold: float = 0.5,
    sharpness: float = 10.0,
) -> pd.DataFrame:
    """One row per defective image with a mask: its soft mask, and what erasing leaves.

    Columns: `name, group, defect_type, is_flagged` and the `MEASURES`. `score_left` averaged is
    GAIN's S_am on this dataset. Erasing as much elsewhere says what any hole of that size does, and
    erasing the true mask what a perfect map would leave.

    Args:
        dataset: with `labels` and `has_mask`, as a test set has them.
        threshold: sigma of the soft mask.
        sharpness: omega of the soft mask.

    Raises:
        ValueError: no defective image with a mask.
    """
    known: Any = dataset
    bad = np.flatnonzero(known.labels & known.has_mask)
    if not len(bad):
        raise ValueError("ask_erased: expected defective images with a mask, found none")
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    tables = []
    for start in range(0, len(bad), batch_size):
        batch = collate([dataset[int(i)] for i in bad[start : start + batch_size]])
        images, masks = model.preprocess(batch.image.to(device)), batch.mask.to(device)
        out = model(images)
        soft = soft_mask(out.cam, threshold, sharpness)
        coverage, inside, area = soft_mask_scores(soft, masks)
        columns = {
            "soft_mask_coverage": coverage,
            "soft_mask_inside": inside,
            "soft_mask_area": area,
            "score_before": out.defect_probability,
        }
        for name, region in (
            ("score_left", soft),
            ("score_left_elsewhere", elsewhere(soft)),
            ("score_left_truth", masks),
        ):
            columns[name] = model(erase(images, region)).defect_probability
        about = {"name": batch.name, "group": batch.group, "defect_type": batch.defect_type}
        flagged = out.defect_probability.cpu().double().numpy() >= model.threshold
        figures = {name: values.cpu().double().numpy() for name, values in columns.items()}
        tables.append(pd.DataFrame({**about, "is_flagged": flagged, **figures}))
    model.train(was_training)
    return pd.concat(tables, ignore_index=True)


def ask_erased_folds(parameters: Parameters, pooled: Sequence[Pooled]) -> pd.DataFrame:
    """`ask_erased` every fold's model about that fold's test images, all folds and seeds together.

    `pooled` has one entry per seed. With several seeds an image stands there once for each.
    """
    tables = []
    for seed, one in zip(parameters.seeds, pooled, strict=True):
        data_of = load_fold(parameters, seed)
        for fold, path in enumerate(one.model_paths):
            table = ask_erased(load(path), data_of(fold).test)
            if len(parameters.seeds) > 1:
                table["name"] += f", seed {seed}"
            tables.append(table)
    return pd.concat(tables, ignore_index=True)


def erased_rows(
    table: pd.DataFrame, dataset: str, system: System, resamples: int = 2000, **condition: Any
) -> list[dict[str, Any]]:
    """Result rows of `ask_erased`: the mean of each measure with its interval over groups."""
    rows = []
    for name in MEASURES:
        found = bootstrap_interval(
            np.mean, table["group"], table[name].to_numpy(), resamples=resamples
        )
        rows.append(pooled_row(dataset, system, name, found, "cam", **condition))
    return rows


def erased_differences(
    a: pd.DataFrame,
    b: pd.DataFrame,
    dataset: str,
    first: System,
    second: System,
    resamples: int = 2000,
) -> list[dict[str, Any]]:
    """Rows `<measure>_difference`, a - b on the same images; the condition names `second`."""
    if list(a["name"]) != list(b["name"]):
        raise ValueError("erased_differences: the two systems were not asked about the same images")
    rows = []
    for name in MEASURES:
        pair = a[name].to_numpy(), b[name].to_numpy()
        found = paired_interval(np.mean, a["group"], *pair, resamples=resamples)
        metric = f"{name}_difference"
        rows.append(pooled_row(dataset, first, metric, found, "cam", **second.as_other))
    return rows


AUROC_MARGIN = 0.02


def judge_mining(energy: Value, coverage: Value, auroc: Value) -> str:
    """Does mining make the network find the discriminative regions by itself?

    All three are differences, mining alone minus the plain classifier, on the same images, with
    95 % intervals over groups: the share of the positive evidence that lies on the defect, the
    share of the defect that the soft mask covers, and AUROC.

    *Confirmed* if the evidence is better placed *and* covers more of the defect, both intervals
    above 0, and the verdicts keep their worth, AUROC's lower end above -0.02. *Refined* if only one
    of energy and coverage passes: a map that covers more by being larger is not better placed. Else
    *refuted*. Fixed before anything was measured.
    """
    passed = [energy.low > 0, coverage.low > 0]
    if all(passed) and auroc.low > -AUROC_MARGIN:
        return "confirmed"
    return "refined" if any(passed) else "refuted"


def judge_supervision(energy: Value, overlap: Value, auroc: Value) -> str:
    """Does supervising the evidence map improve it and keep the accuracy?

    Differences, supervision alone minus the plain classifier: positive energy of the evidence, IoU
    of the defect map, AUROC. *Confirmed* if both map measures have intervals above 0 and AUROC's
    lower end lies above -0.02; *refined* if only the maps pass; else *refuted*. The criterion of
    the chapter on staged training, for one term instead of seven.
    """
    if not (energy.low > 0 and overlap.low > 0):
        return "refuted"
    return "confirmed" if auroc.low > -AUROC_MARGIN else "refined"
