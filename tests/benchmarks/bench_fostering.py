"""What CAM fostering costs in training: `python tests/benchmarks/bench_fostering.py`.

A training step of the plain classifier without the term, with it by the analytic route (ce, ca and
cd), and by second derivatives: at the same features, and at inner levels of the backbone. Random
weights, float32, batch statistics frozen as `fit` does with given weights, in one process and in
turns, so that a slow moment of the machine hits all; the figure is the median over the turns of the
ratio within a turn. An epoch is such steps and the loading of images, which all share, so the
epoch's ratio lies nearer to 1. Run it on an idle machine; the load is printed.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Callable

import torch
from bench_cost import descend, make_batch
from gainbook.lab.cost import median_ratio, side_by_side

from gainmtl import losses
from gainmtl.fostering import layer_map, true_score
from gainmtl.model import GAINMTL
from gainmtl.strategies import Strategy, foster, get_strategy

TARGET = 1.05
"""For the analytic route with ce, over the step without the term."""


def build(strategy: str | Strategy, arguments: argparse.Namespace) -> GAINMTL:
    torch.manual_seed(0)
    model = GAINMTL(
        arguments.backbone, strategy, output_stride=arguments.output_stride, pooling="mean"
    )
    model = model.to(memory_format=torch.channels_last)
    model.backbone.freeze(arguments.freeze_stride, statistics=True)
    return model.train()


def stepper(strategy: str | Strategy, arguments: argparse.Namespace) -> Callable[[], None]:
    """A training step as `fit` runs it, all terms on."""
    model = build(strategy, arguments)
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-4)
    batch = make_batch(arguments.batch_size, arguments.image_size, torch.channels_last)
    weights = model.strategy.weights.asdict()

    def step() -> None:
        terms = model.training_step(batch, 1.0)
        loss = torch.stack([weights[name] * value for name, value in terms.items()]).sum()
        descend(model, optimizer, loss)

    return step


def at_the_same_features(arguments: argparse.Namespace) -> Callable[[], None]:
    """The second-order route where the analytic one applies."""
    model = build("S1", arguments)
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-4)
    batch = make_batch(arguments.batch_size, arguments.image_size, torch.channels_last)
    labels = batch.is_defective.long()

    def step() -> None:
        features = model.features(model.preprocess(batch.image))
        logits = model.classify(features).output.logits
        maps = layer_map(true_score(logits, labels), features)
        loss = losses.focal_loss(logits, labels)
        descend(model, optimizer, loss + losses.fostering_loss(maps, batch.is_defective))

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--backbone", default="mobilenetv2_100")
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--output-stride", type=int, default=4)
    parser.add_argument("--freeze-stride", type=int, default=4)
    parser.add_argument("--layers", type=int, nargs="*", default=[16, 8])
    parser.add_argument("--repeats", type=int, default=25)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    print(
        f"{arguments.backbone}, {arguments.image_size} px, batch {arguments.batch_size}, stride "
        f"{arguments.output_stride}, {arguments.threads} threads, median of {arguments.repeats} "
        f"turns; load {load:.1f} on {os.cpu_count()} cores"
    )
    steps = {
        "none": stepper(get_strategy("S1"), arguments),
        "ce, analytic": stepper(foster("S1", 1.0), arguments),
        "cd, analytic": stepper(foster("S1", 1.0, "cd"), arguments),
        "ca, analytic": stepper(foster("S1", 1.0, "ca"), arguments),
        "ce, second order, same features": at_the_same_features(arguments),
    }
    for stride in arguments.layers:
        steps[f"ce, second order, level of stride {stride}"] = stepper(
            foster("S1", 1.0, layer=stride), arguments
        )
    took = side_by_side(steps, arguments.repeats)
    for name, seconds in took.items():
        ratio = median_ratio(seconds, took["none"])
        verdict = ""
        if name == "ce, analytic":
            verdict = f" (target {TARGET:g}: {'met' if ratio <= TARGET else 'MISSED'})"
        middle = 1e3 * statistics.median(seconds)
        print(f"{name:42s} {middle:7.1f} ms, over none {ratio:.3f}{verdict}", flush=True)


if __name__ == "__main__":
    main()
