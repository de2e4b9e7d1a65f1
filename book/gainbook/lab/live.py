"""The live part of a chapter: a system trained on built-in parts in front of the reader."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch

from gainbook.lab.comparison import compare, pooled_rows
from gainbook.lab.folds import CORE
from gainbook.lab.parameters import Parameters
from gainbook.lab.protocol import Pooled
from gainbook.lab.results_file import name_weights
from gainbook.lab.run_system import SMALL, build, find_weights
from gainbook.lab.systems import System
from gainmtl.datasets import Data, load
from gainmtl.evaluation.scoring import score
from gainmtl.files import claimed
from gainmtl.training.fitting import fit

LIVE_SMALL: dict[str, Any] = SMALL | {
    "image_size": 64, "epochs": 12, "batch_size": 8, "learning_rate": 4e-3
}  # fmt: skip
"""Parameters of the live parts that share their systems; with `LIVE_IMAGES` training images."""
LIVE_IMAGES = 96
STORE = "live"
"""Where trained live systems are kept: a folder beside the notebooks' output folders."""


class Trained(NamedTuple):
    """A model in evaluation mode on the CPU, and the history of its training."""

    model: Any
    history: pd.DataFrame


def live_data(live: Parameters, images: int = LIVE_IMAGES, **settings: Any) -> Data:
    """The synthetic parts of a live part; equal arguments give equal parts in every chapter."""
    given = {"train": images, "val": 48, "test": 96, **settings}
    return load("synthetic", image_size=live.image_size, seed=live.seeds[0], **given)


def train_live(
    system: System, data: Data, live: Parameters, seed: int | None = None, **recipe: Any
) -> Trained:
    """Train a system by the parameters of a live part, or read what another chapter trained.

    A trained system is kept under `STORE` by everything that its training depends on, the core's
    sources included. Two chapters that want the same one at the same time wait for each other.

    Args:
        seed: of the first weights and the order of images; `None`: the first of the parameters'.
        recipe: further arguments of `fit`, as `average_decay` (0.95 unless given) and
            `backbone_rate` (0.2: the small backbone was trained on such parts).
    """
    p = live
    system = system.trained_as or system
    seed = p.seeds[0] if seed is None else seed
    arguments: dict[str, Any] = {
        "epochs": p.epochs, "accelerator": p.accelerator, "devices": p.devices,
        "precision": p.precision, "seed": seed, "batch_size": p.batch_size,
        "learning_rate": p.learning_rate, "average_decay": 0.95, "backbone_rate": 0.2, **recipe,
    }  # fmt: skip
    identity = [
        system._replace(label=""), p.backbone, name_weights(find_weights(p.weights)),
        data.fingerprint, data.image_size, sorted(arguments.items()), CORE,
    ]  # fmt: skip
    digest = hashlib.sha256(repr(identity).encode()).hexdigest()[:12]
    folder = Path(p.output_dir).parent / STORE / f"{system.folder}-{digest}"
    torch.manual_seed(seed)
    model = build(system, p.backbone, find_weights(p.weights))
    folder.mkdir(parents=True, exist_ok=True)
    with claimed(folder, seconds=-1, name=".live.lock"):  # another chapter may train it just now
        history = fit(model, data, output_dir=folder, progress=False, **arguments)
    return Trained(model.cpu().eval(), history.assign(fold=0))


def score_live(
    system: System, trained: Trained, dataset: Any, interventions: bool = False
) -> Pooled:
    """The scores of a live model on a test set, in the form of one fold's."""
    scores = score(trained.model, dataset, interventions=interventions)
    return Pooled(system.name, system.condition, [scores], scores, trained.history, (), 0.0, ())


def live_rows(
    pooled: Mapping[System, Pooled],
    pairs: Sequence[tuple[System, System]] = (),
    seed: int = 0,
    resamples: int = 200,
    paired_resamples: int = 300,
) -> list[dict[str, Any]]:
    """Pooled result rows of live systems, and paired differences, first minus second."""
    rows: list[dict[str, Any]] = []
    for one in pooled.values():
        table = pooled_rows(one, "synthetic", seed, resamples)
        rows += table[table["fold"].isna()].to_dict("records")
    for a, b in pairs:
        table = compare(pooled[a], pooled[b], "synthetic", paired_resamples)
        rows += table.drop(columns="p_value").to_dict("records")
    return rows
