"""A grid of short trainings on built-in parts, repeated over seeds: one small file per run.

A cell of the grid is one training. Its file is written whole when it is done; a second start runs
what is missing, several processes share the work, and a file made with other settings is refused.
`tools/study.py` is the command line of every such study.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import itertools
import math
import operator
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd

from gainbook.lab import results_file
from gainbook.lab.processes import worker_pool
from gainbook.lab.run_system import WEIGHTS
from gainbook.lab.study import Claim, Headline, Results
from gainbook.lab.systems import System
from gainmtl.datasets.data import Data
from gainmtl.evaluation.scoring import score
from gainmtl.evaluation.stats import Interval, student_interval
from gainmtl.evaluation.tidy import tidy_rows
from gainmtl.files import read_json, write_json
from gainmtl.interface import DefectModel
from gainmtl.training.fitting import fit

SETTINGS: dict[str, Any] = {
    "image_size": 64,
    "train": 480,
    "val": 120,
    "test": 200,
    "backbone": "test_efficientnet",
    "weights": WEIGHTS,
    "epochs": 10,
    "batch_size": 16,
    "learning_rate": 4e-3,
    "average_decay": 0.95,
}
"""What all runs of a study share, unless it has other values."""
RECIPE = ("epochs", "batch_size", "learning_rate", "average_decay", "augmentation")
"""Which settings are arguments of `fit`."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run of a grid: a place on each axis, `cell["seed"]` among them."""

    places: tuple[tuple[str, Any], ...]

    def __getitem__(self, axis: str) -> Any:
        return dict(self.places)[axis]

    def at(self, **places: Any) -> Cell:
        """The cell at other places of some axes."""
        return Cell(tuple((axis, places.get(axis, place)) for axis, place in self.places))


def figure(
    metric: str, value: Any, map: str | None = None, n: int | None = None, **condition: Any
) -> dict[str, Any]:
    """A figure of one run as its file keeps it; NaN becomes `None`."""
    number = float(value)
    return {
        "metric": metric, "map": map, "condition": condition, "n": n,
        "value": None if math.isnan(number) else number,
    }  # fmt: skip


def first_above(curve: Mapping[int, float], level: float = 0.0) -> float:
    """The count at which a curve over counts first reaches `level`, between points on a log axis.

    The first count if the curve starts there, infinity if it never does; a NaN is no value.
    """
    known = [(n, curve[n]) for n in sorted(curve) if not math.isnan(curve[n])]
    if known and known[0][1] >= level:
        return float(known[0][0])
    for (few, low), (many, high) in itertools.pairwise(known):
        if high >= level:
            return float(few * (many / few) ** ((level - low) / (high - low)))
    return math.inf


def scored_figures(
    model: DefectModel, test: Any, dataset: str, measured: Collection[str]
) -> list[dict[str, Any]]:
    """The `measured` figures of a model on all test images, as a run's file keeps them."""
    name = model.strategy.name
    table = tidy_rows(score(model, test), dataset, "test", name, resamples=0)
    whole = table["condition"].map(lambda condition: not condition)
    return [
        figure(line.metric, line.value, None if pd.isna(line.map) else line.map)
        for line in table[table["metric"].isin(measured) & whole].itertuples()
    ]


MoreRows = Callable[
    ["SeedStudy", Sequence[Cell], Sequence[Mapping[str, Any]]], list[dict[str, Any]]
]


