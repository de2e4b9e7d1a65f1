"""Run a study of the book and write its rows.

python tools/study.py 10_synthetic --output-dir runs/ablation --workers 2
python tools/study.py 06_guided_attention_boards --data-root path/to/deep-pcb --workers 2

What is finished in the output folder is read; started again, only missing runs are run. The rows
are written to `results.json` there, or to `--results`; the book keeps them as
`book/results/<study>.json`. `python tools/study.py NAME --help` lists a study's options.

A study over seeds (the first line) has one small file per run. With `--finished` nothing is run:
the rows are those of the runs that are there. A study of a chapter on real parts (the second) has
a folder per system, seed and fold, which such studies share, and its profile's parameters.
"""

from __future__ import annotations

import argparse
import shlex
import time
from collections.abc import Sequence
from concurrent.futures import as_completed
from pathlib import Path
from typing import Any

import yaml
from gainbook import ROOT
from gainbook.chapters import studies
from gainbook.lab import run_system
from gainbook.lab.parameters import Parameters
from gainbook.lab.processes import worker_pool
from gainbook.lab.results_file import portable, provenance, write_results
from gainbook.lab.seed_study import SeedStudy, run_cells, seed_rows
from gainbook.lab.study import Study, results, write_chapter
from gainbook.lab.systems import System

from gainmtl.files import read_json, write_json
from gainmtl.strategies import get_strategy

MACHINE: dict[str, Any] = {"accelerator": "cpu", "devices": 1, "precision": "32-true"}


def parser_of(study: SeedStudy) -> argparse.ArgumentParser:
    """Options of one study: its axes, its settings, and where the files go."""
    parser = argparse.ArgumentParser(
        description=f"{study.title}: {study.name}", prog=f"study.py {study.name}"
    )
    parser.add_argument("--output-dir", type=Path, default=Path(study.folder))
    parser.add_argument("--workers", type=int, default=1, help="processes, one thread each")
    parser.add_argument("--results", type=Path, help="a .json, or a folder for results.json")
    parser.add_argument(
        "--finished", action="store_true", help="run none, take those that are there"
    )
    for name, places in study.axes.items():
        known = list(places) if isinstance(places[0], str) else None
        parser.add_argument(
            f"--{name}", type=type(places[0]), nargs="+", choices=known, default=list(places)
        )
    for name, value in study.settings.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    return parser


def run_seeds(study: SeedStudy, words: Sequence[str]) -> None:
    """Run a study over seeds, print a line per run, write."""
    parser = parser_of(study)
    options = vars(parser.parse_args(words))
    axes = {name: options[name] for name in study.axes}
    settings = {name: options[name] for name in study.settings}
    folder, cells, started = options["output_dir"], study.cells(**axes), time.monotonic()
    if options["finished"]:
        cells = [cell for cell in cells if (folder / study.file(cell)).is_file()]
        axes = {name: [p for p in axes[name] if p in {c[name] for c in cells}] for name in axes}
        if not cells:
            parser.error(f"--finished: expected files of finished runs in {folder}, found none")

    def done(file: str, left: int) -> None:
        print(
            f"{(time.monotonic() - started) / 60:6.1f} min  {file}: done, {left} left", flush=True
        )

    contents = run_cells(study, folder, settings, cells, options["workers"], done)
    rows = seed_rows(study, cells, contents)
    parameters = study.parameters(axes, settings)
    ran = axes.get("system", [s.tag for s in study.systems])
    weights = {
        s.tag: get_strategy(s.strategy).weights.asdict() for s in study.systems if s.tag in ran
    }
    more: dict[str, Any] = {}
    if options["finished"]:
        more["runs"] = [study.file(cell) for cell in cells]
    facts = provenance(
        parameters,
        sum(content["seconds"] for content in contents),
        command=study.command_for(axes),
        trained_at_commits=sorted({content["commit"] for content in contents}),
        loss_weights=weights or None,
        **more,
    )
    path = write_results(
        options["results"] or folder,
        notebook=study.name, parameters=parameters, provenance=facts, rows=rows,
    )  # fmt: skip
    study.write_more(folder, cells, contents)
    print(f"{len(rows)} rows of {len(contents)} runs in {path}")


def _train(run: Any, parameters: Parameters, system: Any) -> tuple[str, int]:
    run(parameters, system)
    return system.tag, parameters.seeds[0]


def run_study(study: Study, words: Sequence[str]) -> None:
    """Train the systems of a chapter's study that are missing, a line per run; measure, write."""
    parser = argparse.ArgumentParser(prog=f"study.py {study.name}", description=study.title)
    file = ROOT / "notebooks" / "profiles" / f"{study.profile}.yaml"
    profile = yaml.safe_load(file.read_text("utf-8"))
    seeds = profile.pop("seeds")
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--output-dir", default=f"runs/{study.profile}")
    parser.add_argument("--workers", type=int, default=1, help="processes, one thread each")
    parser.add_argument("--results", type=Path, help="a copy of results.json")
    parser.add_argument("--seeds", type=int, nargs="+", default=seeds)
    for name, value in profile.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    options = vars(parser.parse_args(words))
    workers, results_path = options.pop("workers"), options.pop("results")
    p = Parameters(notebook=study.notebook, **MACHINE, **options)
    started = time.monotonic()
    with worker_pool(workers) as pool:
        jobs = [
            pool.submit(_train, study.run, p.with_values(seeds=(seed,)), system)
            for seed in p.seeds
            for system in study.systems
        ]
        for job in as_completed(jobs):
            tag, seed = job.result()
            print(f"{(time.monotonic() - started) / 60:6.1f} min  {tag}, seed {seed}", flush=True)
    found = results(study, p)
    command = shlex.join(["python", "tools/study.py", study.name, *portable(list(words))])
    systems = [system for system in study.systems if isinstance(system, System)]
    data = run_system.load_fold(p, p.seeds[0])(0)
    path = write_chapter(p, started, (), data, [found], systems, command=command)
    if results_path is not None:
        write_json(results_path, read_json(path), lines="rows")


def main(words: Sequence[str] | None = None) -> None:
    """Run the study of the command line."""
    known = {
        name: one
        for name, one in studies().items()
        if isinstance(one, SeedStudy) or one.made_by.startswith(f"python tools/study.py {name} ")
    }
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter, add_help=False
    )
    parser.add_argument("study", choices=known)
    first, rest = parser.parse_known_args(words)
    study = known[first.study]
    if isinstance(study, SeedStudy):
        run_seeds(study, rest)
    else:
        run_study(study, rest)


if __name__ == "__main__":
    main()
