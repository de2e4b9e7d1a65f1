"""Many runs: `python -m gainbook.lab.sweep grid.yaml [--scheduler ADDRESS]`.

Runs a grid of notebooks (see `grid`) on Dask distributed, one process per run, and keeps each
result as soon as it is written. A second start runs what is missing. A failed run is reported with
its traceback and takes no other down. `--collect table.csv` writes all rows as one tidy table.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import psutil
from tqdm.auto import tqdm

from gainbook.lab import results_file as runs
from gainbook.lab.sweep.grid import GridRun, read_grid
from gainbook.lab.sweep.run import DONE, ERROR, RUN, digest
from gainmtl.files import read_json, write_json

LOG = "log.txt"
BYTES_PER_RUN = 2 << 30
"""What a run may need; the local cluster has no more workers than the free memory allows."""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Outcome(NamedTuple):
    """How a run ended."""

    name: str
    succeeded: bool
    seconds: float
    message: str
    """The traceback or the end of the log, empty where all went well."""


def state(run: GridRun) -> str:
    """`"done"`, `"outdated"` (done, by another version of the notebook), `"failed"`, `"missing"`.

    A run that was stopped in the middle is missing; started again, it goes on from what its
    notebook keeps in its folder.
    """
    folder = Path(run.folder)
    if (folder / DONE).is_file():
        made_by = read_json(folder / DONE).get("notebook_sha256")
        return "done" if made_by == digest(run.notebook) else "outdated"
    return "failed" if (folder / ERROR).is_file() else "missing"


def execute(run: GridRun, directory: str, threads: int) -> Outcome:
    """Run one notebook in a process of its own, from `directory`; called on a worker.

    `threads` bounds what the numerical libraries of the process use.
    """
    folder = Path(directory) / run.folder
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / RUN, {"notebook": run.notebook, "parameters": run.parameters})
    command = [sys.executable, "-m", "gainbook.lab.sweep.run", run.folder, str(os.getpid())]
    environment = {**os.environ, **dict.fromkeys(THREADS, str(threads)), "MPLBACKEND": "agg"}
    start = time.monotonic()
    with (folder / LOG).open("w") as log:
        code = subprocess.run(
            command, cwd=directory, env=environment, stdout=log, stderr=log, check=False
        ).returncode
    seconds = time.monotonic() - start
    if code == 0:
        return Outcome(run.name, True, seconds, "")
    error = folder / ERROR
    # A process that was killed leaves no traceback of its own.
    message = (error if error.is_file() else folder / LOG).read_text("utf-8", errors="replace")
    return Outcome(run.name, False, seconds, message.strip() or f"the process ended with {code}")


def default_workers() -> int:
    """One per core, as far as the memory goes."""
    cores = len(psutil.Process().cpu_affinity()) if hasattr(psutil.Process, "cpu_affinity") else 0
    memory = int(psutil.virtual_memory().available // BYTES_PER_RUN)
    return max(1, min(cores or os.cpu_count() or 1, memory))


@contextlib.contextmanager
def connect(scheduler: str | None, workers: int) -> Iterator[Any]:
    """A Dask client: of the scheduler at an address, else of a cluster of this machine."""
    from distributed import Client, LocalCluster

    if scheduler is not None:
        from gainbook.lab.sweep.same_code import SameCode, admit

        with Client(scheduler, timeout="20s") as client:
            admit(client)
            try:
                yield client
            finally:
                client.unregister_worker_plugin(SameCode.name)
        return
    # One thread per worker: papermill changes its process's working directory. No memory limit:
    # what needs memory is the run's own process, which Dask does not see.
    with (
        LocalCluster(
            n_workers=workers, threads_per_worker=1, dashboard_address=None, memory_limit=0
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def sweep(
    grid: Sequence[GridRun],
    scheduler: str | None = None,
    workers: int | None = None,
    threads: int | None = None,
    progress: bool = True,
) -> list[Outcome]:
    """Run every run of `grid`, as many at a time as there are workers.

    Args:
        grid: what is to be run; see `missing`.
        scheduler: address of a Dask scheduler (`tcp://host:8786`). Its workers need this package
            and, under the same paths, the working directory; one thread each
            (`dask worker ADDRESS --nthreads 1`). Those with other code are refused, see
            `same_code`. `None` starts a cluster of this machine.
        workers: of that cluster; `None` takes one per core.
        threads: per run; `None` shares the machine's cores among the workers.

    Returns:
        In the order in which the runs ended.
    """
    from distributed import as_completed

    workers = min(workers or default_workers(), max(1, len(grid)))
    threads = threads or max(1, (os.cpu_count() or 1) // workers)
    outcomes: list[Outcome] = []
    if not grid:
        return outcomes
    with connect(scheduler, workers) as client:
        futures = {
            client.submit(execute, run, str(Path.cwd()), threads, key=run.name, pure=False): run
            for run in grid
        }
        bar = tqdm(total=len(grid), desc="sweep", unit="run", disable=not progress)
        for future in as_completed(futures):
            error = future.exception()
            name = futures[future].name
            outcome = Outcome(name, False, 0.0, repr(error)) if error else future.result()
            outcomes.append(outcome)
            bar.update()
            if not outcome.succeeded:
                bar.write(f"{name} failed:\n{last_lines(outcome.message)}", file=sys.stderr)
        bar.close()
    return outcomes


def last_lines(text: str, count: int = 15) -> str:
    """The end of a text, indented."""
    return "\n".join(f"    {line}" for line in text.splitlines()[-count:])


def collect(grid: Sequence[GridRun]) -> pd.DataFrame:
    """The rows of all finished runs as one tidy table.

    Columns: `run`, a column `parameter.<name>` for each parameter that the grid varies, and those
    of `runs.ROW_RULES` with `condition` as JSON.
    """
    parts = []
    for run in grid:
        path = Path(run.folder) / "results.json"
        if state(run) not in ("done", "outdated") or not path.is_file():
            continue
        rows = runs.read_results(path).rows
        rows["condition"] = [json.dumps(one, sort_keys=True) for one in rows["condition"]]
        rows.insert(0, "run", run.name)
        for place, (name, value) in enumerate(run.varied.items(), 1):
            shown = value if isinstance(value, str | int | float | bool) else json.dumps(value)
            rows.insert(place, f"parameter.{name}", shown)
        parts.append(rows)
    if not parts:
        return pd.DataFrame(columns=["run", *runs.ROW_RULES])
    return pd.concat(parts, ignore_index=True)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m gainbook.lab.sweep", description=__doc__)
    parser.add_argument("grid", help="YAML file; see gainbook.lab.sweep.grid")
    parser.add_argument("--scheduler", help="address of a Dask scheduler; default: this machine")
    parser.add_argument("--workers", type=int, help="runs at a time on this machine")
    parser.add_argument("--threads", type=int, help="threads of one run")
    parser.add_argument("--again", action="store_true", help="run what is outdated again, too")
    parser.add_argument(
        "--list", action="store_true", help="list the state of every run and run nothing"
    )
    parser.add_argument("--collect", metavar="TABLE.csv", help="write one tidy table at the end")
    arguments = parser.parse_args(argv)
    for name in ("workers", "threads"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            parser.error(f"--{name}: expected at least 1, got {value}")
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; 0 if every run of the grid is done, 1 if one failed, 2 for a bad grid."""
    arguments = _arguments(argv)
    try:
        grid = read_grid(arguments.grid)
    except (ValueError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2
    states = {run.name: state(run) for run in grid}
    if arguments.list:
        for name, found in states.items():
            print(f"{found:9} {name}")
    wanted = ("missing", "failed", "outdated") if arguments.again else ("missing", "failed")
    todo = [] if arguments.list else [run for run in grid if states[run.name] in wanted]
    outdated = sum(found == "outdated" for found in states.values())
    print(
        f"{len(grid)} runs: {len(grid) - len(todo)} left as they are"
        + (f" ({outdated} by another version of their notebook; --again repeats them)"
           if outdated and not arguments.again else "")
        + f", {len(todo)} to do"
    )  # fmt: skip
    outcomes = sweep(todo, arguments.scheduler, arguments.workers, arguments.threads)
    failed = [outcome for outcome in outcomes if not outcome.succeeded]
    if failed:
        folders = {run.name: run.folder for run in grid}
        print(f"{len(failed)} of {len(outcomes)} runs failed; their folders:", file=sys.stderr)
        for outcome in failed:
            print(f"  {folders[outcome.name]}", file=sys.stderr)
    if arguments.collect:
        table = collect(grid)
        table.to_csv(arguments.collect, index=False)
        print(f"{len(table)} rows of {table['run'].nunique()} runs in {arguments.collect}")
    return 1 if failed else 0


if __name__ == "__main__":
    # From the module: what this script defines would be sent to the workers by value.
    from gainbook.lab.sweep.__main__ import main as command_line

    sys.exit(command_line())
