"""Sweeps: every combination once, then what is missing and no more; a killed worker costs time."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gainbook
import nbformat
import psutil
import pytest
import yaml
from gainbook.lab.sweep import __main__ as sweep
from gainbook.lab.sweep.grid import expand, read_grid
from gainbook.lab.sweep.run import DONE, ERROR

import gainmtl
from gainmtl.files import claimed

PARAMETERS = """
output_dir: str = "runs"  # results.json
letter: str = "a"  # distinguishes the runs
number: int = 0  # what is squared
fails: int = -1  # the number that ends in an error
wait_s: float = 0.0  # before anything is written
"""
BODY = """
import json, os, time
from pathlib import Path

started = Path(output_dir) / f"started-{os.getpid()}"
started.write_text("")
time.sleep(wait_s if len(list(started.parent.glob("started-*"))) == 1 else 0)
if number == fails:
    raise ArithmeticError(f"{number} is not wanted")
row = {
    "dataset": "none", "split": "test", "system": letter, "condition": {"number": number},
    "map": None, "seed": 0, "fold": None, "metric": "square", "value": float(number**2),
    "ci_low": None, "ci_high": None, "n": 1,
}
result = {"notebook": "square", "parameters": {}, "provenance": {}, "rows": [row]}
Path(output_dir, "results.json").write_text(json.dumps(result))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the notebook `square.ipynb`."""
    cells = [
        nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(BODY),
    ]
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    nbformat.write(
        nbformat.v4.new_notebook(cells=cells, metadata=kernel), tmp_path / "square.ipynb"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def grid(**changes: Any) -> dict[str, Any]:
    base = {
        "notebook": "square.ipynb",
        "output_dir": "out",
        "grid": {"letter": ["a", "b"], "number": [1, 2, 3]},
    }
    return {**base, **changes}


def write(folder: Path, **changes: Any) -> Path:
    path = folder / "grid.yaml"
    path.write_text(yaml.safe_dump(grid(**changes)), "utf-8")
    return path


def test_every_combination_stands_once_the_last_list_fastest(folder: Path) -> None:
    runs = expand(grid(parameters={"wait_s": 0.5}))
    varied = [(run.varied["letter"], run.varied["number"]) for run in runs]
    assert varied == [("a", 1), ("a", 2), ("a", 3), ("b", 1), ("b", 2), ("b", 3)]
    assert len({run.folder for run in runs}) == 6
    for run in runs:
        assert run.parameters == {**run.varied, "wait_s": 0.5, "output_dir": run.folder}
        assert run.name.startswith(f"square-letter={run.varied['letter']}-number=")


def test_a_run_is_known_by_what_it_is_told(folder: Path) -> None:
    first, second = expand(grid()), expand(grid(parameters={"wait_s": 1.0}))
    assert not {run.name for run in first} & {run.name for run in second}
    # what varies decides, not in which file or order it stands
    turned = expand(grid(grid={"number": [3, 2, 1], "letter": ["b", "a"]}))
    digests = [{run.name.rsplit("-", 1)[1] for run in runs} for runs in (first, turned)]
    assert digests[0] == digests[1]


def test_parameters_override_the_profile_and_may_not_be_varied_too(folder: Path) -> None:
    (folder / "profile.yaml").write_text("wait_s: 3.0\nfails: 7\n", "utf-8")
    run = expand(grid(profile="profile.yaml", parameters={"wait_s": 1.0}))[0]
    assert (run.parameters["wait_s"], run.parameters["fails"]) == (1.0, 7)
    varied = expand(grid(profile="profile.yaml", grid={"fails": [1, 2]}))
    assert [run.parameters["fails"] for run in varied] == [1, 2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"notebooks": "x"}, "expected the keys"),
        ({"notebook": None}, "expected a notebook"),
        ({"grid": {"number": []}}, "number: expected a list"),
        ({"grid": {"number": 3}}, "number: expected a list"),
        ({"grid": {"number": [1, 1]}}, "stands twice"),
        ({"parameters": {"number": 1}}, "number is set twice"),
        ({"parameters": {"output_dir": "x"}}, "output_dir is set twice"),
    ],
)
def test_an_error_names_the_fault_of_a_grid(folder: Path, changes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        expand(grid(**changes))


def test_what_is_not_there_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(FileNotFoundError, match=r"no notebook circle\.ipynb"):
        expand(grid(notebook="circle.ipynb"))
    with pytest.raises(FileNotFoundError, match="no profile"):
        expand(grid(profile="none.yaml"))
    assert sweep.main(["absent.yaml"]) == 2
    assert "no grid file absent.yaml" in capsys.readouterr().err


def test_a_folder_has_one_run_at_a_time(tmp_path: Path) -> None:
    code = (
        "import time; from gainmtl.files import claimed\n"
        f"with claimed({str(tmp_path)!r}): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with (
            pytest.raises(RuntimeError, match="a run is writing to"),
            claimed(tmp_path, seconds=0.3),
        ):
            pass
        other.kill()
    left = [".model.safetensors.7.tmp", ".tmpAbC123"]  # of killed processes
    for name in left:
        (tmp_path / name).touch()
    with claimed(tmp_path, seconds=5):
        assert not any((tmp_path / name).exists() for name in left)


def test_a_run_is_a_process_that_leaves_its_results_or_its_traceback(folder: Path) -> None:
    good, bad = expand(grid(parameters={"fails": 2}, grid={"number": [1, 2]}))
    outcome = sweep.execute(good, str(folder), 1)
    assert outcome[:2] == (good.name, True)
    assert (sweep.state(good), sweep.state(bad)) == ("done", "missing")
    outcome = sweep.execute(bad, str(folder), 1)
    assert not outcome.succeeded
    assert "ArithmeticError: 2 is not wanted" in outcome.message
    assert sweep.state(bad) == "failed"
    assert sweep.collect([good, bad])["value"].tolist() == [1.0]


@pytest.mark.slow
def test_a_sweep_keeps_what_it_has_reports_what_failed_and_does_what_is_missing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(folder, parameters={"fails": 2}, grid={"number": [1, 2, 3]})
    assert sweep.main([str(path), "--workers", "2", "--collect", "all.csv"]) == 1
    printed = capsys.readouterr()
    assert "ArithmeticError: 2 is not wanted" in printed.err
    assert "2 rows of 2 runs in all.csv" in printed.out
    runs = read_grid(path)
    assert [sweep.state(run) for run in runs] == ["done", "failed", "done"]
    assert "2 is not wanted" in (Path(runs[1].folder) / ERROR).read_text("utf-8")
    times = [(Path(run.folder) / DONE).stat().st_mtime_ns for run in (runs[0], runs[2])]

    # the second start does the failed one only, which fails again
    assert sweep.main([str(path), "--workers", "1"]) == 1
    assert "3 runs: 2 left as they are, 1 to do" in capsys.readouterr().out
    assert times == [(Path(run.folder) / DONE).stat().st_mtime_ns for run in (runs[0], runs[2])]

    table = sweep.collect(runs)
    assert dict(zip(table["parameter.number"], table["value"], strict=True)) == {1: 1.0, 3: 9.0}

    # another version of the notebook: named, and left alone
    (folder / "square.ipynb").write_text(
        (folder / "square.ipynb").read_text("utf-8").replace("2", "2 "), "utf-8"
    )
    assert [sweep.state(run) for run in runs] == ["outdated", "failed", "outdated"]
    assert sweep.main([str(path), "--list"]) == 0


def workers(parent: psutil.Process) -> list[psutil.Process]:
    """The processes that run `sweep_run`, with their parents, the Dask workers."""
    found = []
    for process in parent.children(recursive=True):
        try:
            if "gainbook.lab.sweep.run" in process.cmdline():
                found.append(process)
        except psutil.Error:
            continue
    return found


@contextlib.contextmanager
def started(command: list[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with the context: one that waits for workers would wait forever."""
    process = subprocess.Popen(command, cwd=folder)
    try:
        yield process
    finally:
        process.kill()
        process.wait(timeout=30)


