"""Studies: a grid of short trainings on built-in parts, one small file per run.

A file is written whole when its run is done. A second start runs what is missing, several processes
share the work, and a file that was made with other settings is refused. The studies' tools in
`tools/` are this and the axes of their grids.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pandas as pd
import torch

from gainbook.lab import results_file as runs
from gainbook.lab.chapter_results import Results, stored
from gainbook.lab.reference import WEIGHTS
from gainmtl.datasets.data import Data
from gainmtl.files import read_json, write_json
from gainmtl.model import GAINMTL
from gainmtl.training.fitting import fit

Execute = Callable[[Any, Any], dict[str, Any]]
"""Settings and a cell to the content of its file, with the settings among it."""
RECIPE = ("epochs", "batch_size", "learning_rate", "average_decay", "augmentation")
"""Which settings `train` hands on, as far as a study has them."""


class Cell(Protocol):
    """One run of a grid."""

    @property
    def file(self) -> str:
        """Its file under the study's folder."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """What all runs of a study have in common."""

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


def train(model: GAINMTL, data: Data, seed: int, settings: Mapping[str, Any]) -> pd.DataFrame:
    """Train on the CPU by the recipe among the settings; the history of `fit`."""
    recipe = {name: settings[name] for name in RECIPE if name in settings}
    return fit(model, data, accelerator="cpu", seed=seed, progress=False, **recipe)


def _check(path: Path, settings: Mapping[str, Any]) -> None:
    found, expected = read_json(path)["settings"], dict(settings)
    if found != expected:
        differ = [key for key in expected if found.get(key) != expected[key]]
        raise ValueError(
            f"{path}: a run with other settings ({', '.join(differ)}); expected "
            f"{ {key: expected[key] for key in differ} }. Use another folder, or remove this one."
        )


def read_or_run(
    folder: str | Path, settings: Mapping[str, Any], cell: Cell, execute: Execute
) -> dict[str, Any]:
    """The content of one run's file; what has none is run here and now. See `run`."""
    path = Path(folder) / cell.file
    if path.is_file():
        _check(path, settings)
    else:
        write_json(path, execute(settings, cell))
    return dict(read_json(path))


def _work(folder: Path, settings: Any, cell: Any, execute: Execute) -> Any:
    torch.set_num_threads(1)
    write_json(folder / cell.file, execute(settings, cell))
    return cell


def run(
    folder: str | Path,
    settings: Any,
    wanted: Sequence[Cell],
    execute: Execute,
    workers: int = 1,
    done: Callable[[Any, int], None] | None = None,
) -> list[dict[str, Any]]:
    """Run what has no file in `folder` yet and return the content of all, in `wanted`'s order.

    Args:
        settings: a mapping, or a frozen dataclass as `Settings`.
        workers: processes, one thread each.
        done: called with each finished run and how many are left.

    Raises:
        ValueError: a file in `folder` was made with other settings.
    """
    folder = Path(folder)
    expected = settings if isinstance(settings, Mapping) else dataclasses.asdict(settings)
    missing = []
    for cell in wanted:
        if (folder / cell.file).is_file():
            _check(folder / cell.file, expected)
        else:
            missing.append(cell)
    left = len(missing)
    if left:
        # Fresh interpreters: a forked one would share torch's threads with its parent.
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(workers, context) as pool:
            jobs = [pool.submit(_work, folder, settings, cell, execute) for cell in missing]
            for job in concurrent.futures.as_completed(jobs):
                left -= 1
                cell = job.result()
                if done is not None:
                    done(cell, left)
    return [read_json(folder / cell.file) for cell in wanted]


def clock() -> Callable[[Cell, int], None]:
    """A `done` for `run` that prints a line per run, with the minutes since now."""
    started = time.monotonic()

    def done(cell: Cell, left: int) -> None:
        minutes = (time.monotonic() - started) / 60
        print(f"{minutes:6.1f} min  {cell.file}: done, {left} left", flush=True)

    return done


class Asked(NamedTuple):
    """What a study's tool was started with."""

    axes: dict[str, list[Any]]
    """By name, the places on each axis of the grid."""
    settings: dict[str, Any]
    folder: Path
    """Of the runs' files."""
    workers: int
    results: Path
    """Where the rows go."""


def asked(
    about: str | None,
    folder: str,
    axes: Mapping[str, Sequence[Any]],
    settings: Mapping[str, Any] | None = None,
    stored: Path | None = None,
    words: Sequence[str] | None = None,
) -> Asked:
    """Read a command line with an option per axis and per setting, whole grid by default.

    The rows go to `stored`, the file that comes with the book, only where the whole grid with its
    own settings was asked for or `--results` names it; else to `results.json` beside the runs.

    Args:
        about: the tool's docstring.
        folder: default of `--output-dir`.
        axes: by name, all places; where they are names, no others are known.
        settings: what may be changed, with its defaults.
        words: the command line; `None`: the process's own.
    """
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--output-dir", type=Path, default=Path(folder))
    parser.add_argument("--workers", type=int, default=1, help="processes, one thread each")
    parser.add_argument("--results", type=Path, help="a .json, or a folder for results.json")
    for name, places in axes.items():
        known = list(places) if isinstance(places[0], str) else None
        parser.add_argument(
            f"--{name}", type=type(places[0]), nargs="+", choices=known, default=list(places)
        )
    given = dict(settings or {})
    for name, value in given.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    found = vars(parser.parse_args(words))
    chosen = {name: found[name] for name in axes}
    changed = {name: found[name] for name in given}
    is_whole = changed == given and all(set(chosen[k]) == set(axes[k]) for k in axes)
    own = stored if stored is not None and is_whole else found["output_dir"] / "results.json"
    return Asked(chosen, changed, found["output_dir"], found["workers"], found["results"] or own)


def write(
    path: Path,
    name: str,
    parameters: Mapping[str, Any],
    contents: Sequence[Mapping[str, Any]],
    rows: Sequence[Mapping[str, Any]],
    command: str,
    loss_weights: Mapping[str, Any] | None = None,
) -> None:
    """Write the rows of a study's runs, and say where."""
    facts = runs.provenance(
        parameters,
        sum(content["seconds"] for content in contents),
        loss_weights=loss_weights,
        command=command,
        trained_at_commits=sorted({content["commit"] for content in contents}),
    )
    written = runs.write_results(
        path, notebook=name, parameters=parameters, provenance=facts, rows=rows
    )
    print(f"{len(rows)} rows of {len(contents)} runs in {written}")


def stored_study(name: str, made_by: str, repeat: str, timed: bool = False) -> Results:
    """The committed results of a study, or a note on how to make them; see `findings.stored`.

    `timed`: the seconds of its runs are those of one core, and the note says their sum.
    """

    def about(found: runs.ResultsFile) -> str:
        given = found.parameters
        text = (
            f"seeds: {', '.join(map(str, given['seeds']))}; {given['train']} training parts, "
            f"{given['image_size']} px, {given['backbone']}, {given['epochs']} epochs"
        )
        minutes = found.provenance["duration_s"] / 60
        return text + f"; one core's {minutes:.0f} minutes for all runs" * timed

    absent = "There are **no results of the study yet**."
    return stored(name, made_by, about, repeat, absent)
