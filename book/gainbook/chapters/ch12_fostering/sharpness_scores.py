"""How sharp a model's maps are on a test set: image by image, and as result rows."""

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

from gainbook.chapters.ch04_maps.map_scores import FAITHFULNESS, faithfulness
from gainbook.lab.reference import System
from gainbook.lab.results_file import row
from gainmtl import metrics
from gainmtl.evaluation.stats import bootstrap_interval
from gainmtl.fostering import ZEROS
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
BY_ZERO = ("vanished", *SHARPNESS, "positive_energy")
"""What depends on where the map's zero lies; see `gainmtl.fostering`."""
SHAPE_PAIRS = (
    ("cam_entropy", "cam_elliptic_area"),
    ("cam_entropy", "cam_dispersion"),
    ("cam_elliptic_area", "cam_dispersion"),
)
"""Whose rank correlation is asked."""
MEDIANS = ("cam_relative_difference",)
"""Measures that may be infinite: their rows are medians, undefined where half of the maps are."""


def feature_strength(images: Tensor, masks: Tensor) -> Tensor:
    """How much a defect stands out of its surroundings, (B,) >= 0; NaN without any.

    `|mean inside - mean around| / (spread around + 1/255)`, of grey levels in [0, 1]; around is a
    ring outside the mask, an eighth of the image wide. images (B, 3, H, W) in [0, 1], masks
    (B, 1, H, W). A fact of the picture, known without any network.
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


@torch.no_grad()
def score_sharpness(
    model: GAINMTL,
    dataset: Dataset[Sample],
    faithful: int = 0,
    batch_size: int = 32,
    steps: int = 16,
    seed: int = 0,
) -> pd.DataFrame:
    """One row per defective image with a mask: the shape, the place and the worth of its evidence.

    Columns: `name, group, defect_type, is_flagged, strength, point_game`; `pixel_precision`, the
    image's own pixel AP; `<zero>.<measure>` for both `fostering.ZEROS` and `BY_ZERO`; and
    `map_scores.FAITHFULNESS` on `faithful` images drawn by `seed`, the same for every model, NaN
    elsewhere. A map that vanished has no shape (NaN) and no positive energy (0).
    """
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    known: Any = dataset
    bad = np.flatnonzero(known.labels & known.has_mask)
    drawn = set(np.random.default_rng(seed).permutation(bad)[:faithful].tolist())

    def ask(images: Tensor) -> Tensor:
        return model(images).defect_probability

    tables = []
    for start in range(0, len(bad), batch_size):
        places = bad[start : start + batch_size].tolist()
        batch = collate([dataset[i] for i in places])
        images = model.preprocess(batch.image.to(device))
        out = model(images)
        cam = out.cam.float().cpu()
        table = pd.DataFrame(
            {
                "name": batch.name,
                "group": batch.group,
                "defect_type": batch.defect_type,
                "is_flagged": (out.defect_probability.cpu() >= model.threshold).numpy(),
                "strength": feature_strength(batch.image, batch.mask).numpy(),
                "point_game": metrics.point_game(cam, batch.mask).numpy(),
                "pixel_precision": metrics.pixel_ap(cam, batch.mask).numpy(),
            }
        )
        for zero, shift in zip(ZEROS, (evidence_bias(model, out).cpu(), 0.0), strict=True):
            shown = cam + shift
            table[f"{zero}.vanished"] = metrics.vanished(shown).double().numpy()
            table[f"{zero}.positive_energy"] = metrics.positive_energy(shown, batch.mask).numpy()
            for name, measure in SHARPNESS.items():
                table[f"{zero}.{name}"] = measure(shown).double().numpy()
        for name in FAITHFULNESS:
            table[name] = math.nan
        asked = [k for k, i in enumerate(places) if i in drawn]
        if asked:
            some = torch.tensor(asked)
            found = faithfulness(ask, images[some.to(device)], out.cam[some.to(device)], steps)
            for name, values in found.items():
                table.loc[asked, name] = values.cpu().double().numpy()
        tables.append(table)
    model.train(was_training)
    return pd.concat(tables, ignore_index=True)


def evidence_bias(model: GAINMTL, out: Outputs) -> Tensor:
    """`b_c - b_0` of the class whose evidence `out.cam` is, (B, 1, 1, 1)."""
    bias = model.deciding_head.bias.detach().float()
    return (bias[1:][out.logits[:, 1:].argmax(1)] - bias[0])[:, None, None, None]


def middle(metric: str) -> Callable[[Array], float]:
    """The mean, of `MEDIANS` the median; NaN where that is infinite."""
    return _finite_median if metric in MEDIANS else np.mean


def _finite_median(values: Array) -> float:
    found = float(np.median(values))
    return found if math.isfinite(found) else math.nan


def sharpness_rows(
    table: pd.DataFrame,
    dataset: str,
    system: System,
    resamples: int = 2000,
    pointing: bool = True,
) -> list[dict[str, Any]]:
    """Result rows of `score_sharpness`: means, of `MEDIANS` medians, with intervals over groups.

    NaN values are left out, and a column of nothing else has no row. `rank_correlation` rows say
    how alike two measures of shape order the maps, `of` and `with` in the condition. What depends
    on the zero says it in the condition. Without `pointing` the rows of the PointGame are left to
    `evaluate`, which makes the same.
    """
    rows: list[dict[str, Any]] = []
    groups = table["group"].to_numpy()

    def add(metric: str, statistic: Any, arrays: list[Array], keep: Array, **about: Any) -> None:
        kept = [array[keep] for array in arrays]
        value, low, high = float(statistic(*kept)), None, None
        if resamples:
            found = bootstrap_interval(statistic, groups[keep], *kept, resamples=resamples)
            low, high = found.low, found.high
        rows.append(
            row(
                dataset,
                system.name,
                metric,
                value,
                condition={**system.condition, **about},
                map="cam",
                ci_low=low,
                ci_high=high,
                n=int(keep.sum()),
            )
        )

    free = (("point_game",) if pointing else ()) + ("pixel_precision", *FAITHFULNESS)
    columns = [(f"{zero}.{name}", {"zero": zero}) for zero in ZEROS for name in BY_ZERO]
    for column, about in columns + [(name, {}) for name in free]:
        metric, values = column.rpartition(".")[2], table[column].to_numpy(float)
        keep = ~np.isnan(values)
        if keep.any():
            add("cam_" * (metric == "vanished") + metric, middle(metric), [values], keep, **about)
    for zero in ZEROS:
        for first, second in SHAPE_PAIRS:
            pair = [table[f"{zero}.{name}"].to_numpy(float) for name in (first, second)]
            keep = ~np.isnan(pair[0]) & ~np.isnan(pair[1])
            if keep.sum() > 2:
                about = {"of": first, "with": second, "zero": zero}
                add("rank_correlation", _spearman, pair, keep, **about)
    return rows


def _spearman(a: Array, b: Array) -> float:
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return math.nan
    return float(spearmanr(a, b).statistic)
