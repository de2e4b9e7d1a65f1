"""Passes, bytes and seconds, against what can be counted by hand."""

from __future__ import annotations

import math

import pandas as pd
import pytest
import torch
from gainbook.lab.catalogue import FCOS, S1_FINE, UNET
from gainbook.lab.cost import (
    Counted,
    PeakMemory,
    cost_rows,
    median_ratio,
    operations,
    peak_bytes,
    ratio_interval,
    side_by_side,
    used_parameters,
)
from gainbook.lab.results_file import check_rows
from gainbook.lab.tables import find
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gainmtl.explanation.gradient import grad_cam
from gainmtl.explanation.perturbation import score_cam


def test_passes_of_the_methods() -> None:
    torch.manual_seed(0)
    trunk, head = nn.Conv2d(3, 4, 3, stride=2), nn.Linear(4, 2)
    images = torch.randn(5, 3, 9, 9)

    def parts() -> tuple[Counted, Counted]:
        return Counted(trunk), Counted(lambda a: head(a.mean((2, 3))))

    below, above = parts()
    grad_cam(below(images).detach(), above)
    assert (below.forward, below.backward, above.forward, above.backward) == (5, 0, 5, 5)
    below, above = parts()
    features = below(images)
    grad_cam(features, above, create_graph=True).map.sum().backward()
    assert (below.forward, below.backward) == (5, 5)
    below, above = parts()
    with torch.no_grad():
        score_cam(images, below(images), lambda x: above(below(x)))
    assert (below.forward, below.backward) == (5 + 1 + 5 * 4, 0)


def test_a_checkpoint_passes_forward_twice() -> None:
    part = Counted(nn.Linear(3, 3))
    checkpoint(part, torch.randn(7, 3, requires_grad=True), use_reentrant=False).sum().backward()
    assert (part.forward, part.backward) == (14, 7)


def test_peak_counts_what_lives_at_one_time() -> None:
    megabyte = 2**20
    weight = torch.zeros(megabyte // 4)

    def make() -> Tensor:
        return torch.zeros(megabyte // 4)

    assert peak_bytes(make) == megabyte

    def one_after_another() -> None:
        for _ in range(3):
            make()

    def together() -> None:
        assert len([make() for _ in range(3)]) == 3

    assert peak_bytes(one_after_another) == megabyte
    assert peak_bytes(together) == 3 * megabyte
    assert peak_bytes(lambda: weight.view(2, -1).add_(1).t()) == 0  # views and in-place writes
    assert peak_bytes(lambda: weight + 1) == megabyte  # not what was there before


def test_peak_counts_what_autograd_keeps() -> None:
    weight = torch.zeros(1000, requires_grad=True)

    def chain(keep: bool) -> None:
        with torch.set_grad_enabled(keep):
            value = weight
            for _ in range(4):
                value = value.exp()

    assert peak_bytes(lambda: chain(False)) == 2 * 4000
    assert peak_bytes(lambda: chain(True)) == 4 * 4000


def test_all_is_given_back() -> None:
    with PeakMemory() as memory:
        value = torch.zeros(10) + torch.ones(10)
        del value
    assert memory.alive == 0
    assert memory.peak == 3 * 40


def test_operations_of_a_convolution_and_a_product() -> None:
    images, layer = torch.zeros(2, 3, 8, 8), nn.Conv2d(3, 5, 3, padding=1)
    assert operations(lambda: layer(images)) == 2 * (2 * 5 * 8 * 8) * (3 * 3 * 3)
    assert operations(lambda: torch.zeros(4, 6) @ torch.zeros(6, 7)) == 2 * 4 * 6 * 7
    assert operations(lambda: images * torch.sigmoid(images)) == 0


def test_side_by_side_takes_turns() -> None:
    seen: list[str] = []
    steps = {"a": lambda: seen.append("a"), "b": lambda: seen.append("b")}
    took = side_by_side(steps, repeats=2)
    assert seen == ["a", "b"] * 3
    assert {name: len(times) for name, times in took.items()} == {"a": 2, "b": 2}
    assert median_ratio([2.0, 9.0, 4.0], [1.0, 3.0, 1.0]) == pytest.approx(3.0)


def test_side_by_side_reads_the_clock_that_it_is_given() -> None:
    """A clock that only step a moves, by 2 s."""
    now = [0.0]

    def step() -> None:
        now[0] += 2

    def clock() -> float:
        return now[0]

    assert side_by_side({"a": step, "b": lambda: None}, 3, clock) == {"a": [2] * 3, "b": [0] * 3}


def test_the_interval_of_a_ratio_lies_between_order_statistics() -> None:
    """Of nine turns the 2nd and the 8th: P(fewer than two of nine fall below) is 10 / 512."""
    turns = [1.00, 1.01, 1.02, 1.03, 1.04, 1.05, 1.06, 3.0, 9.0]  # two of them beside a neighbour
    median, low, high = ratio_interval([2 * turn for turn in reversed(turns)], [2.0] * 9)
    assert (median, low, high) == pytest.approx((1.04, 1.01, 3.0))
    assert all(math.isnan(end) for end in ratio_interval([1.0] * 5, [1.0] * 5)[1:])


def test_parameters_and_operations_by_hand() -> None:
    used, unused = torch.nn.Linear(3, 4), torch.nn.Linear(5, 5)
    both = torch.nn.ModuleDict({"used": used, "unused": unused})
    step = lambda: used(torch.zeros(2, 3))  # noqa: E731
    assert used_parameters(both, step) == 3 * 4 + 4
    outside = lambda: nn.functional.linear(torch.zeros(1, 5), unused.weight)  # noqa: E731
    assert used_parameters(both, outside) == 5 * 5  # a weight without its module
    assert operations(step) == 2 * 2 * 3 * 4


def test_costs_of_every_kind_of_system() -> None:
    unet = UNET._replace(options=(("decoder", (8, 8, 8, 8, 8)),))
    fcos = FCOS._replace(options=(("width", 32), ("convolutions", 1)))
    rows = cost_rows((S1_FINE, unet, fcos), "test_efficientnet", 64, "d", 2)
    check_rows(rows)
    table = pd.DataFrame(rows)
    extra = {"backbone": "test_efficientnet", "image_size": 64}
    for system in (S1_FINE, unet, fcos):
        for metric in ("parameters", "gigaflops", "milliseconds", "training_milliseconds"):
            assert find(table, system, metric, **extra).value > 0
