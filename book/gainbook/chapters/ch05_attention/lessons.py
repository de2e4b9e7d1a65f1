"""Lessons for a single gate on frozen features: which gate can learn where defects are?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gainbook.chapters.ch05_attention.gates import cell_entropy
from gainmtl.attention import CBAM, GuidedAttention, channel_summary
from gainmtl.losses import map_guidance_loss
from gainmtl.model import GAINMTL
from gainmtl.types import Batch, collate

BATCH, RATE = 16, 4e-3


class Part(NamedTuple):
    """The images of a data set and the features that a frozen network computes of them."""

    features: Tensor
    """(N, C, h, w)."""
    batch: Batch


@torch.no_grad()
def freeze(model: GAINMTL, dataset: Any) -> Part:
    """All images of a data set with the model's features, detached."""
    batch = collate([dataset[i] for i in range(len(dataset))])
    return Part(model.features(model.preprocess(batch.image)).clone(), batch)


def cbam_logits(gate: CBAM, features: Tensor) -> Tensor:
    """The logits of CBAM's spatial gate, after its channel gate; (B, C, h, w) to (B, 1, h, w)."""
    return gate.spatial(channel_summary(features * gate.channel_gate(features)))


def attention_logits(gate: GuidedAttention, features: Tensor) -> Tensor:
    """The logits of a guided attention; (B, C, h, w) to (B, 1, h, w)."""
    return gate(features)


def teach(
    gate: nn.Module,
    logits_of: Callable[[Any, Tensor], Tensor],
    lesson: Part,
    steps: int,
    seed: int,
    rate: float = RATE,
    watch: Callable[[int], None] | None = None,
) -> None:
    """Train a gate's weights that require gradients by the guidance loss, with Adam.

    Args:
        logits_of: of the gate and features, as `cbam_logits`.
        seed: of the order of images.
        watch: called with the number of steps done, after the first, every tenth and the last.
    """
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam([p for p in gate.parameters() if p.requires_grad], rate)
    batch = lesson.batch
    for step in range(1, steps + 1):
        i = torch.randint(len(lesson.features), (BATCH,), generator=generator)
        targets = batch.mask[i], batch.is_defective[i], batch.has_mask[i]
        loss = map_guidance_loss(logits_of(gate, lesson.features[i]), *targets, iou=True)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if watch is not None and (step % 10 == 0 or step in (1, steps)):
            watch(step)


def temperature_lesson(
    lesson: Part, test: Part, steps: int, seed: int, learned: bool, rate: float = RATE
) -> tuple[pd.DataFrame, NDArray[np.float64]]:
    """A guided attention's lesson with its temperature learned or held at 1.

    Returns:
        `step, temperature, entropy` over the lesson, the entropy in bits on every fourth test
        image; and the entropy of each test image at the end.
    """
    torch.manual_seed(seed)
    gate = GuidedAttention(lesson.features.shape[1])
    gate.raw_temperature.requires_grad_(learned)
    lines = []

    @torch.no_grad()
    def watch(step: int) -> None:
        entropy = cell_entropy(gate(test.features[::4])).mean().item()
        lines.append((step, gate.temperature.item(), entropy))

    teach(gate, attention_logits, lesson, steps, seed, rate, watch)
    with torch.no_grad():
        end = cell_entropy(gate(test.features)).numpy()
    return pd.DataFrame(lines, columns=["step", "temperature", "entropy"]), end
