"""What a computation costs: passes through a network, tensors held in memory, seconds."""

from __future__ import annotations

import functools
import statistics
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from scipy.stats import quantile_test
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from gainbook.lab.results_file import row
from gainbook.lab.run_system import build
from gainbook.lab.systems import System
from gainmtl.interface import DefectModel
from gainmtl.types import Batch

Step = Callable[[], Any]


class _Watch(torch.autograd.Function):
    """The identity; running it backwards adds to a counter."""

    @staticmethod
    def forward(context: Any, values: Tensor, counter: Counted) -> Tensor:
        context.counter = counter
        return values.view_as(values)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        context.counter.backward += len(gradients[0])
        return gradients[0], None


class Counted:
    """A part of a network that counts the images which pass it forwards and backwards.

    A backward pass is a gradient that reaches the part's input; where the input needs none, as an
    image, one that arrives at its output. A gradient that was cut off above is none.
    """

    def __init__(self, part: Callable[[Tensor], Any]) -> None:
        self.part = part
        self.forward = 0
        self.backward = 0

    def __call__(self, values: Tensor) -> Any:
        self.forward += len(values)
        if values.requires_grad:
            return self.part(_Watch.apply(values, self))
        result = self.part(values)
        watched = isinstance(result, Tensor) and result.requires_grad
        return _Watch.apply(result, self) if watched else result


class PeakMemory(TorchDispatchMode):
    """Within the context, follows the bytes of tensors made there and still alive.

    Counts what operators return and what autograd keeps of it, on any device; not the workspace
    inside an operator, and not what was there before. `peak` is the largest sum, in bytes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self.alive = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        # A view, or an operation in place, returns a storage that it was given.
        leaves = tree_leaves((args, kwargs))
        known = {x.untyped_storage()._cdata for x in leaves if isinstance(x, Tensor)}
        for made in tree_leaves(result):
            if not isinstance(made, Tensor):
                continue
            storage = made.untyped_storage()
            if storage._cdata not in known:
                known.add(storage._cdata)
                self.alive += storage.nbytes()
                # PyTorch keeps one Python object per storage for as long as the storage lives.
                weakref.finalize(storage, self._free, storage.nbytes())
        self.peak = max(self.peak, self.alive)
        return result

    def _free(self, size: int) -> None:
        self.alive -= size


def peak_bytes(step: Step) -> int:
    """Largest number of bytes of tensors that `step` holds at one time; see `PeakMemory`."""
    with PeakMemory() as memory:
        step()
    return memory.peak


class _Touched(TorchDispatchMode):
    """Collects the storages of all tensors that operators read within the context."""

    def __init__(self) -> None:
        super().__init__()
        self.storages: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = (x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor))
        self.storages |= {x.untyped_storage()._cdata for x in given}
        return func(*args, **(kwargs or {}))


def used_parameters(model: nn.Module, step: Step) -> int:
    """Number of elements of those parameters of `model` that an operator of `step` reads.

    A branch that only training needs, or a layer that the system never reaches, is not counted; a
    weight that is used outside its module, as in Swin's attention, is.
    """
    with _Touched() as touched:
        step()
    return sum(
        p.numel() for p in model.parameters() if p.untyped_storage()._cdata in touched.storages
    )


def operations(step: Step) -> int:
    """Floating-point operations of `step` in convolutions and matrix products.

    A multiplication and the addition after it are two. What goes cell by cell, as a gate's product
    or a pooling, is not counted: it costs memory traffic, which only a clock sees.
    """
    with FlopCounterMode(display=False) as counter:
        step()
    return int(counter.get_total_flops())


def side_by_side(
    steps: Mapping[str, Step], repeats: int = 5, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of every step, `repeats` times in turns after one unmeasured turn.

    In turns, so that a slow moment of the machine hits all of them and ratios within a turn hold.

    Args:
        clock: in seconds; `time.process_time` leaves out the time that other programs take, and
            adds up the threads of this one.
    """
    took: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(repeats + 1):
        for name, step in steps.items():
            _wait()
            start = clock()
            step()
            _wait()
            if turn:
                took[name].append(clock() - start)
    return took


def median_ratio(above: list[float], below: list[float]) -> float:
    """The median over the turns of the ratio within a turn."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def ratio_interval(above: list[float], below: list[float]) -> tuple[float, float, float]:
    """`median_ratio` with the ends of its 95 % interval over the turns.

    Between order statistics, whatever the ratios' distribution, so that a few turns beside a busy
    neighbour widen it and do not shift it; the ends are NaN for fewer than six turns.
    """
    ratios = [a / b for a, b in zip(above, below, strict=True)]
    ends = quantile_test(ratios, p=0.5).confidence_interval(0.95)
    return statistics.median(ratios), float(ends.low), float(ends.high)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def cost_rows(
    systems: Sequence[System],
    backbone: str,
    size: int,
    dataset: str,
    repeats: int = 5,
    batch_size: int = 8,
) -> list[dict[str, Any]]:
    """Rows of what systems cost on this machine's processor, which no weights change.

    `parameters` that a prediction uses, `gigaflops` of one image, `milliseconds` of one image
    alone, `training_milliseconds` of an image in a step of a batch with all loss terms on.
    """
    models = {
        s.tag: build(s, backbone, None).to(memory_format=torch.channels_last).eval()
        for s in systems
    }
    batch = _timing_batch(size, batch_size)
    image = batch.image[:1].contiguous(memory_format=torch.channels_last)

    def predict(model: DefectModel) -> None:
        with torch.no_grad():
            model(image)

    def learn(model: DefectModel) -> None:
        model.zero_grad()
        torch.stack(list(model.training_step(batch).values())).sum().backward()

    predictions = {tag: functools.partial(predict, model) for tag, model in models.items()}
    counts = {tag: used_parameters(models[tag], step) for tag, step in predictions.items()}
    flops = {tag: operations(step) for tag, step in predictions.items()}
    alone = side_by_side(predictions, repeats)
    for model in models.values():
        model.train()
    steps = {tag: functools.partial(learn, model) for tag, model in models.items()}
    learned = side_by_side(steps, max(2, repeats // 2))
    return [
        row(dataset, s.name, metric, value,
            condition={**s.condition, "backbone": backbone, "image_size": size})
        for s in systems
        for metric, value in {
            "parameters": counts[s.tag],
            "gigaflops": flops[s.tag] / 1e9,
            "milliseconds": 1e3 * statistics.median(alone[s.tag]),
            "training_milliseconds": 1e3 * statistics.median(learned[s.tag]) / batch_size,
        }.items()
    ]  # fmt: skip


def _timing_batch(size: int, count: int) -> Batch:
    """One random image `count` times, the first half of them defective with a square mask."""
    image = torch.rand(1, 3, size, size)
    images = image.expand(count, -1, -1, -1).contiguous(memory_format=torch.channels_last)
    mask = torch.zeros(count, 1, size, size)
    mask[: count // 2, :, size // 4 : size // 2, size // 4 : size // 2] = 1
    words = ("synthetic",) * count
    known = torch.ones(count, dtype=torch.bool)
    return Batch(images, torch.arange(count) < count // 2, mask, known, words, words, words)
