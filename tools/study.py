"""Run a study over seeds and write its rows: every such study of the book has this command line.

python tools/study.py 10_synthetic --output-dir runs/ablation --workers 2

One file per run in the folder, written when the run is done; started again, only missing runs are
run. The rows are written to `results.json` there, or to `--results`; the book keeps them as
`book/results/<study>.json`. With `--finished` nothing is run: the rows are those of the runs that
are there. `python tools/study.py NAME --help` lists a study's axes and settings.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gainbook.chapters import studies
from gainbook.lab.results_file import provenance, write_results
from gainbook.lab.seed_study import SeedStudy, run_cells, seed_rows

from gainmtl.strategies import get_strategy


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


def main(words: Sequence[str] | None = None) -> None:
    """Run, print a line per run, write."""
    known = {name: one for name, one in studies().items() if isinstance(one, SeedStudy)}
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter, add_help=False
    )
    parser.add_argument("study", choices=known)
    first, rest = parser.parse_known_args(words)
    study = known[first.study]
    options = vars(parser_of(study).parse_args(rest))
    axes = {name: options[name] for name in study.axes}
    settings = {name: options[name] for name in study.settings}
    folder, cells, started = options["output_dir"], study.cells(**axes), time.monotonic()
    if options["finished"]:
        cells = [cell for cell in cells if (folder / study.file(cell)).is_file()]
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


if __name__ == "__main__":
    main()
