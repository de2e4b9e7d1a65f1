"""The reference protocol: train and test by folds, pool the predictions."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
import pandas as pd
import torch

from gainbook.lab.results_file import git_commit
from gainmtl import metrics
from gainmtl.anomaly.fitting import fit_detector
from gainmtl.anomaly.scores import score_detector
from gainmtl.datasets import Data
from gainmtl.evaluation.scoring import LOGIT_RANGE, Scores, score
from gainmtl.files import atomic_path, read_json, user_path, write_json
from gainmtl.io import load
from gainmtl.training.fitting import fit
from gainmtl.training.run import MODEL

REFERENCE: dict[str, Any] = {
    "epochs": 10,
    "batch_size": 8,
    "learning_rate": 4e-3,
    "weight_decay": 0.1,
    "freeze_stride": 4,
    "average_decay": 0.98,
    "augmentation": "light",
}
"""The recipe of the reference runs, the same for every compared system; see `Recipe`."""


FACTS = "scores.json"
"""Written last of a fold's files: where it exists, the others are complete."""


class Kind(NamedTuple):
    """How a kind of model is fitted, loaded and scored; see `cross_validate`."""

    name: Callable[[Any], str]
    """From a model to its system's name in result rows."""
    fit: Callable[..., pd.DataFrame]
    load: Callable[[Path], Any]
    score: Callable[[Any, Any], Scores]


def classifier() -> Kind:
    """Any `DefectModel`: `GAINMTL` and the compared systems."""
    return Kind(lambda model: str(model.strategy.name), fit, load, score)


def detector() -> Kind:
    """Any anomaly detector."""
    return Kind(lambda model: str(model.name), fit_detector, load, score_detector)


class Pooled(NamedTuple):
    """One system over all folds of one seed."""

    system: str
    condition: dict[str, Any]
    folds: list[Scores]
    scores: Scores
    """The test images of all folds together."""
    histories: pd.DataFrame
    """The rows of `fit`, with a column `fold`."""
    commits: tuple[str, ...]
    """The commits the folds were trained at."""
    seconds: float
    """Training and testing of all folds."""
    model_paths: tuple[Path, ...]

    @property
    def label(self) -> str:
        """Name and condition, for figures."""
        return f"{self.system} {self.condition}" if self.condition else self.system


def fold_seed(seed: int, fold: int) -> int:
    """Seed of the generator before a fold's model is built: another one for each seed and fold."""
    return seed * 1009 + fold


def cross_validate(
    build: Callable[[], Any],
    load_fold: Callable[[int], Data],
    output_dir: str | Path,
    folds: int = 5,
    seed: int = 0,
    condition: dict[str, Any] | None = None,
    only: Sequence[int] | None = None,
    kind: Kind | None = None,
    **fit_arguments: Any,
) -> Pooled:
    """Fit a fresh model per fold, score its test fold once, pool.

    Every result is written under `output_dir/fold<k>` as soon as it is computed: an interrupted run
    continues inside its fold, and a finished fold is read.

    Args:
        build: makes an untrained model; called after seeding, so equal seeds give equal weights.
        load_fold: the data of one fold.
        condition: of the result rows; distinguishes systems of one strategy.
        only: the folds to run; `None` is all of them.
        kind: of the model that `build` makes; `None`: `classifier()`.
        fit_arguments: passed to the kind's `fit`.
    """
    parts: list[Scores] = []
    histories, commits, paths, seconds = [], [], [], 0.0
    system = ""
    kind = kind or classifier()
    # Of the loaded code: the checkout may change during a long run.
    commit = git_commit()
    for fold in range(folds) if only is None else only:
        folder = user_path(output_dir) / f"fold{fold}"
        torch.manual_seed(fold_seed(seed, fold))
        model = build()
        system = kind.name(model)
        data = load_fold(fold)
        history = kind.fit(model, data, output_dir=folder, seed=seed, **fit_arguments)
        if (folder / FACTS).is_file():
            try:
                scores, facts = _read(folder)
                facts["trained_at_commit"], facts["scoring_seconds"]
            except (EOFError, KeyError, OSError, TypeError, ValueError, BadZipFile) as error:
                raise ValueError(
                    f"expected the whole scores of a fold in {folder}, found damaged ones: {error}."
                    f" Remove {FACTS} there; the model is then scored again"
                ) from error
        else:
            # From the file that a user would load, so what is scored is what is shipped.
            start = time.perf_counter()
            scores = kind.score(kind.load(folder / MODEL), data.test)
            facts = {"trained_at_commit": commit, "scoring_seconds": time.perf_counter() - start}
            _write(folder, scores, facts)
        parts.append(scores)
        histories.append(history.assign(fold=fold))
        commits.append(str(facts["trained_at_commit"]))
        seconds += float(history["seconds"].sum()) + float(facts["scoring_seconds"])
        paths.append(folder / MODEL)
    return Pooled(
        system,
        dict(condition or {}),
        parts,
        pool(parts),
        pd.concat(histories, ignore_index=True),
        tuple(dict.fromkeys(commits)),
        seconds,
        tuple(paths),
    )


def pool(parts: Sequence[Scores]) -> Scores:
    """The images of several test folds as one."""
    names = [name for part in parts for name in part.images["name"]]
    if len(names) != len(set(names)):
        raise ValueError(
            "pool: an image stands in more than one test fold; pool folds of one split"
        )
    histograms = dict(parts[0].histograms)
    for part in parts[1:]:
        histograms = {name: histograms[name] + part.histograms[name] for name in histograms}
    return Scores(pd.concat([part.images for part in parts], ignore_index=True), histograms)


def _write(folder: Path, scores: Scores, facts: dict[str, Any]) -> None:
    arrays = {}
    for name, histogram in scores.histograms.items():
        arrays[f"{name}.positives"] = histogram.positives
        arrays[f"{name}.negatives"] = histogram.negatives
        if histogram.regions is not None:
            arrays[f"{name}.regions"] = histogram.regions
    with atomic_path(folder / "histograms.npz") as temporary, temporary.open("wb") as handle:
        np.savez_compressed(handle, **arrays)  # type: ignore[arg-type]
    with atomic_path(folder / "scores.csv") as temporary:
        scores.images.to_csv(temporary, index=False)
    write_json(folder / FACTS, facts)


def _read(folder: Path) -> tuple[Scores, dict[str, Any]]:
    # As text first: no rounding whatever the version of pandas, and a defect type called "None"
    # stays a text.
    images = pd.read_csv(folder / "scores.csv", dtype=str, keep_default_na=False)
    for column in images.columns:
        if column in ("is_defective", "has_mask", "is_flagged"):
            images[column] = images[column] == "True"
        elif column not in ("name", "group", "defect_type", "predicted_type"):
            images[column] = [float(value) if value else math.nan for value in images[column]]
    with np.load(folder / "histograms.npz") as stored:
        arrays = dict(stored)
    names = [key.removesuffix(".positives") for key in arrays if key.endswith(".positives")]
    histograms = {
        name: metrics.PixelHistogram(
            arrays[f"{name}.positives"],
            arrays[f"{name}.negatives"],
            *LOGIT_RANGE,
            arrays.get(f"{name}.regions"),
        )
        for name in names
    }
    counted = {len(histogram.positives) for histogram in histograms.values()}
    if counted - {len(images)}:
        raise ValueError(f"{len(images)} rows in scores.csv, {counted} images in histograms.npz")
    return Scores(images, histograms), read_json(folder / FACTS)
