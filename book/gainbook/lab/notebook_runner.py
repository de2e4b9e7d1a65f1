"""Run notebooks through papermill in processes that start with the libraries imported.

Starting Python and importing takes about 9 CPU-seconds per notebook. Here both happen once: the
fork server of `multiprocessing` imports `PRELOAD`, and each run is a fork of it. Outside Linux a
fork of a process with these libraries is not safe; there each run is `python -m papermill`.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeAlias

from gainbook import ROOT
from gainbook.lab.processes import end_with_parent

PRELOAD = (
    "ipykernel.kernelapp",  # before tqdm.auto, which chooses the progress bar of notebooks by it
    "papermill.cli",
    "torch",
    "torchvision.models.detection.fcos",
    "timm",
    "lightning_fabric",
    "segmentation_models_pytorch",
    "scipy.sparse.linalg",
    "scipy.stats",
    "pandas",
    "seaborn",
    "gainmtl",
    __name__,
)
"""Modules that the fork server imports: those that take long."""
LOG, DONE = "log.txt", "done"
"""Files of a run: its standard output and error; empty, written after success."""
Run: TypeAlias = "subprocess.CompletedProcess[str]"
"""The exit status of a run, and its log as `stderr`."""
Papermill: TypeAlias = Callable[[Sequence[str]], Run]
"""Arguments of papermill's command line -> the finished run."""


@contextlib.contextmanager
def papermill_runner(threads: int, **variables: str) -> Iterator[Papermill]:
    """A function that runs papermill from the repository's root; several threads may call it.

    Args:
        threads: for each notebook, in OpenMP and MKL.
        variables: further environment variables of all runs.
    """
    limits = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    # The kernel of this environment, not one of the same name in the user's home.
    variables = {**os.environ, "JUPYTER_PREFER_ENV_PATH": "1", **limits, **variables}
    if not sys.platform.startswith("linux"):
        yield lambda arguments: _start(arguments, variables)
        return
    # matplotlib reads it when it is imported, before the kernel would set this value.
    variables.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOAD))
    with _environment(variables):
        forkserver.ensure_running()
    try:
        yield lambda arguments: _fork(context, arguments, variables)
    finally:
        # Waits for the server, so that its CPU time counts as this process's.
        forkserver._forkserver._stop()  # type: ignore[attr-defined]


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def call_in_process(function: Callable[..., Any], *arguments: Any) -> int:
    """The exit status of `function` in a process of its own, which ends when this one is killed.

    `function` and `arguments` are pickled. A process of `subprocess` would run on, and write beside
    the one that is started next.
    """
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_call, args=(function, *arguments))
    process.start()
    process.join()
    return process.exitcode or 0


def _call(function: Callable[..., Any], *arguments: Any) -> None:
    end_with_parent()
    function(*arguments)


def _start(arguments: Sequence[str], variables: Mapping[str, str]) -> Run:
    command = [sys.executable, "-m", "papermill", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False
    )


def _fork(context: Any, arguments: Sequence[str], variables: Mapping[str, str]) -> Run:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        process = context.Process(target=_papermill, args=(list(arguments), variables, folder))
        process.start()
        process.join()
        # The exit status is not reliable if another thread starts a process at this moment.
        status = 0 if (folder / DONE).exists() else process.exitcode or 1
        log = (folder / LOG).read_text("utf-8", "replace") if (folder / LOG).exists() else ""
    return subprocess.CompletedProcess(list(arguments), status, "", log)


def _papermill(arguments: list[str], variables: Mapping[str, str], folder: Path) -> None:
    """In a fork of the server: fork the kernel, then run papermill with it."""
    os.environ.clear()
    os.environ.update(variables)
    with (folder / LOG).open("wb") as handle:
        os.dup2(handle.fileno(), 1)
        os.dup2(handle.fileno(), 2)
    os.chdir(ROOT)
    kernel = _Kernel()
    end_with_parent()

    from jupyter_client.provisioning import local_provisioner
    from papermill.cli import papermill

    local_provisioner.launch_kernel = kernel.launch  # type: ignore[assignment]
    papermill(arguments, standalone_mode=False)
    (folder / DONE).touch()


class _Kernel:
    """A kernel's process, forked in advance, with the part of `Popen` that jupyter_client uses.

    In advance, since papermill starts threads: a later fork would inherit locks that they hold.
    """

    stdin = stdout = stderr = None

    def __init__(self) -> None:
        context = multiprocessing.get_context("fork")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=_run_kernel, args=(other, self.connection))
        self.process.start()
        other.close()
        self.connection.recv()  # now it has its own process group, to which signals are sent
        self.pid = self.process.pid

    def launch(self, command: list[str], **options: Any) -> _Kernel:
        """In place of `jupyter_client.launcher.launch_kernel`."""
        self.connection.send((command, options.get("env"), options.get("cwd")))
        return self

    def poll(self) -> int | None:
        return self.process.exitcode

    def wait(self) -> int | None:
        self.process.join()
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        assert self.pid is not None
        os.kill(self.pid, number)

    def terminate(self) -> None:
        self.process.terminate()

    def kill(self) -> None:
        self.process.kill()


def _run_kernel(connection: Connection, other: Connection) -> None:
    """In a fork of papermill's process: wait for the command, then run the kernel."""
    other.close()
    os.setsid()
    connection.send(None)
    try:
        command, environment, folder = connection.recv()
    except EOFError:  # papermill ended before it needed a kernel
        return
    import numpy as np
    from ipykernel.kernelapp import IPKernelApp

    gc.freeze()  # a collection would touch, and so copy, the memory shared with the server
    np.random.seed()  # noqa: NPY002 (as in a new process; a fork has the server's state)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder or os.getcwd())
    del sys.path[0]  # the folder of the caller's script; a kernel adds its working folder
    start = command.index("-f")
    sys.argv = command[start - 1 :]
    # The class took the default of `parent_handle` from the environment of the fork server.
    IPKernelApp.launch_instance([*command[start:], f"--IPKernelApp.parent_handle={os.getppid()}"])
    atexit._run_exitfuncs()  # multiprocessing ends a process without them