@pytest.mark.slow
def test_a_killed_worker_costs_nothing_but_time(folder: Path) -> None:
    path = write(folder, parameters={"wait_s": 600.0}, grid={"number": [4]})
    command = [sys.executable, "-m", "gainbook.lab.sweep", str(path), "--workers", "1"]
    with started(command, folder) as sweeping:
        parent, out = psutil.Process(sweeping.pid), Path(read_grid(path)[0].folder)
        end = time.monotonic() + 120
        # In the middle: the notebook has begun, and would sleep for ten minutes.
        while not list(out.glob("started-*")):
            assert time.monotonic() < end
            time.sleep(0.1)
        running = workers(parent)[0]
        kernel = int(next(iter(out.glob("started-*"))).name.split("-")[1])
        os.kill(running.ppid(), signal.SIGKILL)
        assert sweeping.wait(timeout=120) == 0  # a second worker began anew, which does not sleep
    assert (out / DONE).is_file()
    assert len(list(out.glob("started-*"))) == 2
    assert not running.is_running()
    assert not psutil.pid_exists(kernel)


@pytest.fixture
def cluster(folder: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """A scheduler in a process of its own, and a function that starts workers; `.address`."""
    python = [sys.executable, "-m"]
    address = f"tcp://127.0.0.1:{20000 + os.getpid() % 20000}"
    quiet = {"stderr": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    running: list[subprocess.Popen[bytes]] = [
        subprocess.Popen(
            [*python, "distributed.cli.dask_scheduler", "--host", address, "--no-dashboard"],
            **quiet,
        )
    ]

    def worker(**environment: str) -> subprocess.Popen[bytes]:
        command = [*python, "distributed.cli.dask_worker", address, "--nthreads", "1"]
        running.append(
            subprocess.Popen(
                [*command, "--no-nanny", "--no-dashboard"],
                env={**os.environ, **environment}, **quiet,
            )
        )  # fmt: skip
        return running[-1]

    worker.address = address  # type: ignore[attr-defined]
    yield worker
    for process in reversed(running):
        process.kill()
        process.wait(timeout=30)


def other_code(folder: Path) -> dict[str, str]:
    """The environment of a worker whose packages have one file more."""
    for package in (gainmtl, gainbook):
        shutil.copytree(Path(package.__path__[0]), folder / "old" / package.__name__)
    (folder / "old/gainmtl/new_file.py").write_text("")
    return {"PYTHONPATH": str(folder / "old")}


@pytest.mark.slow
def test_workers_elsewhere_killed_added_and_refused_while_it_runs(
    folder: Path, cluster: Any
) -> None:
    path = write(folder, parameters={"wait_s": 600.0}, grid={"number": [5, 6]})
    workers = [cluster(), cluster()]
    out = [Path(run.folder) for run in read_grid(path)]
    command = [sys.executable, "-m", "gainbook.lab.sweep", str(path), "--scheduler"]
    with started([*command, cluster.address], folder) as sweeping:
        end = time.monotonic() + 120
        while not all(list(one.glob("started-*")) for one in out):  # both would sleep
            assert time.monotonic() < end
            time.sleep(0.1)
        other = cluster(**other_code(folder))
        assert other.wait(timeout=120) is not None
        for worker in workers:
            worker.kill()
        cluster()
        assert sweeping.wait(timeout=120) == 0
    assert sorted(sweep.collect(read_grid(path))["value"]) == [25.0, 36.0]


@pytest.mark.slow
def test_a_worker_with_other_code_is_refused(
    folder: Path, cluster: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write(folder, grid={"number": [5, 6]})
    first = cluster(**other_code(folder))
    time.sleep(1)
    with pytest.raises(RuntimeError, match="no worker is left; all have another version"):
        sweep.main([str(path), "--scheduler", cluster.address])
    assert "is refused: it has gainmtl" in capfd.readouterr().err
    assert first.wait(timeout=30) is not None
    cluster()
    assert sweep.main([str(path), "--scheduler", cluster.address]) == 0
    assert sorted(sweep.collect(read_grid(path))["value"]) == [25.0, 36.0]
