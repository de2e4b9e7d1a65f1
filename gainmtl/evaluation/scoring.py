"""Scores of a model on a dataset: one row per image.

The model computes its outputs from images alone; masks are only compared with the outputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from gainmtl import metrics
from gainmtl.cam import resize_map
from gainmtl.counterfactual import cell_mask
from gainmtl.datasets.checks import whole
from gainmtl.evaluation.inpainting import free_shift, shift
from gainmtl.interface import DefectModel, check_model, check_part, check_reading, evaluating
from gainmtl.model import GAINMTL
from gainmtl.types import Batch, Located, Outputs, Sample, collate

MAP_MEASURES = {
    "iou": metrics.map_iou,
    "point_game": metrics.point_game,
    "energy_inside": metrics.energy_inside,
    "positive_energy": metrics.positive_energy,
}
"""Per-image measures of a map against the mask, NaN without a mask."""


ADVICE = "gainmtl.anomaly.score_detector takes a detector; gainmtl.load reads a saved model"
"""Advice where a classifier is expected."""


class Scores(NamedTuple):
    """Outputs and measures of a model for every image of a dataset."""

    images: pd.DataFrame
    """Columns `name, group, defect_type, is_defective, has_mask, defect_probability, is_flagged`;
    `<map>.<measure>` per map and measure, `oracle.<measure>` of the area-pooled mask on the grid of
    `cam`, `<map>.false_activation` on normal images, and `flip.<intervention>`; with K > 2 classes
    also `predicted_type`, the most probable class."""
    histograms: dict[str, metrics.PixelHistogram]
    """Pixel scores per map, images in the same order; images without a mask count no pixel."""


def batches(dataset: Dataset[Sample], batch_size: int) -> Iterator[Batch]:
    """The samples of a dataset in order, stacked; errors as `check_part`."""
    check_part(dataset)
    whole("batch_size", batch_size, 1, 100_000)
    loader: DataLoader[Any] = DataLoader(dataset, batch_size=batch_size, collate_fn=collate)
    return iter(loader)


def sample_columns(batch: Batch) -> dict[str, NDArray[Any]]:
    """The columns of `Scores.images` that don't depend on a model, (B,) each."""
    return {
        "name": np.array(batch.name),
        "group": np.array(batch.group),
        "defect_type": np.array(batch.defect_type),
        "is_defective": batch.is_defective.numpy(),
        "has_mask": batch.has_mask.numpy(),
    }


def _images(model: DefectModel, dataset: Any, images: Tensor) -> Tensor:
    """Images of a dataset on the model's device, channels last, normalised."""
    check_reading(model, images, dataset)
    device = next(model.parameters()).device
    return model.preprocess(images.to(device).contiguous(memory_format=torch.channels_last))


