"""Workers end with the process that started them, also where it is killed."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil

SCRIPT = """
import os, sys, time
from pathlib import Path
from gainbook.lab.processes import worker_pool

def work(folder):
    import torch
    Path(folder, str(os.getpid())).write_text(str(torch.get_num_threads()))
    time.sleep(600)

if __name__ == "__main__":
    with worker_pool(2) as pool:
        list(pool.map(work, [sys.argv[1]] * 2))
"""


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    script, started = tmp_path / "run.py", tmp_path / "started"
    script.write_text(SCRIPT)
    started.mkdir()
    process = subprocess.Popen([sys.executable, str(script), str(started)])
    until = time.monotonic() + 120
    while len(list(started.iterdir())) < 2 and time.monotonic() < until:
        time.sleep(0.1)
    workers = [psutil.Process(int(path.name)) for path in started.iterdir()]
    process.kill()
    process.wait()
    assert len(workers) == 2
    assert {path.read_text() for path in started.iterdir()} == {"1"}
    assert not psutil.wait_procs(workers, timeout=30)[1]
