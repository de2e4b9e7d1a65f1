"""Time, memory and parameters of the chapter's networks on this machine; a stopped run resumes.

Each network at each image side leaves one file when it is done; started again, only missing ones
run. Times are processor time, which leaves out the turns of other programs; these still share its
caches and its memory, so a quiet machine gives better figures.
"""

from __future__ import annotations

import functools
import itertools
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from gainbook.chapters.ch01_models.blocks import PLACES, BlockCost, compare_blocks
from gainbook.chapters.ch01_models.networks import SUBJECTS, Subject
from gainbook.lab.cost import peak_bytes, side_by_side, used_parameters
from gainbook.lab.results_file import git_commit, row
from gainmtl.files import read_json, write_json

SIDES = (224, 512)
DATASET = "candidates"
"""The `dataset` of the chapter's result rows: their subjects are models, not images."""
METRICS = ("milliseconds", "megabytes", "million_parameters")


@torch.no_grad()
def measure(subject: Subject, side: int, turns: int = 3) -> dict[str, float]:
    """The `METRICS` of a prediction for one image of `side` pixels.

    `milliseconds`: processor time, added up over the threads; the median over the turns, after one
    unmeasured turn. `megabytes`: weights, other stored tensors, and the most that the prediction
    holds besides. `million_parameters`: those that it uses.
    """
    model = subject.build(side).to(memory_format=torch.channels_last).eval()
    image = torch.randn(1, 3, side, side).contiguous(memory_format=torch.channels_last)

    def step() -> None:
        model(image)

    stored = sum(t.nbytes for t in (*model.parameters(), *model.buffers()))
    held: list[int] = []  # filled by the one prediction that also finds the used parameters
    used = used_parameters(model, lambda: held.append(peak_bytes(step)))
    seconds = side_by_side({"": step}, turns, time.process_time)[""]
    return {
        "milliseconds": 1e3 * statistics.median(seconds),
        "megabytes": (stored + held[0]) / 1e6,
        "million_parameters": used / 1e6,
    }


def network_rows(tag: str, side: int, turns: int = 3) -> list[dict[str, Any]]:
    """Result rows of `measure`."""
    return [
        row(DATASET, tag, metric, value, split="measured", condition={"image_size": side},
            n=turns if metric == "milliseconds" else None)
        for metric, value in measure(SUBJECTS[tag], side, turns).items()
    ]  # fmt: skip


def block_rows(costs: Iterable[BlockCost]) -> list[dict[str, Any]]:
    """Rows `step_ratio`, `parameters_ratio`, `operations_ratio`: MBConv over fused."""
    rows = []
    for cost in costs:
        condition = {"against": "fused", **cost.place._asdict()}
        named = {"step_ratio": cost.step, "parameters_ratio": cost.parameters,
                 "operations_ratio": cost.operations}  # fmt: skip
        rows += [
            row(DATASET, "mbconv", metric, value.value, split="measured", ci_low=value.low,
                ci_high=value.high, n=value.n, condition=condition)
            for metric, value in named.items()
        ]  # fmt: skip
    return rows


def measure_all(
    folder: str | Path,
    tags: Iterable[str] = tuple(SUBJECTS),
    sides: Iterable[int] = SIDES,
    turns: int = 3,
    done: Callable[[str, float], None] | None = None,
) -> dict[str, dict[str, Any]]:
    """The content of every file, by its name; what has none yet is measured first.

    A content has `rows`, and the `settings`, `commit` and `seconds` of its measurement.

    Args:
        folder: of the files; made where it is missing.
        tags: of `SUBJECTS`.
        sides: of the images, in pixels.
        turns: see `measure`.
        done: called with a file's name and the seconds it took.

    Raises:
        ValueError: an unknown tag, or a file that was made with other settings.
    """
    unknown = sorted(set(tags) - set(SUBJECTS))
    if unknown:
        raise ValueError(f"expected networks among {', '.join(SUBJECTS)}, got {', '.join(unknown)}")
    settings = {"turns": turns, "threads": torch.get_num_threads(), "torch": torch.__version__}
    # Blocks have at least 15 turns: with fewer than six their interval is undefined.
    jobs: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "blocks": lambda: block_rows(
            compare_blocks(place, max(turns, 15), clock=time.process_time) for place in PLACES
        )
    }
    for tag, side in itertools.product(tags, sides):
        jobs[f"{tag}-{side}"] = functools.partial(network_rows, tag, side, turns)
    paths = {name: Path(folder) / f"{name}.json" for name in jobs}
    for path in paths.values():
        if path.is_file() and (found := read_json(path)["settings"]) != settings:
            raise ValueError(
                f"{path.name}: expected a file made with {settings}, found {found}; use another "
                "folder, or remove this one"
            )
    for name, job in jobs.items():
        if paths[name].is_file():
            continue
        started = time.monotonic()
        rows = job()
        seconds = round(time.monotonic() - started, 2)
        content = {"settings": settings, "commit": git_commit(), "seconds": seconds, "rows": rows}
        write_json(paths[name], content)
        if done is not None:
            done(name, seconds)
    return {name: read_json(path) for name, path in paths.items()}