@torch.no_grad()
def defect_scores(
    model: DefectModel, dataset: Dataset[Sample], batch_size: int = 32
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Defect probabilities and labels, each (N,); errors as `score`."""
    check_model("defect_scores", model, (DefectModel,), ADVICE)
    scores, labels = [], []
    with evaluating(model):
        for batch in batches(dataset, batch_size):
            logits = model(_images(model, dataset, batch.image)).logits
            scores.append(_probability(logits))
            labels.append(batch.is_defective.numpy())
    return np.concatenate(scores), np.concatenate(labels)


def _probability(logits: Tensor) -> NDArray[np.float64]:
    """Defect probabilities (B,), in float64 on the CPU: not every device has float64."""
    return (1 - logits.cpu().double().softmax(1)[:, 0]).numpy()


LOGIT_RANGE = (-16.0, 16.0)
"""Range of the pixel histograms, in logits: there a confident map still covers many bins."""


def _map_logits(model: DefectModel, out: Outputs | Located) -> dict[str, Tensor]:
    """The logits of the outputs' maps, on the CPU; those of `cam` are the calibrated evidence."""
    maps: dict[str, Tensor] = {}
    if isinstance(model, GAINMTL) and isinstance(out, Outputs):
        maps["cam"] = model.calibrate(out.cam, out.logits)
    maps["defect_map"] = out.defect_map.logit(eps=1e-7)
    if isinstance(out, Outputs) and out.attention_logits is not None:
        maps["attention"] = out.attention_logits
    if isinstance(out, Outputs) and out.localization_logits is not None:
        maps["localization"] = out.localization_logits
    return {name: value.float().cpu() for name, value in maps.items()}


@torch.no_grad()
def score(
    model: DefectModel, dataset: Dataset[Sample], batch_size: int = 32, interventions: bool = True
) -> Scores:
    """Outputs of `model` for every sample, measured against labels and masks.

    `interventions` adds, for defective images with a mask, whether the verdict becomes normal when
    features are replaced by the mean of normal features: `flip.removed` under the mask, `flip.kept`
    everywhere else, `flip.moved` in as many cells elsewhere. Each is 0 or 1, and NaN if the verdict
    was not defective before, or if the cells of the mask have no other place without overlap. They
    cost two more passes of the heads. A model without an evidence map has neither these columns nor
    those of `cam` and `oracle`.

    Raises:
        TypeError: no classifier, or no part of the data.
        ValueError: an empty part, images of another size or resizing than in training, or a
            threshold or a score that is impossible.
    """
    check_model("score", model, (DefectModel,), ADVICE)
    rows: list[dict[str, NDArray[Any]]] = []
    histograms: dict[str, metrics.PixelHistogram] = {}
    generator = torch.Generator().manual_seed(0)
    with evaluating(model):
        for batch in batches(dataset, batch_size):
            images = _images(model, dataset, batch.image)
            features: Tensor | None = None
            if isinstance(model, GAINMTL):
                encoding = model.encode(images)
                features = encoding.features
                out: Outputs | Located = model.heads(encoding, _size(batch))
            else:
                out = model(images)
            probability = _probability(out.logits)
            defective, has_mask = batch.is_defective.numpy(), batch.has_mask.numpy()
            row: dict[str, NDArray[Any]] = {
                **sample_columns(batch),
                "defect_probability": probability,
                "is_flagged": metrics.is_flagged(probability, model.threshold),
            }
            if isinstance(model, GAINMTL) and len(model.classes) > 2:
                row["predicted_type"] = np.array(model.classes)[out.logits.argmax(1).cpu().numpy()]
            marked = defective & has_mask
            for name, map_logits in _map_logits(model, out).items():
                maps = torch.sigmoid(map_logits)
                measured = maps
                # The measures of a CAM are defined on the raw evidence, not on its sigmoid.
                if isinstance(out, Outputs) and name == "cam":
                    measured = out.cam.float().cpu()
                for measure, function in MAP_MEASURES.items():
                    row[f"{name}.{measure}"] = _where(function(measured, batch.mask), marked)
                row[f"{name}.false_activation"] = _where(
                    metrics.false_activation(resize_map(maps, _size(batch))), ~defective
                )
                histogram = metrics.PixelHistogram.of(
                    map_logits, batch.mask, low=LOGIT_RANGE[0], high=LOGIT_RANGE[1]
                )
                histogram.positives[~has_mask] = 0
                histogram.negatives[~has_mask] = 0
                histograms[name] = histograms[name] + histogram if name in histograms else histogram
            if isinstance(out, Outputs):
                oracle = metrics.oracle_map(batch.mask, (out.cam.shape[2], out.cam.shape[3]))
                for measure, function in MAP_MEASURES.items():
                    row[f"oracle.{measure}"] = _where(function(oracle, batch.mask), marked)
            if interventions and features is not None and isinstance(model, GAINMTL):
                row |= _flips(model, features, batch, marked & row["is_flagged"], generator)
            rows.append(row)
    table = pd.DataFrame({key: np.concatenate([row[key] for row in rows]) for key in rows[0]})
    return Scores(table, histograms)


def _size(batch: Batch) -> tuple[int, int]:
    return batch.mask.shape[2], batch.mask.shape[3]


def _where(values: Tensor, gate: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.where(gate, values.double().cpu().numpy(), np.nan)


def _flips(
    model: GAINMTL,
    features: Tensor,
    batch: Batch,
    flagged: NDArray[np.bool_],
    generator: torch.Generator,
) -> dict[str, NDArray[np.float64]]:
    """Columns `flip.<intervention>`; `flagged` (B,) are marked defects with a defective verdict."""
    flips = {
        name: np.full(len(flagged), np.nan) for name in ("flip.removed", "flip.kept", "flip.moved")
    }
    if flagged.any():
        chosen = torch.from_numpy(flagged)
        features = features[chosen.to(features.device)]
        # The control is moved as cells: on a coarse grid cells beside the mask contain the defect.
        cells = cell_mask(batch.mask[chosen], (features.shape[2], features.shape[3]))
        shifts, exists = free_shift(cells, cells, generator)
        elsewhere = shift(cells, shifts).to(features.device)
        true = model.counterfactual(features, cells.to(features.device), margin=0)
        moved = model.counterfactual(features, elsewhere, margin=0)
        for name, value in zip(flips, (true.removed, true.kept, moved.removed), strict=True):
            verdicts = metrics.is_flagged(value.cpu().double().numpy(), model.threshold)
            flips[name][flagged] = ~verdicts
        flips["flip.moved"][np.flatnonzero(flagged)[~exists.numpy()]] = np.nan
    return flips
