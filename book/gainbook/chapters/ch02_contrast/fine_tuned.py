"""The study of fine-tuned classifiers: recall by the number of defective tiles, beside a detector.

The tiles, the resolution, the backbone and its weights are those of the study with frozen features,
draw by draw.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from gainbook.chapters.ch02_contrast.draws import BOARDS, load_draw
from gainbook.chapters.ch02_contrast.figures import verdict_figures
from gainbook.lab.catalogue import S5, TEXTBOOK
from gainbook.lab.results_file import git_commit, portable
from gainbook.lab.run_system import build, find_weights
from gainbook.lab.seed_study import Cell
from gainmtl.evaluation.scoring import score
from gainmtl.training.fitting import fit

SYSTEMS = (TEXTBOOK, S5)
BY_TAG = {system.tag: system for system in SYSTEMS}
COUNTS = (5, 25, 100)
DRAWS = 3
SETTINGS: dict[str, Any] = {
    "data_root": "deep-pcb",
    "image_size": 128,
    "backbone": "tf_efficientnet_lite0",
    "weights": "package",
    "normal": 200,
    "val": 200,
    "most": 1000,
    "test_normal": 400,
    "test_type": 100,
    "epochs": 8,
    "least": 50,
}
"""`least`: the defective tiles are repeated until there are so many, or a classifier of one
defective and 200 normal tiles would rarely see it."""


def train_and_measure(settings: Mapping[str, Any], place: Cell) -> dict[str, Any]:
    """Fine-tune one system on one draw: the content of its file."""
    started, commit = time.process_time(), git_commit()
    system, seed = BY_TAG[place["system"]], place["seed"]
    draw = load_draw(BOARDS, settings["data_root"], seed, settings, settings["image_size"])
    data = draw.training_data(draw.defective(place["defects"]), settings["least"])
    torch.manual_seed(seed)
    model = build(system, settings["backbone"], find_weights(settings["weights"]))
    recipe = {"batch_size": 16, **dict(system.changes)}
    fit(model, data, settings["epochs"], accelerator="cpu", seed=seed, progress=False, **recipe)
    val, test = (score(model, part).images["defect_probability"] for part in (data.val, data.test))
    found = verdict_figures(np.array(val), np.array(test), draw.types[draw.test])
    return {
        "settings": portable(settings),
        "figures": found,
        "fingerprint": data.fingerprint,
        "commit": commit,
        "seconds": time.process_time() - started,
    }
