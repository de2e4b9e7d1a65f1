"""The shortcut study: systems x agreements of the mark x seeds, one small file per run.

A run is a file `<tag>/agreement<a>/seed<k>.json`; see `study_runs.run`.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch

from gainbook.chapters.ch03_reason.marked_parts import (
    AS_IN_TRAINING,
    HABITS,
    ask_both,
    marked_parts,
    measure,
)
from gainbook.lab.reference import System, find_weights
from gainbook.lab.results_file import git_commit
from gainbook.lab.study_runs import Settings, train
from gainmtl import datasets
from gainmtl.losses import LossWeights
from gainmtl.model import GAINMTL
from gainmtl.strategies import Strategy

AGREEMENTS = (0.5, 0.7, 0.9, 1.0)
"""The share of training parts on which the mark agrees with the state: 0.5 is a mark that says
nothing, 1 one that says everything. The correlation of the two is `2 a - 1`."""
SEEDS = (0, 1, 2, 3, 4)
STRONG = Strategy("S2-guidance10", LossWeights(classification=1.0, cam_guidance=10.0))
"""S2 with a map's loss that outweighs the class term instead of joining it."""
PLAIN = System("S1-stride4", "S1", 4, "S1")
SYSTEMS = (
    PLAIN,
    System("S2-stride4", "S2", 4, "S2"),
    System("S2-guidance10-stride4", STRONG, 4, "S2, guidance 10"),
    System("S3-stride4", "S3", 4, "S3"),
    System("S5-stride4", "S5", 4, "S5"),
)
SHOWN_PARTS = 2
"""Of the first seed, the first defective test parts' maps are kept, for the page."""


class Task(NamedTuple):
    """One run."""

    system: System
    agreement: float
    seed: int

    @property
    def file(self) -> str:
        """Its file under the study's folder."""
        return f"{self.system.tag}/agreement{self.agreement:g}/seed{self.seed}.json"


def tests_of(settings: Settings, agreement: float, seed: int) -> dict[str, datasets.Data]:
    """The data by the mark's habit in the test part; training and validation are the same."""
    return {
        habit: datasets.load(
            "synthetic", image_size=settings.image_size, seed=seed, train=settings.train,
            val=settings.val, test=settings.test, shortcut=agreement, shortcut_test=share,
        )
        for habit, share in {AS_IN_TRAINING: agreement, **HABITS}.items()
    }  # fmt: skip


def run_task(settings: Settings, task: Task) -> dict[str, Any]:
    """Train one model and measure it: the content of its file."""
    # Of the code that is loaded; the checkout may move on while a long study goes.
    started, commit = time.process_time(), git_commit()
    system, seed = task.system, task.seed
    data = tests_of(settings, task.agreement, seed)
    parts = marked_parts({habit: one.test for habit, one in data.items()})  # type: ignore[misc]
    torch.manual_seed(seed)
    model = GAINMTL(
        settings.backbone,
        system.strategy,
        find_weights(settings.weights),
        output_stride=system.output_stride,
        **dict(system.options),
    )
    train(model, data[AS_IN_TRAINING], seed, dataclasses.asdict(settings))
    answers = ask_both(model, parts)
    shown = answers.cell_prob[:SHOWN_PARTS, 0] if seed == SEEDS[0] else answers.cell_prob[:0, 0]
    return {
        "settings": dataclasses.asdict(settings),
        "agreement": task.agreement,
        "seed": seed,
        "figures": measure(answers, parts, model.threshold),
        "threshold": model.threshold,
        "maps": [[round(float(v), 2) for v in one.flatten()] for one in shown],
        "fingerprint": data[AS_IN_TRAINING].fingerprint,
        "commit": commit,
        "seconds": time.process_time() - started,
    }


def tasks(
    systems: Iterable[System] = SYSTEMS,
    agreements: Iterable[float] = AGREEMENTS,
    seeds: Iterable[int] = SEEDS,
) -> list[Task]:
    """All runs, a seed at a time, so that a study cut short has every system."""
    systems, agreements = tuple(systems), tuple(agreements)
    return [Task(s, a, k) for k in seeds for a in agreements for s in systems]