@dataclasses.dataclass(frozen=True)
class SeedStudy:
    """A study whose unit is a seed: equal seeds share parts, first weights and order of images."""

    name: str
    """Of the file under `book/results`."""
    notebook: str
    title: str
    axes: Mapping[str, Sequence[Any]]
    """By name, the places; the last axis is `seed`. The grid goes seed by seed."""
    train_and_measure: Callable[[Mapping[str, Any], Cell], dict[str, Any]]
    """Settings and a cell to the content of its file, with `settings`, `figures`, `seconds` and
    `commit`. A function of a module, since other processes call it."""
    subject: Callable[[Cell], tuple[str, dict[str, Any]]]
    """System name and condition of a cell's result rows."""
    file: Callable[[Cell], str]
    """A cell's file under the output folder."""
    settings: Mapping[str, Any] = dataclasses.field(default_factory=lambda: SETTINGS)
    figures: Callable[[Mapping[str, Any]], list[dict[str, Any]]] = operator.itemgetter("figures")
    """The figures of a content, see `figure`."""
    against: Callable[[Cell], Sequence[tuple[Cell, dict[str, Any]]]] = lambda cell: ()
    """Cells of the same seed that are subtracted, with entries of the difference's condition."""
    more: MoreRows = lambda study, cells, contents: []
    """Rows beyond figures, means and differences."""
    unbounded: tuple[str, ...] = ()
    """Metrics that may leave [0, 1]; intervals of the others end there."""
    of_parts: tuple[str, ...] = ()
    """Metrics of the test parts, alike for all systems: no differences."""
    systems: tuple[System, ...] = ()
    """What the axis `system` names by tag."""
    folder: str = "runs/study"
    """Default output folder."""
    dataset: str = "synthetic"
    """The `dataset` of the result rows."""
    blocks: int = 0
    """Of seeds that share their test parts; see `interval_over_seeds`."""
    about: Callable[[Mapping[str, Any]], str] = lambda given: (
        f"{given['train']} training parts, {given['image_size']} px, {given['backbone']}, "
        f"{given['epochs']} epochs"
    )
    """From the stored parameters to what a run was, in words."""
    also_written: tuple[str, ...] = ()
    """Further files beside `results.json` that the book keeps, as `<name>_<stem>.json`."""
    write_more: Callable[[Path, Sequence[Cell], Sequence[Mapping[str, Any]]], None] = (
        lambda folder, cells, contents: None
    )
    """Writes `also_written`."""
    headline: Headline = dataclasses.field(default_factory=Headline)
    claims: tuple[Claim, ...] = ()

    @property
    def run_command(self) -> str:
        """The command line that makes the results of the whole grid."""
        return self.command_for({})

    def command_for(self, axes: Mapping[str, Sequence[Any]]) -> str:
        """The command line for the places of some axes, all of the others."""
        data = f" --data-root path/to/{self.dataset}" if "data_root" in self.settings else ""
        chosen = [
            f" --{name} {' '.join(map(str, places))}"
            for name, places in axes.items()
            if list(places) != list(self.axes[name])
        ]
        return (
            f"python tools/study.py {self.name}{data}{''.join(chosen)} --output-dir {self.folder} "
            "--workers 2"
        )

    @property
    def command(self) -> str:
        """`run_command` and the copy into the book, as a block of Markdown."""
        return self.block(self.run_command)

    def block(self, command: str) -> str:
        """A command line of this study and the copy into the book, as a block of Markdown."""
        lines = [command, f"cp {self.folder}/results.json book/results/{self.name}.json"]
        lines += [
            f"cp {self.folder}/{name} book/results/{self.name}_{name}" for name in self.also_written
        ]
        return "```bash\n" + "\n".join(lines) + "\n```"

    @property
    def fuller(self) -> tuple[str, str]:
        """As `Study.fuller`: there is no fuller run."""
        return "", ""

    def parameters(self, axes: Mapping[str, Sequence[Any]], settings: Mapping[str, Any]) -> Any:
        """The parameters of a results file: the settings, and the places on each axis."""
        places = {_plural(name): list(axes[name]) for name in self.axes}
        return {**settings, "dataset": self.dataset, **places}

    def system(self, cell: Cell) -> System:
        """The system of a cell."""
        return {system.tag: system for system in self.systems}[cell["system"]]

    def cells(self, **axes: Sequence[Any]) -> list[Cell]:
        """The grid, seed by seed, so that a study cut short is whole for the seeds it has.

        `axes` names fewer places of some axes.
        """
        names = list(self.axes)
        places = [axes.get(name, self.axes[name]) for name in reversed(names)]
        return [
            Cell(tuple(zip(names, reversed(point), strict=True)))
            for point in itertools.product(*places)
        ]

    def claim(self, id: str) -> Claim:
        """The claim of that id.

        Raises:
            KeyError: the study does not judge it.
        """
        return {claim.id: claim for claim in self.claims}[id]


