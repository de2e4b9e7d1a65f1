"""Time the networks of chapter 01 and write its results file, the selections included.

python tools/measure_models.py --output-dir runs/models

The stored run took 29 minutes on one thread, while other programs ran. Times leave out the turns of
those but not their use of caches, so a quiet machine is better. Every network and image side
leaves a file when it is done; started again, only what is missing is timed. The book keeps
`results.json` as `book/results/01_choosing_two_models.json`. With `--only` the results are not
written: they need all networks.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from gainbook.chapters.ch01_models import study
from gainbook.chapters.ch01_models.analysis import all_rows
from gainbook.chapters.ch01_models.measure import DATASET, SIDES, measure_all
from gainbook.chapters.ch01_models.networks import SUBJECTS
from gainbook.lab.results_file import provenance, write_results


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print a line per network, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--output-dir", type=Path, default=Path("runs/models"))
    parser.add_argument("--turns", type=int, default=3, help="timed predictions of a network")
    parser.add_argument("--only", nargs="+", choices=SUBJECTS, help="some of the networks")
    options = parser.parse_args(words)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    tags = tuple(options.only or SUBJECTS)

    def done(name: str, seconds: float) -> None:
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
        print(f"{name}: {seconds:.0f} s, load {load:.1f}", flush=True)

    contents = measure_all(options.output_dir, tags, SIDES, options.turns, done)
    if options.only:
        print(f"{len(contents)} files in {options.output_dir}; no results without all networks")
        return
    rows = all_rows([row for content in contents.values() for row in content["rows"]])
    parameters = {
        "dataset": DATASET, "networks": list(tags), "sides": list(SIDES), "turns": options.turns,
    }  # fmt: skip
    facts = provenance(
        parameters,
        sum(content["seconds"] for content in contents.values()),
        command=study.RUN_COMMAND,
        measured_at_commits=sorted({content["commit"] for content in contents.values()}),
    )
    path = write_results(
        options.output_dir,
        notebook=study.NOTEBOOK, parameters=parameters, provenance=facts, rows=rows,
    )  # fmt: skip
    print(f"{len(rows)} rows in {path}")


if __name__ == "__main__":
    main()
