"""The studies of fine-tuned classifiers: the number of defective parts, and types left out.

The images, the resolution, the backbone and its weights are those of the study with frozen
features, draw by draw.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from gainbook.chapters.ch02_contrast.crossing import TUNED
from gainbook.chapters.ch02_contrast.draws import BOARDS, COMMON, TILES, LabelDraw, Rows, load_draw
from gainbook.chapters.ch02_contrast.figures import verdict_figures
from gainbook.chapters.ch02_contrast.frozen import TAUGHT, Figures, by_type
from gainbook.lab.results_file import git_commit, portable
from gainbook.lab.run_system import build, find_weights
from gainbook.lab.seed_study import Cell
from gainmtl.evaluation.scoring import defect_scores
from gainmtl.training.fitting import fit

BY_TAG = {system.tag: system for system in TUNED}
COUNTS = {BOARDS: (5, 25, 100), TILES: (5, 25, 40)}
DRAWS = 3
TRAINING: dict[str, Any] = {**COMMON, "epochs": 8, "least": 50}
"""`least`: the defective images are repeated until there are so many, or a classifier of one
defective and 200 normal images would rarely see it."""
SETTINGS: dict[str, dict[str, Any]] = {
    BOARDS: {"data_root": BOARDS, **TRAINING, "most": 1000, "test_normal": 400, "test_type": 100},
    TILES: {"data_root": TILES, **TRAINING, "most": None, "test_normal": None, "test_type": None},
}


class Tuning(NamedTuple):
    """A draw, and how a system is trained on it."""

    draw: LabelDraw
    settings: Mapping[str, Any]
    seed: int

    def scores(self, tag: str, defective: Rows) -> tuple[NDArray[np.float64], float]:
        """Probabilities (N,) by a system trained on these defective images; no detector's share.

        Of the validation and test images; NaN for the others.
        """
        system, given, draw = BY_TAG[tag], self.settings, self.draw
        data = draw.training_data(defective, given["least"])
        torch.manual_seed(self.seed)
        model = build(system, given["backbone"], find_weights(given["weights"]))
        recipe = {"batch_size": 16, **dict(system.changes)}
        recipe |= {"accelerator": "cpu", "seed": self.seed, "progress": False}
        fit(model, data, given["epochs"], **recipe)
        found = np.full(len(draw.images), np.nan)
        for rows, part in ((draw.val, data.val), (draw.test, data.test)):
            found[rows] = defect_scores(model, part)[0]
        return found, 0.0


def measure(
    dataset: str,
    figures_of: Callable[[Tuning, Cell], Figures],
    settings: Mapping[str, Any],
    place: Cell,
) -> dict[str, Any]:
    """Fine-tune one system on one draw, once or more often: the content of its file."""
    started, commit, seed = time.process_time(), git_commit(), place["seed"]
    draw = load_draw(dataset, settings["data_root"], seed, settings, settings["image_size"])
    return {
        "settings": portable(settings),
        "figures": figures_of(Tuning(draw, settings, seed), place),
        "fingerprint": draw.data.fingerprint,
        "commit": commit,
        "seconds": time.process_time() - started,
    }


def at_count(tuning: Tuning, place: Cell) -> Figures:
    """The figures with the cell's number of defective parts."""
    draw = tuning.draw
    scores, _ = tuning.scores(place["system"], draw.defective(place["defects"]))
    return verdict_figures(scores[draw.val], scores[draw.test], draw.types[draw.test])


def at_types(tuning: Tuning, place: Cell) -> Figures:
    """`by_type` with `TAUGHT` defective parts: a training for each type that is left out."""
    return by_type(tuning, place["system"], [TAUGHT])
