"""Building blocks of students for reverse distillation: fusion, one-class embedding, decoders.

After Deng and Li (CVPR 2022): the teacher's levels are reduced to the coarsest grid and
concatenated, encoded by a stage of half the resolution, and decoded from that code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Stage(NamedTuple):
    """The dimensions of one stage of a residual network."""

    bottleneck: bool
    """True: three convolutions per block; False: two."""
    channels: int
    """Output channels."""
    width: int
    """Channels of the 3 x 3 convolutions."""
    blocks: int
    """Number of blocks."""


def norm_act(channels: int, norm: str) -> list[nn.Module]:
    """Batch normalisation and ReLU, or layer normalisation over channels and GELU."""
    from timm.layers import LayerNorm2d  # on demand: timm takes a second

    if norm == "layer":
        return [LayerNorm2d(channels), nn.GELU()]
    return [nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]


class Fusion(nn.Module):
    """Multi-scale feature fusion: all n levels on the coarsest grid, concatenated.

    A level is downsampled by 3 x 3 convolutions of stride 2, with the channels of the next coarser
    levels; the coarsest level is unchanged. Output (B, n · C_n, h_n, w_n).
    """

    def __init__(self, channels: Sequence[int], norm: str) -> None:
        super().__init__()
        self.paths = nn.ModuleList()
        for place in range(len(channels)):
            steps: list[nn.Module] = []
            for a, b in zip(channels[place:-1], channels[place + 1 :], strict=True):
                steps += [nn.Conv2d(a, b, 3, 2, 1, bias=False), *norm_act(b, norm)]
            self.paths.append(nn.Sequential(*steps))
        self.out_channels = len(channels) * channels[-1]

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Fuse levels (B, C_i, h_i, w_i), finest first, each with half the grid of the last."""
        return torch.cat([path(x) for path, x in zip(self.paths, levels, strict=True)], 1)


class ResidualBlock(nn.Module):
    """A ResNet block that keeps, halves (`stride` 2) or doubles (`stride` -2) the resolution.

    For doubling, a 2 x 2 transposed convolution replaces the 3 x 3 and the shortcut's convolution.
    """

    def __init__(self, inside: int, stage: Stage, stride: int = 1) -> None:
        super().__init__()
        out, width = stage.channels, stage.width

        def change(a: int, b: int) -> nn.Module:
            if stride == -2:
                return nn.ConvTranspose2d(a, b, 2, 2, bias=False)
            return nn.Conv2d(a, b, 3, stride, 1, bias=False)

        if stage.bottleneck:
            layers: list[nn.Module] = [
                nn.Conv2d(inside, width, 1, bias=False), *norm_act(width, "batch"),
                change(width, width), *norm_act(width, "batch"),
                nn.Conv2d(width, out, 1, bias=False), nn.BatchNorm2d(out),
            ]  # fmt: skip
        else:
            layers = [
                change(inside, width), *norm_act(width, "batch"),
                nn.Conv2d(width, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out),
            ]  # fmt: skip
        self.branch = nn.Sequential(*layers)
        self.short: nn.Module = nn.Identity()
        if stride != 1 or inside != out:
            cut: nn.Module = nn.Conv2d(inside, out, 1, max(stride, 1), bias=False)
            if stride == -2:
                cut = nn.ConvTranspose2d(inside, out, 2, 2, bias=False)
            self.short = nn.Sequential(cut, nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to the stage's channels."""
        return F.relu(self.branch(x) + self.short(x))


def residual_stage(inside: int, stage: Stage, stride: int) -> nn.Sequential:
    """The first block changes the resolution, the others keep it."""
    rest = [ResidualBlock(stage.channels, stage) for _ in range(stage.blocks - 1)]
    return nn.Sequential(ResidualBlock(inside, stage, stride), *rest)


def convnext_stage(
    inside: int, out: int, blocks: int, up: bool, layer_scale: float | None
) -> nn.Sequential:
    """A ConvNeXt stage: normalise, halve or double the resolution, blocks of 7 x 7 kernels."""
    from timm.layers import LayerNorm2d
    from timm.models.convnext import ConvNeXtBlock

    change = nn.ConvTranspose2d(inside, out, 2, 2) if up else nn.Conv2d(inside, out, 2, 2)
    body = [ConvNeXtBlock(out, ls_init_value=layer_scale) for _ in range(blocks)]
    return nn.Sequential(LayerNorm2d(inside), change, *body)


class Upward(nn.Module):
    """Bilinear upsampling by 2, then two 3 x 3 convolutions: no checkerboard, few parameters."""

    def __init__(self, inside: int, out: int) -> None:
        super().__init__()
        self.layers = light_stage(inside, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to (B, out, 2h, 2w)."""
        return self.layers(F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False))


def light_stage(inside: int, out: int, stride: int) -> nn.Sequential:
    """Two 3 x 3 convolutions, the first with a stride; with stride 2 the light embedding."""
    return nn.Sequential(
        nn.Conv2d(inside, out, 3, stride, 1, bias=False), *norm_act(out, "batch"),
        nn.Conv2d(out, out, 3, 1, 1, bias=False), *norm_act(out, "batch"),
    )  # fmt: skip


class Decoder(nn.Module):
    """Decoder stages, one per level, coarsest first.

    With `projection` a 1 x 1 convolution follows each stage. It is needed for teachers with signed
    features, because a stage that ends in a ReLU is never negative.
    """

    def __init__(
        self, stages: Sequence[nn.Module], widths: Sequence[int], channels: Sequence[int],
        projection: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        if not projection and tuple(widths) != tuple(channels):
            raise ValueError(
                f"projection=False: the decoder's widths {tuple(widths)} must be the teacher's "
                f"{tuple(channels)}; use projection=True"
            )
        self.stages = nn.ModuleList(stages)
        self.heads = nn.ModuleList(
            nn.Conv2d(a, b, 1) if projection else nn.Identity()
            for a, b in zip(widths, channels, strict=True)
        )

    def forward(self, code: Tensor) -> list[Tensor]:
        """Levels (B, C_i, h_i, w_i), finest first, from the code (B, C, h, w)."""
        levels: list[Tensor] = []
        for stage, head in zip(self.stages, self.heads, strict=True):
            code = stage(code)
            levels.append(head(code))
        return levels[::-1]
