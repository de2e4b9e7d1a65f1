"""EfficientNetV2: its published figures beside the built networks, and its fused blocks timed.

A block of MobileNet expands the channels by a 1 x 1 convolution, filters each channel by a
depthwise 3 x 3 one, and projects back by a 1 x 1 one (MBConv). The fused block replaces the first
two by one full 3 x 3 convolution: more operations, in fewer layers. Tan and Le, "EfficientNetV2",
ICML 2021.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import nn

from gainbook.chapters.ch01_models import tables
from gainbook.lab.cost import operations, ratio_interval, side_by_side
from gainbook.lab.tables import Value

EXPANSION = 4
BATCH = 8


class Version(NamedTuple):
    """The figures of an EfficientNetV2 that are claimed."""

    size: str
    parameters: float
    """Millions."""
    accuracy: float
    """ImageNet top-1, %."""
    architecture: str
    training_side: int
    """Image side of timm's training times, in pixels."""


VERSIONS = (
    Version("S", 21.5, 83.9, "tf_efficientnetv2_s", 300),
    Version("M", 54.1, 85.2, "tf_efficientnetv2_m", 384),
    Version("L", 118.5, 85.7, "tf_efficientnetv2_l", 384),
)


class Place(NamedTuple):
    """Where a block stands in EfficientNetV2-S at training images of 300 pixels."""

    channels: int
    cells: int
    """Side of the feature map."""
    is_fused: bool
    """In the published network."""


PLACES = (Place(48, 75, True), Place(64, 38, True), Place(128, 19, False))


class BlockCost(NamedTuple):
    """An MBConv block beside a fused one of the same width."""

    place: Place
    step: Value
    """Seconds of a training step of MBConv over those of the fused block, with its interval over
    the turns; above 1 the fused block is faster."""
    parameters: Value
    """The same ratio of parameters."""
    operations: Value
    """The same ratio of the operations of a prediction."""


def built_parameters(architecture: str) -> int:
    """How many numbers the network has; none of them is stored."""
    import timm  # on demand: it takes a second

    with torch.device("meta"):
        return sum(p.numel() for p in timm.create_model(architecture).parameters())


def table_accuracy(architecture: str) -> float:
    """timm's highest top-1 accuracy of the weights that were trained on ImageNet-1k alone."""
    models = tables.timm_models()
    return float(models.loc[models["name"] == f"{architecture}.in1k", "accuracy"].max())


def training_ratio(version: Version) -> tuple[str, float]:
    """The EfficientNet of the nearest accuracy, and its training time per image over V2's.

    Both from the published tables: of the EfficientNets without further training images the one
    with the nearest top-1 accuracy; each network is trained at its own image size.
    """
    models = tables.timm_models()
    first = models[
        models["name"].str.match(r"tf_efficientnet_b\d\.")
        & ~models["name"].str.contains("jft|21k")
        & models["train_ms"].notna()
    ]
    gap = (first["accuracy"] - table_accuracy(version.architecture)).abs()
    nearest = first.loc[gap.idxmin()]
    own = models[
        (models["architecture"] == version.architecture)
        & (models["image_size"] == version.training_side)
    ]
    return str(nearest["name"]), float(nearest["train_ms"] / own["train_ms"].iloc[0])


def block(kind: str, channels: int) -> nn.Module:
    """A block of EfficientNetV2 that keeps its shape: "fused" or "mbconv"."""
    from timm.models._efficientnet_blocks import EdgeResidual, InvertedResidual, SqueezeExcite

    about: dict[str, Any] = {"exp_ratio": float(EXPANSION), "act_layer": nn.SiLU}
    if kind == "fused":
        return EdgeResidual(channels, channels, **about)
    about["se_layer"] = functools.partial(SqueezeExcite, rd_channels=channels // 4)
    return InvertedResidual(channels, channels, **about)


def compare_blocks(
    place: Place,
    turns: int = 15,
    batch: int = BATCH,
    clock: Callable[[], float] = time.perf_counter,
) -> BlockCost:
    """Time a training step (forward and backward) of both blocks, in turns; `clock` in seconds."""
    shape = (batch, place.channels, place.cells, place.cells)
    images = torch.randn(shape).contiguous(memory_format=torch.channels_last).requires_grad_()
    models = {
        kind: block(kind, place.channels).to(memory_format=torch.channels_last)
        for kind in ("mbconv", "fused")
    }

    def step(model: nn.Module) -> None:
        model.zero_grad()
        model(images).square().mean().backward()

    took = side_by_side({k: functools.partial(step, m) for k, m in models.items()}, turns, clock)
    counts = [sum(p.numel() for p in model.parameters()) for model in models.values()]
    with torch.no_grad():
        flops = [operations(functools.partial(m.eval(), images)) for m in models.values()]
    return BlockCost(
        place,
        Value(*ratio_interval(took["mbconv"], took["fused"]), turns),
        Value(counts[0] / counts[1]),
        Value(flops[0] / flops[1]),
    )


def published() -> pd.DataFrame:
    """One row per version: its figures, and the ratio of training times with what is compared."""
    lines = []
    for version in VERSIONS:
        name, ratio = training_ratio(version)
        lines.append(
            {
                "size": version.size,
                "million_parameters": built_parameters(version.architecture) / 1e6,
                "accuracy": table_accuracy(version.architecture),
                "beside": name,
                "training_ratio": ratio,
            }
        )
    return pd.DataFrame(lines)
