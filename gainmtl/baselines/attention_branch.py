"""Attention Branch Network: a branch that classifies by its own maps, and an attention from them.

A branch after an inner level g of the backbone makes K class maps; their mean classifies, which is
what teaches them, and a convolution turns them into an attention M. What comes after the level, the
perception, reads `g (1 + sigmoid(M))`. Both classifiers are trained; the perception decides.

Source: Fukui, Hirakawa, Yamashita and Fujiyoshi, "Attention Branch Network", CVPR 2019.
Deviations: two convolution blocks instead of a copy of the backbone's last stage, group norm
instead of batch norm (see `gainmtl.layers`), and any backbone, because the branch is hung on the
output of a level's own module.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gainmtl.backbone import Backbone
from gainmtl.layers import conv_block, group_norm
from gainmtl.precision import full

BRANCH_STRIDE = 16
"""The level that the branch hangs on: the last but one, as in the paper."""


class Branch(NamedTuple):
    """What an `AttentionBranch` says about a batch."""

    logits: Tensor
    """(B, K) of its own classifier."""
    attention_logits: Tensor
    """(B, 1, h, w), unbounded."""


class AttentionBranch(nn.Module):
    """(B, C, h, w) features of a level to `Branch`.

    `maps = ReLU(norm(conv1x1(blocks(g))))` has K channels; `logits = mean(conv1x1(maps))`,
    `M = conv3x3(maps)`.
    """

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        hidden = max(channels // 2, 16)
        self.blocks = nn.Sequential(conv_block(channels, hidden), conv_block(hidden, hidden))
        self.maps = nn.Sequential(
            nn.Conv2d(hidden, num_classes, 1, bias=False), group_norm(num_classes), nn.ReLU()
        )
        self.classify = nn.Conv2d(num_classes, num_classes, 1)
        self.attend = nn.Conv2d(num_classes, 1, 3, padding=1)

    def forward(self, features: Tensor) -> Branch:
        maps = self.maps(self.blocks(features))
        return Branch(full(self.classify(maps)).mean((2, 3)), full(self.attend(maps)))


def branch_level(backbone: Backbone) -> int:
    """The index of the level of `BRANCH_STRIDE`.

    Raises:
        ValueError: the backbone has no such level.
    """
    levels = [i for i, stride in enumerate(backbone.strides) if stride == BRANCH_STRIDE]
    if not levels:
        raise ValueError(
            f"attention_branch: {backbone.name} has levels of stride {backbone.strides} and none "
            f"of {BRANCH_STRIDE}, where the branch belongs"
        )
    return max(levels)


@contextlib.contextmanager
def attending(backbone: Backbone, branch: AttentionBranch) -> Iterator[list[Branch]]:
    """Within the context a pass of the backbone goes through the branch, and says so in the list.

    The branch's level hands on `g (1 + sigmoid(M))` instead of g.

    Raises:
        ValueError: the backbone does not say where the level ends, or its output is no such map.
    """
    level = branch_level(backbone)
    name = str(backbone.timm.feature_info[level]["module"])
    modules = dict(backbone.timm.named_modules())
    if name not in modules:
        raise ValueError(
            f"attention_branch: {backbone.name} does not say where stride {BRANCH_STRIDE} ends; "
            "use another backbone, for example mobilenetv2_100 or resnet50"
        )
    channels, said = backbone.channels[level], list[Branch]()

    def hook(module: nn.Module, given: Any, found: Any) -> Tensor:
        if not isinstance(found, Tensor) or found.ndim != 4 or found.shape[1] != channels:
            raise ValueError(
                f"attention_branch: {name} of {backbone.name} does not return maps of "
                f"{channels} channels; use a convolutional backbone"
            )
        told = branch(found)
        said.append(told)
        return found * (1 + torch.sigmoid(told.attention_logits))

    handle = modules[name].register_forward_hook(hook)
    try:
        yield said
    finally:
        handle.remove()
