"""The ablation on synthetic parts: S1 to S6 x two settings x seeds, one small file per run.

Where the magnetic tiles have one data set and one seed per fold, here the training itself is
repeated. A run is a file `<tag>/<setting>/seed<k>.json`; see `study_runs.run`.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from gainbook.chapters.ch08_counterfactual.flips import selectivity
from gainbook.chapters.ch10_ablation.ladder import SIX
from gainbook.lab import study_runs
from gainbook.lab.chapter_results import Results
from gainbook.lab.reference import System, find_weights
from gainbook.lab.results_file import git_commit, row
from gainmtl import datasets
from gainmtl.evaluation.interventions import LEVELS, ask
from gainmtl.evaluation.scoring import score
from gainmtl.evaluation.stats import Interval, student_interval
from gainmtl.evaluation.tidy import tidy
from gainmtl.model import GAINMTL

NAME = "10_synthetic"
COMMAND = "python tools/ablation_study.py --output-dir runs/ablation --workers 2"
REPEAT = f"```bash\n{COMMAND}\ncp runs/ablation/results.json book/results/{NAME}.json\n```"
"""How the stored results are made, in Markdown."""
SEEDS = (0, 1, 2, 3, 4)
SETTINGS_OF: dict[str, dict[str, Any]] = {
    "plain": {},
    "shortcut": {"shortcut": 0.95, "shortcut_test": 0.5},
}
"""Dials by setting: defects and nothing else; and a mark that agrees with the state on 95 % of the
training parts and says nothing in the test."""
WORDS = {"plain": "plain defects", "shortcut": "a mark that misleads"}
MEASURED = ("auroc", "average_precision", "recall_at_fpr05", "recall", "iou", "point_game",
            "positive_energy", "pixel_ap", "false_activation")  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Settings(study_runs.Settings):
    """What all runs have in common."""

    train: int = 256
    val: int = 96
    batch_size: int = 8


class Task(NamedTuple):
    """One run."""

    system: System
    setting: str
    seed: int

    @property
    def file(self) -> str:
        """Its file under the study's folder."""
        return f"{self.system.tag}/{self.setting}/seed{self.seed}.json"


def tasks(
    systems: Iterable[System] = SIX,
    settings: Iterable[str] = tuple(SETTINGS_OF),
    seeds: Iterable[int] = SEEDS,
) -> list[Task]:
    """All runs, a seed at a time, so that a study cut short has every system."""
    systems, settings = tuple(systems), tuple(settings)
    return [Task(s, name, k) for k in seeds for name in settings for s in systems]


def run_task(settings: Settings, task: Task) -> dict[str, Any]:
    """Train one model and measure it: the content of its file."""
    started, commit = time.process_time(), git_commit()
    data = datasets.load(
        "synthetic", image_size=settings.image_size, seed=task.seed, train=settings.train,
        val=settings.val, test=settings.test, **SETTINGS_OF[task.setting],
    )  # fmt: skip
    torch.manual_seed(task.seed)
    model = GAINMTL(
        settings.backbone, task.system.strategy, find_weights(settings.weights),
        output_stride=task.system.output_stride,
    )  # fmt: skip
    study_runs.train(model, data, task.seed, dataclasses.asdict(settings))
    training = time.process_time() - started
    return {
        "settings": dataclasses.asdict(settings),
        "setting": task.setting,
        "seed": task.seed,
        "figures": [
            *measure(model, data.test),
            _figure("cpu_seconds_per_epoch", training / settings.epochs),
        ],
        "fingerprint": data.fingerprint,
        "commit": commit,
        "seconds": time.process_time() - started,
    }


def measure(model: GAINMTL, test: Any) -> list[dict[str, Any]]:
    """Figures of one model: entries `metric`, `map`, `condition`, `value`."""
    table = tidy(score(model, test), "synthetic", "test", model.strategy.name, resamples=0)
    whole = table["condition"].map(lambda c: not c)
    kept = table[table["metric"].isin(MEASURED) & whole]
    found = [
        _figure(line.metric, line.value, None if pd.isna(line.map) else line.map)
        for line in kept.itertuples()
    ]
    answers = ask({"model": model}, test)["model"]
    for level in LEVELS:
        for name in ("removed", "moved", "kept"):
            rate = _mean(answers[f"flip.{level}.{name}"])
            found.append(_figure("flip_rate", rate, level=level, intervention=name))
        found.append(_figure("selectivity", _mean(selectivity(answers, level)), level=level))
    return found


def _mean(values: pd.Series) -> float:
    known = values.to_numpy(float)
    known = known[~np.isnan(known)]
    return float(known.mean()) if len(known) else math.nan


def _figure(metric: str, value: Any, map: str | None = None, **condition: str) -> dict[str, Any]:
    number = float(value)
    return {
        "metric": metric, "map": map, "condition": condition,
        "value": None if math.isnan(number) else number,
    }  # fmt: skip


def study_rows(
    contents: Sequence[Mapping[str, Any]], wanted: Sequence[Task]
) -> list[dict[str, Any]]:
    """Result rows: each figure of each run, its mean over seeds, and later minus earlier systems.

    Pooled rows (no seed) have Student's interval over seeds and the number of seeds as `n`; the
    ends of what lives in [0, 1] are kept there.
    Differences are taken seed by seed: the same parts, the same first weights of what both have.
    """
    found: dict[tuple[Any, ...], dict[int, float]] = {}
    systems = list(dict.fromkeys(task.system for task in wanted))
    rows = []
    for task, content in zip(wanted, contents, strict=True):
        for figure in content["figures"]:
            value = math.nan if figure["value"] is None else float(figure["value"])
            extra = tuple(figure["condition"].items())
            key = (task.setting, figure["metric"], figure["map"], extra)
            found.setdefault((task.system.tag, *key), {})[task.seed] = value
            rows.append(_row(task.system, key, value, seed=task.seed))
    for (tag, *rest), by_seed in found.items():
        (system,) = (s for s in systems if s.tag == tag)
        mean = student_interval(list(by_seed.values()))
        if rest[1] in (*MEASURED, "flip_rate") and not math.isnan(mean.low):
            mean = mean._replace(low=max(mean.low, 0.0), high=min(mean.high, 1.0))
        rows.append(_pooled(system, tuple(rest), mean))
    for earlier, later in itertools.combinations(systems, 2):
        for (tag, *rest), by_seed in found.items():
            other = found.get((earlier.tag, *rest), {})
            if tag != later.tag or not other:
                continue
            shared = sorted(set(by_seed) & set(other))
            less = student_interval([by_seed[seed] - other[seed] for seed in shared])
            setting, metric, map_name, extra = rest
            name = (setting, f"{metric}_difference", map_name, extra)
            rows.append(_pooled(later, name, less, **earlier.as_other))
    return rows


def _pooled(system: System, key: tuple[Any, ...], found: Interval, **more: Any) -> dict[str, Any]:
    return _row(system, key, found.value, **found.ends, more=more)


def _row(
    system: System,
    key: tuple[Any, ...],
    value: float,
    seed: int | None = None,
    more: Mapping[str, Any] | None = None,
    **ends: Any,
) -> dict[str, Any]:
    setting, metric, map_name, extra = key
    return row(
        "synthetic", system.name, metric, value, map=map_name, seed=seed,
        fold=None if seed is None else 0,
        condition={**system.condition, "setting": setting, **dict(extra), **(more or {})}, **ends,
    )  # fmt: skip


def stored_study() -> Results:
    """The committed study, or a note on how to make it."""
    return study_runs.stored_study(NAME, "the synthetic study", REPEAT, timed=True)
