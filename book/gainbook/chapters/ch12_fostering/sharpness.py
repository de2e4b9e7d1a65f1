"""How sharp a model's evidence maps are, and how good: scores per image, and their measures."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor
from torch.utils.data import Dataset

from gainbook.lab.folds import of_each
from gainbook.lab.measures import RATIO, Measure, same_images
from gainbook.lab.systems import System
from gainbook.lab.tables import pooled_row
from gainmtl import metrics
from gainmtl.evaluation.stats import bootstrap_interval
from gainmtl.fostering import ZEROS
from gainmtl.metrics.faithfulness import FAITHFULNESS, faithfulness_scores
from gainmtl.model import GAINMTL
from gainmtl.types import Outputs, Sample, collate

Array = NDArray[Any]
SHARPNESS: dict[str, Callable[[Tensor], Tensor]] = {
    "cam_entropy": metrics.cam_entropy,
    "cam_elliptic_area": metrics.cam_elliptic_area,
    "cam_dispersion": metrics.cam_dispersion,
    "cam_relative_difference": metrics.cam_relative_difference,
    "cam_contrast": metrics.cam_contrast,
}
SHAPE_PAIRS = (
    ("cam_entropy", "cam_elliptic_area"),
    ("cam_entropy", "cam_dispersion"),
    ("cam_elliptic_area", "cam_dispersion"),
)
"""The pairs whose rank correlation is measured."""


def _finite_median(values: Array) -> float:
    """The median; NaN where it is infinite, as the relative difference of most maps may be."""
    median = float(np.median(values))
    return median if math.isfinite(median) else math.nan


def _spearman(a: Array, b: Array) -> float:
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return math.nan
    return float(spearmanr(a, b).statistic)


def _measures_from(zero: str) -> list[Measure]:
    """What depends on the zero of the map, see `gainmtl.fostering`."""
    about = {"zero": zero}
    shapes = [
        Measure(
            name,
            f"{zero}.{name}",
            "cam",
            about,
            _finite_median if name == "cam_relative_difference" else np.mean,
            pair="difference" if name == "cam_contrast" else RATIO,
        )
        for name in SHARPNESS
    ]
    correlations = [
        Measure(
            "rank_correlation",
            f"{zero}.{a}",
            "cam",
            {"of": a, "with": b, **about},
            _spearman,
            beside=(f"{zero}.{b}",),
            pair="",
        )
        for a, b in SHAPE_PAIRS
    ]
    vanished = Measure("cam_vanished", f"{zero}.vanished", "cam", about, pair="")
    energy = Measure("positive_energy", f"{zero}.positive_energy", "cam", about)
    return [vanished, *shapes, energy, *correlations]


MEASURES = (
    *(measure for zero in ZEROS for measure in _measures_from(zero)),
    *(Measure(name, name, "cam") for name in ("pixel_precision", *FAITHFULNESS)),
)
"""Means over images, of the relative difference medians; pairs have ratios of shapes and
differences of the rest."""
LIVE_MEASURES = (*MEASURES, Measure("point_game", "point_game", "cam"))
"""Of the live part; the rows of a run have the PointGame from its scores."""
VERDICT_MEASURES = tuple(
    Measure(name, "defect_probability", statistic=statistic, beside=("is_defective",))
    for name, statistic in (
        ("auroc", metrics.auroc),
        ("ece", metrics.expected_calibration_error),
    )
)
"""Of `folds.validation_scores`."""


def feature_strength(images: Tensor, masks: Tensor) -> Tensor:
    """The contrast of a defect with its surroundings, (B,) >= 0; NaN without a defect.

    `|mean inside - mean around| / (spread around + 1/255)`, of grey levels in [0, 1]; around is a
    ring outside the mask, an eighth of the image wide. images (B, 3, H, W) in [0, 1], masks
    (B, 1, H, W). It depends on no network.
    """
    inside = masks > 0.5
    reach = max(1, images.shape[3] // 8)
    grown = F.max_pool2d(inside.float(), 2 * reach + 1, stride=1, padding=reach) > 0
    grey, ring = images.double().mean(1, keepdim=True), grown & ~inside

    def mean(values: Tensor, where: Tensor) -> Tensor:
        return (values * where).sum((1, 2, 3)) / where.sum((1, 2, 3))

    level = mean(grey, ring)
    spread = (mean(grey.square(), ring) - level.square()).clamp_min(0).sqrt()
    return (mean(grey, inside) - level).abs() / (spread + 1 / 255)


@of_each
@torch.no_grad()
def score_sharpness(
    model: GAINMTL,
    dataset: Dataset[Sample],
    faithful: int = 0,
    batch_size: int = 32,
    steps: int = 16,
    seed: int = 0,
) -> pd.DataFrame:
    """One row per defective image with a mask: shape, place and faithfulness of its evidence map.

    Columns: `name, group, defect_type, is_flagged, strength, point_game`; `pixel_precision`, the
    image's own pixel AP; `<zero>.<measure>` for both `fostering.ZEROS`, with the measures
    `vanished`, `positive_energy` and those of `SHARPNESS`; and `FAITHFULNESS` on `faithful` images
    drawn by `seed`, the same for every model, NaN elsewhere. A map that vanished has no shape (NaN)
    and no positive energy (0).
    """
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    labelled: Any = dataset
    bad = np.flatnonzero(labelled.labels & labelled.has_mask)
    drawn = set(np.random.default_rng(seed).permutation(bad)[:faithful].tolist())

    def probability(images: Tensor) -> Tensor:
        return model(images).defect_probability

    tables = []
    for start in range(0, len(bad), batch_size):
        places = bad[start : start + batch_size].tolist()
        batch = collate([dataset[i] for i in places])
        images = model.preprocess(batch.image.to(device))
        out = model(images)
        cam = out.cam.float().cpu()
        columns: dict[str, Any] = {
            "name": batch.name,
            "group": batch.group,
            "defect_type": batch.defect_type,
            "is_flagged": metrics.is_flagged(out.defect_probability.cpu().numpy(), model.threshold),
            "strength": feature_strength(batch.image, batch.mask).numpy(),
            "point_game": metrics.point_game(cam, batch.mask).numpy(),
            "pixel_precision": metrics.pixel_ap(cam, batch.mask).numpy(),
        }
        for zero, shift in zip(ZEROS, (evidence_bias(model, out).cpu(), 0.0), strict=True):
            shifted = cam + shift
            columns[f"{zero}.vanished"] = metrics.vanished(shifted).double().numpy()
            energy = metrics.positive_energy(shifted, batch.mask)
            columns[f"{zero}.positive_energy"] = energy.numpy()
            for name, measure in SHARPNESS.items():
                columns[f"{zero}.{name}"] = measure(shifted).double().numpy()
        table = pd.DataFrame(columns).assign(**dict.fromkeys(FAITHFULNESS, math.nan))
        chosen = [k for k, i in enumerate(places) if i in drawn]
        if chosen:
            some = torch.tensor(chosen).to(device)
            scores = faithfulness_scores(probability, images[some], out.cam[some], steps)
            for name, values in scores.items():
                table.loc[chosen, name] = values.cpu().double().numpy()
        tables.append(table)
    model.train(was_training)
    return pd.concat(tables, ignore_index=True)


def evidence_bias(model: GAINMTL, out: Outputs) -> Tensor:
    """`b_c - b_0` of the class c whose evidence is `out.cam`, (B, 1, 1, 1)."""
    bias = model.deciding_head.bias.detach().float()
    return (bias[1:][out.logits[:, 1:].argmax(1)] - bias[0])[:, None, None, None]


def weak_gain_rows(
    a: pd.DataFrame,
    b: pd.DataFrame,
    dataset: str,
    first: System,
    second: System,
    resamples: int = 2000,
) -> list[dict[str, Any]]:
    """The row `weak_gain_difference` of two systems on the same images.

    The gain in positive energy, from the verdict's zero, on defects whose `strength` is below the
    median, minus that on the others.
    """
    left, right = same_images(a, b)
    energy = "verdict.positive_energy"
    gain = (left[energy] - right[energy]).to_numpy(float)
    strength = left["strength"].to_numpy(float)
    keep = ~np.isnan(gain) & ~np.isnan(strength)
    weak = strength[keep] < np.median(strength[keep])
    groups = left["group"].to_numpy()[keep]
    interval = bootstrap_interval(_weak_gain, groups, gain[keep], weak, resamples=resamples)
    about = second.as_other
    return [pooled_row(dataset, first, "weak_gain_difference", interval, "cam", **about)]


def _weak_gain(gain: Array, weak: Array) -> float:
    if weak.all() or not weak.any():
        return math.nan
    return float(gain[weak].mean() - gain[~weak].mean())
