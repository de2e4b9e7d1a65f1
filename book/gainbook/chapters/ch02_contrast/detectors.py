"""Scores of the two detectors on a draw's images, kept in files: one fit a file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gainbook.chapters.ch02_contrast.crossing import BANK, DISTILLATION
from gainbook.chapters.ch02_contrast.draws import LabelDraw, Rows
from gainbook.lab.run_system import find_weights
from gainbook.lab.stored_arrays import read_arrays, write_arrays
from gainmtl.anomaly import MemoryBank, ReverseDistillation
from gainmtl.anomaly.base import Detector
from gainmtl.anomaly.fitting import fit_detector
from gainmtl.anomaly.scores import anomaly_scores
from gainmtl.anomaly.teacher import STRIDES
from gainmtl.datasets.subsets import SelectedDataset


def build_detector(tag: str, settings: Mapping[str, Any]) -> Detector:
    """An unfitted detector on the study's backbone, both on the same levels."""
    given = settings["backbone"], find_weights(settings["weights"])
    if tag == BANK.tag:
        return MemoryBank(*given, strides=STRIDES, size=settings["bank_size"])
    if tag == DISTILLATION.tag:
        return ReverseDistillation(*given, strides=STRIDES)
    raise ValueError(f"detector: expected {BANK.tag} or {DISTILLATION.tag}, got {tag!r}")


def called_normal(dataset: SelectedDataset) -> SelectedDataset:
    """The dataset with every image labelled as normal: the labels of contaminated normals."""
    dataset.labels = np.zeros(len(dataset), dtype=bool)
    return dataset


def detector_scores(
    tag: str,
    draw: LabelDraw,
    rows: Rows,
    settings: Mapping[str, Any],
    path: Path | None,
    contamination: Rows | None = None,
    made_with: str = "",
) -> NDArray[np.float64]:
    """(N,) scores of a detector fitted to the normal images; NaN but for the scored `rows`.

    Args:
        rows: images that are scored.
        path: of the scores; they are read if they are of the same images and `made_with`.
        contamination: defective images among those that are called normal, in place of as many of
            them.
        made_with: what the scores depend on beside the images.
    """
    taught = draw.normal
    if contamination is not None and len(contamination):
        taught = np.concatenate([draw.normal[: -len(contamination)], contamination])
    names = [draw.images.names[i] for i in np.concatenate([taught, rows]).tolist()]
    stored = read_arrays(path, names, made_with)
    if stored is not None:
        return stored["scores"]
    torch.manual_seed(0)
    detector = build_detector(tag, settings)
    data = dataclasses.replace(
        draw.data,
        train=called_normal(SelectedDataset(draw.images, taught)),
        val=SelectedDataset(draw.images, draw.val),
    )
    fit_detector(
        detector, data, epochs=settings["detector_epochs"], accelerator="cpu", progress=False
    )
    scores = np.full(len(draw.images), np.nan)
    scores[rows] = anomaly_scores(detector, SelectedDataset(draw.images, rows))
    write_arrays(path, names, made_with, scores=scores)
    return scores
