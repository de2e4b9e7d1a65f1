"""Full disks, read-only folders and missing permissions: the last whole state remains.

python tests/robustness/disks.py --failures 20

Each failure begins just before a random one of the files or folders that a job writes:

- full: no file may grow beyond a size (`RLIMIT_FSIZE`), so that a write fails in its middle, as on
  a full disk;
- read-only: the folder and what it holds become immutable (`chattr +i`);
- permission: the process loses its rights (the user `nobody`).

The job must stop with a sentence of what was expected, what was found and what to do. No file that
was there may be lost, cut or changed; a file that grows line by line may have more lines. The same
job without the failure must end, bit for bit, like an undisturbed one. The last two kinds need
root, and are skipped without it. The jobs take turns: those of `kills.py`, an export and a results
file. Prints a line per kind, and ends with 1 if anything differs.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import random
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import kills

KINDS = ("full", "read-only", "permission")
NOBODY = 65534
WRITES = os.O_WRONLY | os.O_RDWR
SENTENCE = re.compile(r"^\w+Error: .*expected .*\b(but|found)\b.*\b(give|make room)\b", re.I | re.S)


def export(folder: Path) -> str:
    """The export of a model over another one, which `ending` puts there."""
    import torch

    import gainmtl

    torch.manual_seed(1)
    model = gainmtl.GAINMTL("test_efficientnet", "S1").eval()
    model.image_size, model.threshold = 32, 0.5
    gainmtl.export(model, folder / "run/model.onnx")
    return kills.digest(folder / "run/model.onnx")


def results(folder: Path) -> str:
    """A results file, written twice."""
    from gainbook.lab.results_file import write_results

    row = {"dataset": "none", "split": "test", "system": "s", "condition": {}, "map": None,
           "fold": None, "metric": "square", "value": 1.0, "ci_low": None, "ci_high": None,
           "n": 1}  # fmt: skip
    for count in (1, 3):
        rows = [{**row, "seed": seed} for seed in range(count)]
        write_results(folder / "run", notebook="one", parameters={}, provenance={}, rows=rows)
    return kills.digest(folder / "run/results.json")


JOBS = {name: kills.JOBS[name] for name in ("training", "detector", "active", "predict")}
JOBS |= {"export": export, "results": results}


class Failure(NamedTuple):
    """A kind of failure, and when it begins."""

    kind: str
    at: int
    """Before this file or folder is opened for writing or made, from 1."""
    largest: int
    """Bytes that a file may have on the full disk."""

    def begin(self, folder: Path) -> None:
        """The failure, for this process and its folder."""
        if self.kind == "full":
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.largest, resource.RLIM_INFINITY))
        if self.kind == "read-only":
            subprocess.run(["chattr", "-R", "+i", str(folder)], check=True)
        if self.kind == "permission":
            os.seteuid(NOBODY)


class Ending(NamedTuple):
    """How a job ended."""

    message: str
    """Its error; empty if there was none."""
    digest: str
    writes: int
    """Files and folders that it opened for writing or made."""


def run_job(
    job: str, folder: Path, before: Path, failure: Failure | None, answer: Connection
) -> None:
    """The job, in a process of its own; `before` gets a copy of the folder at the failure."""
    counter, writes, watching = itertools.count(1), 0, True

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal writes, watching
        if not watching or event not in ("open", "os.mkdir"):
            return
        if event == "open" and not arguments[2] & WRITES:
            return
        if not str(arguments[0]).startswith(str(folder)):
            return
        writes = next(counter)
        if failure is not None and writes == failure.at:
            watching = False
            shutil.copytree(folder, before, ignore=shutil.ignore_patterns("*.tmp"))
            failure.begin(folder)

    sys.addaudithook(watch)
    digest = message = ""
    try:
        digest = JOBS[job](folder)
    except Exception as error:  # whatever it is, it is judged
        message = f"{type(error).__name__}: {error}"
    answer.send(Ending(message, digest, writes))


def ending(job: str, folder: Path, before: Path, failure: Failure | None = None) -> Ending:
    """The job in a fork of this process, which has imported the libraries."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    (folder / "run").mkdir(parents=True, exist_ok=True)
    if job == "export":
        shutil.copy(folder.parents[1] / "predict-input/model.onnx", folder / "run")
    process = context.Process(target=run_job, args=(job, folder, before, failure, there))
    process.start()
    there.close()
    found: Ending = here.recv()
    process.join()
    return found


