"""Only workers with the same code as the sweep take part in it."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

from distributed import Client, WorkerPlugin

import gainbook
import gainmtl


def code_version() -> str:
    """The package's version and the start of a SHA-256 of its source and the book's."""
    hasher = hashlib.sha256()
    for package in (gainmtl, gainbook):
        root = Path(package.__path__[0])
        for path in sorted(root.rglob("*.py")):
            hasher.update(f"\0{path.relative_to(root).as_posix()}\0".encode())
            hasher.update(path.read_bytes())
    return f"{gainmtl.__version__} ({hasher.hexdigest()[:12]})"


class SameCode(WorkerPlugin):
    """Ends a worker that joins with other code, after a sentence in its log."""

    name = "gainmtl-same-code"

    def __init__(self, wanted: str) -> None:
        self.wanted = wanted

    def setup(self, worker: Any) -> None:
        if (found := code_version()) != self.wanted:
            # After an error in `setup` Dask would let the worker join.
            print(refusal(worker.address, found, self.wanted), file=sys.stderr)
            worker.loop.add_callback(worker.close, reason="other code")


def refusal(address: str, found: str, wanted: str) -> str:
    """The sentence for a worker with other code."""
    return (
        f"sweep: the worker {address} is refused: it has gainmtl {found}, the sweep {wanted}. "
        "Install the same commit there and start the worker again."
    )


def admit(client: Client) -> None:
    """Send workers with other code away, those that join later too.

    Raises:
        RuntimeError: workers are there, and all have other code.
    """
    wanted = code_version()
    # A worker whose package is so old that it lacks this module has an exception for an answer.
    answers = client.run(code_version, on_error="return")
    refused = {address: str(found) for address, found in answers.items() if found != wanted}
    for address, found in refused.items():
        print(refusal(address, found, wanted), file=sys.stderr)
    if refused:
        client.retire_workers(list(refused), close_workers=True)
    if refused and len(refused) == len(answers):
        raise RuntimeError("sweep: no worker is left; all have another version of gainmtl")
    client.register_plugin(SameCode(wanted))
