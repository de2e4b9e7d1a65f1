"""One run of a sweep in a process of its own: `python -m gainbook.lab.sweep.run FOLDER`.

The folder holds `run.json`, as `sweep` left it; papermill's notebook, the log, and `done.json` or
`error.txt` come beside it. The process ends itself, and its notebook's kernel, when the worker that
started it is gone: a worker that was killed must not leave a run behind that writes beside its
successor.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import psutil

from gainbook.lab.results_file import git_commit
from gainmtl.files import atomic_path, claimed, read_json, write_json

RUN, DONE, ERROR, NOTEBOOK, LOCK = "run.json", "done.json", "error.txt", "out.ipynb", "run.lock"
LOCK_SECONDS = 60.0
"""How long a run waits for a predecessor in the same folder to be gone."""


def digest(notebook: str | Path) -> str:
    """The start of the SHA-256 of a notebook's file."""
    return hashlib.sha256(Path(notebook).read_bytes()).hexdigest()[:16]


def run(folder: str | Path) -> bool:
    """Execute the run that `folder/run.json` describes; whether it ended well.

    `done.json` is written last: where it exists, the results are complete. An error leaves
    `error.txt` with the traceback, and the notebook as far as it ran.
    """
    folder = Path(folder)
    described = read_json(folder / RUN)
    for old in (DONE, ERROR):
        (folder / old).unlink(missing_ok=True)
    start = time.monotonic()
    notebook = described["notebook"]
    made_by = digest(notebook)
    try:
        _papermill(notebook, folder / NOTEBOOK, described["parameters"])
    except Exception:  # whatever a notebook raises is reported, and takes no other run down
        with atomic_path(folder / ERROR) as temporary:
            temporary.write_text(traceback.format_exc(), encoding="utf-8")
        return False
    facts = {
        "seconds": round(time.monotonic() - start, 2),
        "notebook_sha256": made_by,
        "git_commit": git_commit(),
    }
    write_json(folder / DONE, facts)
    return True


def _papermill(notebook: str, out: Path, parameters: dict[str, Any]) -> None:
    # Heavy, and needed here only.
    import papermill

    papermill.execute_notebook(
        notebook, str(out), parameters, progress_bar=False, stdout_file=sys.stdout,
        stderr_file=sys.stderr,
    )  # fmt: skip


def end_with_parent(parent: int, every: float = 0.5) -> None:
    """Watch `parent` in a thread; when it is gone, end this process and all it started."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(every)
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                child.kill()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main() -> int:
    """The command line: a folder, and the process to end with."""
    folder, parent = Path(sys.argv[1]), int(sys.argv[2])
    end_with_parent(parent)
    with claimed(folder, LOCK_SECONDS, LOCK):
        return 0 if run(folder) else 1


if __name__ == "__main__":
    sys.exit(main())
