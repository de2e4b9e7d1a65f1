"""Attention Branch Network: a branch that classifies by its own maps, and an attention from them.

A branch after an inner level G of the backbone computes K class maps. Their mean classifies, which
trains the maps, and a convolution turns them into an attention M. The layers after the level, the
perception branch, read `G (1 + sigmoid(M))`. Both classifiers are trained; the perception branch
decides.

Source: Fukui, Hirakawa, Yamashita and Fujiyoshi, "Attention Branch Network", CVPR 2019.
Deviations: two convolution blocks instead of a copy of the backbone's last stage, group norm
instead of batch norm (see `gainmtl.heads.group_norm`), and any backbone, because the branch is
attached by a forward hook to the module that computes the level.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gainmtl import losses
from gainmtl.backbone import Backbone
from gainmtl.heads import conv_block, group_norm
from gainmtl.losses import LossWeights
from gainmtl.model import GAINMTL
from gainmtl.network import Encoding
from gainmtl.precision import to_float32
from gainmtl.strategies import Strategy
from gainmtl.types import Batch, Outputs

ATTENTION_BRANCH = Strategy(
    "attention branch", LossWeights(classification=1.0, attention_branch=1.0)
)
"""Both classifiers with the same weight, and no mask."""
BRANCH_STRIDE = 16
"""Stride of the level to which the branch is attached: the second coarsest, as in the paper."""


class Branch(NamedTuple):
    """Outputs of an `AttentionBranch`."""

    logits: Tensor
    """(B, K) of the branch's own classifier."""
    attention_logits: Tensor
    """M, (B, 1, h, w), unbounded."""


class AttentionBranch(nn.Module):
    """(B, C, h, w) features G of a level to a `Branch`.

    `maps = ReLU(norm(conv1x1(blocks(G))))` has K channels; `logits = mean(conv1x1(maps))`,
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
        return Branch(to_float32(self.classify(maps)).mean((2, 3)), to_float32(self.attend(maps)))


def branch_level(backbone: Backbone) -> int:
    """The index of the level of stride `BRANCH_STRIDE`.

    Raises:
        ValueError: the backbone has no such level.
    """
    levels = [i for i, stride in enumerate(backbone.strides) if stride == BRANCH_STRIDE]
    if not levels:
        raise ValueError(
            f"attention_branch: expected a backbone with a level of stride {BRANCH_STRIDE}, got "
            f"{backbone.name} with levels of stride {backbone.strides}"
        )
    return max(levels)


@contextlib.contextmanager
def attending(backbone: Backbone, branch: AttentionBranch) -> Iterator[list[Branch]]:
    """Within the context every pass of the backbone goes through the branch.

    The branch's level returns `G (1 + sigmoid(M))` instead of G. Each pass appends its `Branch` to
    the list.

    Raises:
        ValueError: timm does not name the module that computes the level, or the module does not
            return one feature map.
    """
    level = branch_level(backbone)
    name = str(backbone.timm.feature_info[level]["module"])
    modules = dict(backbone.timm.named_modules())
    if name not in modules:
        raise ValueError(
            f"attention_branch: {backbone.name} has no module {name!r} at the end of stride "
            f"{BRANCH_STRIDE}; use another backbone, for example mobilenetv2_100 or resnet50"
        )
    channels, outputs = backbone.channels[level], list[Branch]()

    def hook(module: nn.Module, inputs: Any, features: Any) -> Tensor:
        if not isinstance(features, Tensor) or features.ndim != 4 or features.shape[1] != channels:
            raise ValueError(
                f"attention_branch: {name} of {backbone.name} does not return maps of "
                f"{channels} channels; use a convolutional backbone"
            )
        output = branch(features)
        outputs.append(output)
        return features * (1 + torch.sigmoid(output.attention_logits))

    handle = modules[name].register_forward_hook(hook)
    try:
        yield outputs
    finally:
        handle.remove()


@dataclasses.dataclass(frozen=True, eq=False)
class BranchEncoding(Encoding):
    """An `Encoding` with the outputs of the attention branch."""

    branch: Branch


class AttentionBranchNetwork(GAINMTL):
    """`GAINMTL` whose backbone passes through an `AttentionBranch`.

    Arguments and errors as `GAINMTL`; the strategy, by default `ATTENTION_BRANCH`, needs the term
    `attention_branch`. `Outputs.attention_logits` are those of the branch, on the grid of its
    level. A saved description has no `kind`: `gainmtl.load` recognises the network by that term.
    """

    terms = GAINMTL.terms | {"attention_branch"}

    def __init__(
        self, backbone: str, strategy: str | Strategy = ATTENTION_BRANCH, *args: Any, **kwargs: Any
    ) -> None:
        super().__init__(backbone, strategy, *args, **kwargs)
        if not self.strategy.weights.attention_branch:
            raise ValueError(
                f"strategy {self.strategy.name}: expected a positive weight of attention_branch; "
                "a network without the branch is a gainmtl.GAINMTL"
            )

    def _build_encoder(self, width: int) -> int:
        level = branch_level(self.backbone)
        self.branch = AttentionBranch(self.backbone.channels[level], len(self.classes))
        return super()._build_encoder(width)

    def encode(self, images: Tensor) -> BranchEncoding:
        """As `GAINMTL.encode`, with the outputs of the branch."""
        with attending(self.backbone, self.branch) as outputs:
            encoding = super().encode(images)
        (branch,) = outputs
        return BranchEncoding(encoding.features, encoding.levels, branch)

    def heads(self, encoding: Encoding, size: tuple[int, int]) -> Outputs:
        """As `GAINMTL.heads`, with the attention of the branch."""
        assert isinstance(encoding, BranchEncoding)
        attention = encoding.branch.attention_logits
        return super().heads(encoding, size)._replace(attention_logits=attention)

    def loss_terms(self, encoding: Encoding, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Terms of `GAINMTL`, and `attention_branch`: the focal loss of the branch's classifier."""
        assert isinstance(encoding, BranchEncoding)
        terms = super().loss_terms(encoding, batch, progress)
        if self.strategy.weights_at(progress).attention_branch:
            terms["attention_branch"] = losses.focal_loss(
                encoding.branch.logits, self.labels(batch), self.strategy.focal_gamma
            )
        return terms