def _plural(axis: str) -> str:
    """The key of an axis's places among the parameters of a results file."""
    return f"{axis.removesuffix('s')}s"


def train(model: DefectModel, data: Data, seed: int, settings: Mapping[str, Any]) -> pd.DataFrame:
    """Train on the CPU by the recipe among the settings; the history of `fit`.

    The backbone's rate is 0.2 of the heads', as in the chapters' live parts.
    """
    recipe = {"backbone_rate": 0.2} | {name: settings[name] for name in RECIPE if name in settings}
    return fit(model, data, accelerator="cpu", seed=seed, progress=False, **recipe)


def _check(path: Path, settings: Mapping[str, Any]) -> None:
    stored, expected = read_json(path)["settings"], results_file.portable(settings)
    if stored != expected:
        differ = [key for key in expected if stored.get(key) != expected[key]]
        raise ValueError(
            f"{path}: a run with other settings ({', '.join(differ)}); expected "
            f"{ {key: expected.get(key) for key in differ} }. Use another folder, or remove this."
        )


def _work(measure: Any, path: Path, settings: Mapping[str, Any], cell: Cell) -> Cell:
    write_json(path, measure(settings, cell))
    return cell


def run_cell(
    study: SeedStudy, folder: str | Path, settings: Mapping[str, Any], cell: Cell
) -> dict[str, Any]:
    """The content of one cell's file; a cell without one is run in this process.

    Raises:
        ValueError: the file was made with other settings.
    """
    path = Path(folder) / study.file(cell)
    if path.is_file():
        _check(path, settings)
    else:
        write_json(path, study.train_and_measure(settings, cell))
    return dict(read_json(path))


def run_cells(
    study: SeedStudy,
    folder: str | Path,
    settings: Mapping[str, Any],
    cells: Sequence[Cell],
    workers: int = 1,
    done: Callable[[str, int], None] | None = None,
) -> list[dict[str, Any]]:
    """The content of every cell's file, in order; cells without one are run first.

    Args:
        workers: processes, one thread each.
        done: called with the file of each finished run and how many are left.

    Raises:
        ValueError: a file in `folder` was made with other settings.
    """
    folder = Path(folder)
    missing = []
    for cell in cells:
        if (folder / study.file(cell)).is_file():
            _check(folder / study.file(cell), settings)
        else:
            missing.append(cell)
    left = len(missing)
    if left:
        with worker_pool(workers) as pool:
            jobs = [
                pool.submit(_work, study.train_and_measure, folder / study.file(c), settings, c)
                for c in missing
            ]
            for job in concurrent.futures.as_completed(jobs):
                left -= 1
                cell = job.result()
                if done is not None:
                    done(study.file(cell), left)
    return [read_json(folder / study.file(cell)) for cell in cells]


