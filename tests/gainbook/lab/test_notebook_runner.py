"""A notebook that starts as a fork runs as one that `python -m papermill` starts."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest
from gainbook import ROOT
from gainbook.lab import notebook_runner

STATE = """
import os, sys, threading
import matplotlib as mpl, numpy as np
random = np.random.rand()
print(sorted(name for name in os.environ if not name.startswith(("PYTEST", "JPY"))))
print(os.environ["OMP_NUM_THREADS"], os.environ["COLOUR"])
print(mpl.rcParams["backend"], sys.argv[1:2], sys.path, os.getcwd(), os.getpid() == os.getsid(0))
print(type(get_ipython()).__name__, __name__, os.getppid() > 1, threading.current_thread().name)
"""
RUNNER = """
import sys
from gainbook.lab import notebook_runner
notebook_runner.PRELOAD = ("ipykernel.kernelapp", "matplotlib.pyplot")
if __name__ == "__main__":
    with notebook_runner.papermill_runner(threads=1, COLOUR="blue") as papermill:
        done = papermill(sys.argv[1:])
    sys.stderr.write(done.stderr)
    sys.exit(done.returncode)
"""
BOUND = """
import sys, time
from gainbook.lab.notebook_runner import call_in_process
if __name__ == "__main__":
    sys.exit(call_in_process(*eval(sys.argv[1])))
"""

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="forks on Linux only")


def write(path: Path, *sources: str) -> Path:
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    return path


def start(folder: Path, notebook: Path) -> subprocess.Popen[str]:
    script = folder / "runner.py"
    script.write_text(RUNNER)
    command = [sys.executable, str(script), str(notebook), str(folder / "out.ipynb")]
    # Not the default: readline, which pytest imports, adds variables behind os.environ.
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=dict(os.environ))


def test_a_fork_starts_in_the_same_state(tmp_path: Path) -> None:
    notebook = write(tmp_path / "state.ipynb", STATE, "random")
    assert start(tmp_path, notebook).wait() == 0
    forked = nbformat.read(tmp_path / "out.ipynb", 4)
    variables = dict(os.environ, OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", COLOUR="blue")
    variables["JUPYTER_PREFER_ENV_PATH"] = "1"
    plain_path = tmp_path / "plain.ipynb"
    done = notebook_runner._start([str(notebook), str(plain_path)], variables)
    assert done.returncode == 0
    plain = nbformat.read(plain_path, 4)
    assert forked.cells[0].outputs == plain.cells[0].outputs
    assert str(ROOT) in forked.cells[0].outputs[0].text
    assert forked.cells[1].outputs != plain.cells[1].outputs


@linux_only
def test_the_kernel_ends_with_the_process_that_started_the_run(tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    source = f"import os, pathlib, time\npathlib.Path({str(marker)!r}).write_text(str(os.getpid()))"
    process = start(tmp_path, write(tmp_path / "sleeps.ipynb", f"{source}\ntime.sleep(600)"))
    kernel = 0
    for _ in range(600):
        if marker.is_file() and marker.read_text():
            kernel = int(marker.read_text())
            break
        time.sleep(0.1)
    assert Path(f"/proc/{kernel}").exists()
    process.kill()
    process.wait()
    for _ in range(100):
        if not Path(f"/proc/{kernel}").exists():
            break
        time.sleep(0.1)
    assert not Path(f"/proc/{kernel}").exists()


def test_a_bound_process_has_its_status_and_ends_with_a_killed_parent(tmp_path: Path) -> None:
    script = tmp_path / "bound.py"
    script.write_text(BOUND)
    for code, status in (("sys.exit, 3", 3), ("len, 'x'", 0)):
        assert subprocess.run([sys.executable, str(script), code], check=False).returncode == status
    with subprocess.Popen([sys.executable, str(script), "time.sleep, 600"]) as parent:
        children: list[psutil.Process] = []
        end = time.monotonic() + 60
        while not any("spawn_main" in " ".join(child.cmdline()) for child in children):
            assert time.monotonic() < end
            time.sleep(0.1)
            children = psutil.Process(parent.pid).children()
        parent.kill()
    assert psutil.wait_procs(children, timeout=60)[1] == []
