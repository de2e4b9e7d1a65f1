"""What a strategy costs over a plain timm classifier: `python tests/benchmarks/bench_cost.py`.

Both at the same backbone, size and batch, random weights, float32, in one process and in turns, so
that a slow moment of the machine hits both; the figure is the median over the repeats of the ratio
within a repeat. A training step is forward, loss, backward, clipping and AdamW. The strategy's
stages make its step cheaper early in a run, so it is measured with all terms on, and at the start.
`--freeze-stride 4` freezes the strategy's first layers as the book's recipe does.
The plain classifier is measured in both memory layouts: channels last, which `fit` uses, and NCHW,
timm's default. Peak memory is the largest resident set of a process of its own per system, whole
and above what the process held before the first step. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import timm
import torch
from torch import nn
from torch.nn import functional

from gainmtl.model import GAINMTL
from gainmtl.types import Batch

TARGETS = {"training step": 1.5, "prediction": 1.2, "peak memory": 1.3}
Step = Callable[[], None]
ROOT = Path(__file__).parents[2]


def make_batch(count: int, size: int, layout: torch.memory_format) -> Batch:
    """Noise; the second half is defective, each with a mask of 1 % of the image."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(count, 3, size, size, generator=generator)
    defective = torch.arange(count) >= count // 2
    mask = torch.zeros(count, 1, size, size)
    side = size // 10
    mask[count // 2 :, :, size // 3 : size // 3 + side, size // 3 : size // 3 + side] = 1
    names = tuple(str(index) for index in range(count))
    kinds = tuple("defect" if bad else "normal" for bad in defective.tolist())
    images = images.contiguous(memory_format=layout)
    return Batch(images, defective, mask, torch.ones_like(defective), kinds, names, names)


def descend(model: nn.Module, optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    """Backward, clip, step: the same for both."""
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimizer.step()


def plain_steps(arguments: argparse.Namespace, layout: torch.memory_format) -> dict[str, Step]:
    """A timm classifier with two classes."""
    torch.manual_seed(0)
    model = timm.create_model(arguments.backbone, num_classes=2).to(memory_format=layout)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    batch = make_batch(arguments.batch_size, arguments.image_size, layout)

    def train() -> None:
        model.train()
        logits = model(batch.image)
        descend(model, optimizer, functional.cross_entropy(logits, batch.is_defective.long()))

    def predict() -> None:
        model.eval()
        with torch.no_grad():
            model(batch.image).softmax(1)

    return {"train": train, "predict": predict}


def strategy_steps(arguments: argparse.Namespace) -> dict[str, Step]:
    """The strategy as `fit` and `predict` run it."""
    torch.manual_seed(0)
    layout = torch.channels_last
    model = GAINMTL(arguments.backbone, arguments.strategy).to(memory_format=layout)
    model.backbone.freeze(arguments.freeze_stride)
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-4)
    batch = make_batch(arguments.batch_size, arguments.image_size, layout)

    def train(progress: float) -> None:
        model.train()
        weights = model.strategy.weights_at(progress).asdict()
        terms = model.training_step(batch, progress)
        loss = torch.stack([weights[name] * value for name, value in terms.items()]).sum()
        descend(model, optimizer, loss)

    def predict() -> None:
        model.eval()
        with torch.no_grad():
            model(model.preprocess(batch.image))

    return {
        "train": lambda: train(1.0),
        "train at the start": lambda: train(0.01),
        "predict": predict,
    }


def seconds(step: Step, times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        step()
    return (time.perf_counter() - start) / times


def resident_mib() -> float:
    """The process's largest resident set so far."""
    status = Path("/proc/self/status")
    if status.is_file():  # Linux: there `ru_maxrss` starts from that of the process that forked
        lines = status.read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**10
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (2**20 if sys.platform == "darwin" else 2**10)


def memory_of(arguments: argparse.Namespace, system: str, what: str) -> tuple[float, float]:
    """Peak resident MiB of a fresh process, whole and above its start."""
    command = [sys.executable, __file__, "--measure", f"{system}:{what}"]
    for name in ("backbone", "strategy", "image_size", "batch_size", "threads", "freeze_stride"):
        command += [f"--{name.replace('_', '-')}", str(getattr(arguments, name))]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout
    start, peak = json.loads(printed.splitlines()[-1])
    return peak, peak - start


def measure_memory(arguments: argparse.Namespace) -> None:
    """What the process that `memory_of` starts does."""
    system, what = arguments.measure.split(":")
    make = strategy_steps if system == "strategy" else plain_channels_last
    step = make(arguments)[what]
    start = resident_mib()
    for _ in range(3):
        step()
    print(json.dumps([start, resident_mib()]))


def plain_channels_last(arguments: argparse.Namespace) -> dict[str, Step]:
    return plain_steps(arguments, torch.channels_last)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--backbone", default="mobilenetv2_100")
    parser.add_argument("--strategy", default="S5")
    parser.add_argument("--image-size", type=int, default=192)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--steps", type=int, default=3, help="steps per repeat")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--freeze-stride", type=int, default=0, help="of the strategy alone")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.measure:
        measure_memory(arguments)
        return
    strategy = strategy_steps(arguments)
    plain = plain_channels_last(arguments)
    nchw = plain_steps(arguments, torch.contiguous_format)
    name = arguments.strategy
    timed = {
        (name, "train"): strategy["train"],
        (name, "train at the start"): strategy["train at the start"],
        ("plain", "train"): plain["train"],
        ("plain NCHW", "train"): nchw["train"],
        (name, "predict"): strategy["predict"],
        ("plain", "predict"): plain["predict"],
        ("plain NCHW", "predict"): nchw["predict"],
    }
    for step in timed.values():
        step()
    took: dict[tuple[str, str], list[float]] = {key: [] for key in timed}
    for _ in range(arguments.repeats):
        for key, step in timed.items():
            took[key].append(seconds(step, arguments.steps))
    size = f"{arguments.batch_size} x {arguments.image_size} px, {arguments.threads} threads"
    print(f"{arguments.backbone}, {size}, median of {arguments.repeats}")
    for (system, what), values in took.items():
        print(f"  {system:12s} {what:20s} {1e3 * statistics.median(values):9.1f} ms")

    def ratio(label: str, above: tuple[str, str], below: tuple[str, str], target: float) -> None:
        each = [a / b for a, b in zip(took[above], took[below], strict=True)]
        verdict(f"{label}, {' '.join(above)} / {below[0]}", each, target)

    def verdict(label: str, each: list[float], target: float) -> None:
        middle = statistics.median(each)
        met = "met" if middle <= target else "MISSED"
        spread = f"{min(each):.2f} to {max(each):.2f}"
        print(f"{label:58s} {middle:5.2f}  ({spread})  target {target:.1f} {met}")

    for below in ("plain", "plain NCHW"):
        target = TARGETS["training step"]
        ratio("training step", (name, "train"), (below, "train"), target)
        ratio("training step", (name, "train at the start"), (below, "train"), target)
        ratio("prediction", (name, "predict"), (below, "predict"), TARGETS["prediction"])
    for what in ("train", "predict"):
        ours, theirs = (memory_of(arguments, system, what) for system in ("strategy", "plain"))
        for kind, a, b in zip(("whole", "above the start"), ours, theirs, strict=True):
            label = f"peak memory, {what}, {kind}: {a:.0f} / {b:.0f} MiB"
            if b:
                verdict(label, [a / b], TARGETS["peak memory"])
            else:
                print(f"{label:58s} too small a run: importing took more")


if __name__ == "__main__":
    main()