def damaged(before: Path, folder: Path) -> list[str]:
    """The files of `before` that the folder lacks, or that begin otherwise there."""
    files = [path for path in before.rglob("*") if path.is_file()]
    pairs = [(path, folder / path.relative_to(before)) for path in files]
    return [
        path.name
        for path, now in pairs
        if not (now.is_file() and now.read_bytes().startswith(path.read_bytes()))
    ]


def trial(kind: str, count: int, jobs: Sequence[str], output: Path, chance: random.Random) -> bool:
    """A kind of failure, several times; whether nothing was lost."""
    stopped, helped, kept, same, messages = 0, 0, 0, 0, set()
    for k, job in zip(range(count), itertools.cycle(jobs)):
        whole = undisturbed(job, output)
        failure = Failure(kind, chance.randint(1, whole.writes), chance.choice((1, 50, 200)))
        folder, before = output / job / f"{kind}-{k}", output / f"before-{kind}-{k}"
        found = ending(job, folder, before, failure)
        if kind == "read-only":
            subprocess.run(["chattr", "-R", "-i", str(folder)], check=True)
        stopped += found.message != ""
        is_whole = SENTENCE.search(found.message) is not None
        helped += is_whole
        lost = damaged(before, folder)
        kept += not lost
        again = ending(job, folder, before)
        same += again.digest == whole.digest
        fine = is_whole and not lost and again.digest == whole.digest
        print(
            f"    {job}, write {failure.at} of {whole.writes}: "
            + ("fine" if fine else f"{found.message or 'did not stop'}; damaged {lost}; {again}"),
            flush=True,
        )
        messages.add(re.sub(r"\d+", "…", found.message.replace(str(folder), "<run>")))
    print(
        f"{kind}: {stopped} of {count} runs stopped, {helped} with what was expected, found and to "
        f"do; in {kept} the last whole state remained; {same} started again end like the "
        "undisturbed run",
        *sorted(messages),
        sep="\n    ",
        flush=True,
    )
    return stopped == helped == kept == same == count


def undisturbed(job: str, output: Path, known: dict[str, Ending] = {}) -> Ending:  # noqa: B006
    """The job without a failure, once."""
    if job not in known:
        known[job] = ending(job, output / job / "whole", output / "none")
        if known[job].message:
            raise SystemExit(f"{job}: {known[job].message}")
    return known[job]


def main() -> int:
    """All kinds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--failures", type=int, default=20, help="of each kind")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=list(JOBS))
    parser.add_argument("--output", type=Path, default=Path("runs/disks"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    # Before the forks, which then need not import them.
    import gainbook.chapters.ch14_active.loop  # noqa: F401
    import lightning_fabric  # noqa: F401

    import gainmtl.runner  # noqa: F401

    kills.SETTINGS["epochs"] = 2
    kills.watch_epochs = lambda folder: None  # its log would be in the folder
    output = options.output.absolute()
    shutil.rmtree(output, ignore_errors=True)
    context = multiprocessing.get_context("fork")
    prepare = context.Process(target=kills.prepare_predict, args=(output / "predict-input", 12))
    prepare.start()
    prepare.join()
    chance, whole = random.Random(options.seed), True
    for kind in options.kinds:
        if kind != "full" and os.geteuid() != 0:
            print(f"{kind}: skipped, it needs root")
            continue
        whole &= trial(kind, options.failures, options.jobs, output, chance)
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