def seed_rows(
    study: SeedStudy, cells: Sequence[Cell], contents: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Result rows: each figure of each run, its mean over seeds, and differences seed by seed.

    Pooled rows (no seed) have the interval of `interval_over_seeds` and its `n`. A figure that is
    NaN for every seed has none.
    """
    values: dict[tuple[Any, ...], dict[int, float]] = {}
    conditions: dict[str, dict[str, Any]] = {}
    rows: list[dict[str, Any]] = []

    def add(cell: Cell, key: tuple[Any, ...], metric: str, value: float, **more: Any) -> None:
        system, condition = study.subject(cell)
        condition = {**condition, **conditions[key[3]], **more.pop("extra", {})}
        rows.append(
            results_file.row(
                study.dataset, system, metric, value, condition=condition, map=key[2], **more
            )
        )

    for cell, content in zip(cells, contents, strict=True):
        for one in study.figures(content):
            value = math.nan if one["value"] is None else float(one["value"])
            text = str(one["condition"])
            conditions[text] = one["condition"]
            key = (cell.at(seed=None), one["metric"], one["map"], text)
            values.setdefault(key, {})[cell["seed"]] = value
            add(cell, key, one["metric"], value, seed=cell["seed"], fold=0, n=one.get("n"))
    for key, by_seed in values.items():
        cell, metric = key[0], key[1]
        mean = _within(interval_over_seeds(by_seed, study.blocks), metric in study.unbounded)
        if not mean.n:
            continue  # undefined for every seed
        add(cell, key, metric, mean.value, **mean.ends)
        for other, about in () if metric in study.of_parts else study.against(cell):
            subtracted = values.get((other, *key[1:]), {})
            gap = difference_by_seed(by_seed, subtracted, study.blocks)
            if gap.n:
                add(cell, key, f"{metric}_difference", gap.value, extra=about, **gap.ends)
    return rows + study.more(study, cells, contents)


def interval_over_seeds(values: Mapping[int, float], blocks: int = 0) -> Interval:
    """Mean over seeds with Student's interval.

    Args:
        values: by seed.
        blocks: 0, or the number of blocks of seeds that share their test parts: those that are
            equal modulo `blocks`. Such seeds are not independent, so the interval is that of the
            blocks' means, and its `n` is the number of blocks.
    """
    each: dict[int, list[float]] = {}
    for seed in sorted(values):
        each.setdefault(seed % blocks if blocks else seed, []).append(values[seed])
    return student_interval([fmean(block) for block in each.values()])


def difference_by_seed(a: Mapping[int, float], b: Mapping[int, float], blocks: int = 0) -> Interval:
    """`interval_over_seeds` of a - b, of the seeds that both have."""
    return interval_over_seeds({seed: a[seed] - b[seed] for seed in set(a) & set(b)}, blocks)


def _within(interval: Interval, unbounded: bool) -> Interval:
    """Student's interval ignores the ends of the scale [0, 1]."""
    if unbounded or math.isnan(interval.low):
        return interval
    return interval._replace(low=max(interval.low, 0.0), high=min(interval.high, 1.0))


def against_systems(
    systems: Iterable[System], axis: str = "system"
) -> Callable[[Cell], list[tuple[Cell, dict[str, Any]]]]:
    """`SeedStudy.against` that subtracts every earlier system from a later one."""
    order = list(systems)

    def earlier(cell: Cell) -> list[tuple[Cell, dict[str, Any]]]:
        place = [system.tag for system in order].index(cell[axis])
        return [(cell.at(**{axis: system.tag}), system.as_other) for system in order[:place]]

    return earlier


def stored_seeds(study: SeedStudy) -> Results:
    """The committed results of a study, or a note on how to make them."""
    try:
        file = results_file.reference(study.name)
    except FileNotFoundError:
        note = f"There are **no results of the study yet**. This makes them:\n\n{study.command}"
        return Results(None, note, {})
    given, minutes = file.parameters, file.provenance["duration_s"] / 60
    ran = {name: given[_plural(name)] for name in study.axes if _plural(name) in given}
    # Chosen runs (`runs`) need not be all places of the axes; the file has their commands.
    command = file.provenance["command"] if "runs" in file.provenance else study.command_for(ran)
    note = (
        f"The figures below come from **the study**, `book/results/{study.name}.json`: seeds: "
        f"{', '.join(map(str, ran['seed']))}; {study.about(given)}; {minutes:.0f} core-minutes for "
        f"all runs. This repeats it:\n\n{study.block(command)}"
    )
    return Results(file.rows, note, {})
