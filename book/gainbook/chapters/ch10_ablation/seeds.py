"""One run of the study over seeds: a strategy trained and measured on synthetic parts."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch

from gainbook.chapters.ch10_ablation.ladder import SIX
from gainbook.lab import seed_study
from gainbook.lab.flips import score_flips
from gainbook.lab.results_file import git_commit
from gainbook.lab.run_system import find_weights
from gainbook.lab.seed_study import Cell, figure, scored_figures, train
from gainmtl import datasets
from gainmtl.evaluation.interventions import INTERVENTIONS, LEVELS
from gainmtl.model import GAINMTL

SETTINGS = seed_study.SETTINGS | {"train": 256, "val": 96, "batch_size": 8}
SETTINGS_OF: dict[str, dict[str, Any]] = {
    "plain": {},
    "shortcut": {"shortcut": 0.95, "shortcut_test": 0.5},
}
"""Arguments of the data set by setting: defects alone, and a mark that agrees with the state on
95 % of the training parts and carries no information in the test."""
WORDS = {"plain": "plain defects", "shortcut": "a mark that misleads"}
MEASURED = (
    "auroc", "average_precision", "recall_at_fpr05", "recall", "iou", "point_game",
    "positive_energy", "pixel_ap", "false_activation",
)  # fmt: skip


def train_and_measure(settings: Mapping[str, Any], cell: Cell) -> dict[str, Any]:
    """Train one model and measure it: the content of its file."""
    started, commit = time.process_time(), git_commit()
    seed, setting = cell["seed"], cell["setting"]
    system = {system.tag: system for system in SIX}[cell["system"]]
    sizes = {name: settings[name] for name in ("image_size", "train", "val", "test")}
    data = datasets.load("synthetic", seed=seed, **sizes, **SETTINGS_OF[setting])
    torch.manual_seed(seed)
    model = GAINMTL(
        settings["backbone"], system.strategy, find_weights(settings["weights"]),
        output_stride=system.output_stride,
    )  # fmt: skip
    train(model, data, seed, settings)
    per_epoch = (time.process_time() - started) / settings["epochs"]
    return {
        "settings": dict(settings),
        "setting": setting,
        "seed": seed,
        "figures": [*measure(model, data.test), figure("cpu_seconds_per_epoch", per_epoch)],
        "fingerprint": data.fingerprint,
        "commit": commit,
        "seconds": time.process_time() - started,
    }


def measure(model: GAINMTL, test: Any) -> list[dict[str, Any]]:
    """Figures of one model: verdict, maps, and what interventions do to the verdicts."""
    figures = scored_figures(model, test, "synthetic", MEASURED)
    answers = score_flips({"model": model}, test)["model"]
    for level in LEVELS:
        for name in INTERVENTIONS:
            rate = answers[f"flip.{level}.{name}"].mean()  # of flagged parts: NaN is left out
            figures.append(figure("flip_rate", rate, level=level, intervention=name))
        selectivity = answers[f"selectivity.{level}"].mean()
        figures.append(figure("selectivity", selectivity, level=level))
    return figures
