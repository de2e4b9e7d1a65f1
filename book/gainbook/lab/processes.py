"""Processes that end with the one that started them, so that a killed run leaves nothing behind."""

from __future__ import annotations

import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor


def end_with_parent() -> None:
    """End this process when the process of `multiprocessing` that started it ends."""
    threading.Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def worker_pool(workers: int) -> ProcessPoolExecutor:
    """Processes with one thread of PyTorch each.

    They are fresh interpreters: a forked one would share PyTorch's threads with its parent.
    """
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, context, initializer=_start_worker)


def _start_worker() -> None:
    import torch

    end_with_parent()
    torch.set_num_threads(1)
