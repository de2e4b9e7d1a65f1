"""The shortcut study: systems x agreements of the mark x seeds, one small file per run.

A run is a file `<tag>/agreement<a>/seed<k>.json`, written whole when the run is done. A second
start runs what is missing, and several processes share the work.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import multiprocessing
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from gainmtl import datasets
from gainmtl.files import read_json, write_json
from gainmtl.losses import LossWeights
from gainmtl.model import GAINMTL
from gainmtl.reference import WEIGHTS, System, find_weights
from gainmtl.runs import git_commit
from gainmtl.shortcuts import AS_IN_TRAINING, HABITS, ask_both, marked_parts, measure
from gainmtl.strategies import Strategy
from gainmtl.train import fit

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


@dataclasses.dataclass(frozen=True)
class Settings:
    """What all runs have in common."""

    image_size: int = 64
    train: int = 480
    val: int = 120
    test: int = 200
    backbone: str = "test_efficientnet"
    weights: str | None = WEIGHTS
    epochs: int = 10
    batch_size: int = 16
    learning_rate: float = 4e-3
    average_decay: float = 0.95


class Task(NamedTuple):
    """One run."""

    system: System
    agreement: float
    seed: int

    def path(self, folder: Path) -> Path:
        """Where its file lies."""
        return folder / self.system.tag / f"agreement{self.agreement:g}" / f"seed{self.seed}.json"


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
    fit(
        model, data[AS_IN_TRAINING], settings.epochs, accelerator="cpu", seed=seed,
        batch_size=settings.batch_size, learning_rate=settings.learning_rate,
        average_decay=settings.average_decay, progress=False,
    )  # fmt: skip
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


def _work(folder: Path, settings: Any, task: Any, execute: Callable[..., dict[str, Any]]) -> Any:
    torch.set_num_threads(1)
    write_json(task.path(folder), execute(settings, task))
    return task


def run(
    folder: str | Path,
    settings: Any,
    wanted: Sequence[Any],
    workers: int = 1,
    done: Callable[[Any, int], None] | None = None,
    execute: Callable[..., dict[str, Any]] = run_task,
) -> list[dict[str, Any]]:
    """Run what has no file in `folder` yet and return the content of all, in `wanted`'s order.

    Args:
        settings: a frozen dataclass, as `Settings`.
        wanted: tasks, each with a `path`, as `Task`.
        workers: processes, one thread each.
        execute: settings and a task to the content of its file, with the settings among it.
        done: called with each finished run and how many are left.

    Raises:
        ValueError: a file in `folder` was made with other settings.
    """
    folder = Path(folder)
    missing = [task for task in wanted if not task.path(folder).is_file()]
    for task in wanted:
        if task not in missing:
            _check(task.path(folder), settings)
    left = len(missing)
    if left:
        # Fresh interpreters: a forked one would share torch's threads with its parent.
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(workers, context) as pool:
            jobs = [pool.submit(_work, folder, settings, task, execute) for task in missing]
            for job in concurrent.futures.as_completed(jobs):
                left -= 1
                if done is not None:
                    done(job.result(), left)
                job.result()
    return [read_json(task.path(folder)) for task in wanted]


def _check(path: Path, settings: Any) -> None:
    found, expected = read_json(path)["settings"], dataclasses.asdict(settings)
    if found != expected:
        differ = [key for key in expected if found.get(key) != expected[key]]
        raise ValueError(
            f"{path}: a run with other settings ({', '.join(differ)}); expected "
            f"{ {key: expected[key] for key in differ} }. Use another folder, or remove this one."
        )
