"""The frozen teacher of reverse distillation, and what its features are like."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gainmtl.backbone import Backbone

STRIDES = (4, 8, 16)
"""The levels that a teacher shows, in pixels per cell: ResNet's first three layers."""
FEATURES = ("raw", "norm", "standardized", "scaled")
"""What a level is taken as; see `Teacher`."""
_MEASURED = ("standardized", "scaled")


class Teacher(nn.Module):
    """A backbone cut behind the level of its largest stride: frozen, always in evaluation mode.

    What lies behind is not built, so that it costs neither memory nor time.

    Args:
        backbone, weights, create_kwargs: as in `Backbone`.
        features: "raw" takes a level as it leaves its stage. "norm" puts it through the
            normalisation that the next stage begins with, with its own trained weights, which only
            networks have whose stages begin with one, as ConvNeXt. "standardized" subtracts each
            channel's mean over the training images and divides by its standard deviation, which
            `fit_statistics` measures; "scaled" divides alone, so that loud channels are quiet and
            the mean, which gives a cosine its bearings, stays.
        strides: the levels wanted; those that the backbone does not have are left out.
        neighborhood: each level is averaged over so many places a side, odd; what lies outside the
            picture does not count. 1: no average. As for the memory bank of Roth et al., "Towards
            Total Recall in Industrial Anomaly Detection", CVPR 2022. Done before "standardized".

    Raises:
        ValueError: an unknown kind of features, one that this backbone does not have, fewer than
            two levels, or an even neighbourhood.
    """

    def __init__(
        self,
        backbone: str,
        weights: str | None = None,
        features: str = "raw",
        strides: tuple[int, ...] = STRIDES,
        create_kwargs: dict[str, Any] | None = None,
        neighborhood: int = 1,
    ) -> None:
        super().__init__()
        if neighborhood < 1 or neighborhood % 2 == 0:
            raise ValueError(f"neighborhood: expected an odd number >= 1, got {neighborhood}")
        if features not in FEATURES:
            raise ValueError(f"features: expected one of {', '.join(FEATURES)}, got {features!r}")
        whole = Backbone(backbone, weights, create_kwargs)
        self.name, self.features, self.neighborhood = backbone, features, neighborhood
        self.mean, self.std = whole.mean, whole.std
        self.initial_weights, self.create_kwargs = whole.initial_weights, whole.create_kwargs
        levels = [
            max(place for place, stride in enumerate(whole.strides) if stride == wanted)
            for wanted in strides
            if wanted in whole.strides
        ]
        if len(levels) < 2:
            raise ValueError(
                f"backbone {backbone!r} has levels of strides {whole.strides}; reverse "
                f"distillation needs at least two of {strides}"
            )
        self.levels = tuple(levels)
        self.channels = tuple(whole.channels[level] for level in levels)
        self.strides = tuple(whole.strides[level] for level in levels)
        self.network: Any = whole.timm
        self.norms = nn.ModuleList(_next_norms(whole, levels) if features == "norm" else [])
        for place, channels in enumerate(self.channels):
            self.register_buffer(f"center_{place}", torch.zeros(channels))
            self.register_buffer(f"scale_{place}", torch.ones(channels))
        self.next_stage = _stage_behind(whole, levels[-1])
        """What follows the last level in the backbone, for `embedding="stage4"`, taken by whoever
        builds the student; the teacher itself never runs it."""
        self.network.prune_intermediate_layers(levels, prune_norm=True, prune_head=True)
        self.requires_grad_(False)
        self.eval()

    def __setattr__(self, name: str, value: Any) -> None:
        # The stage behind is on loan: registered, it would be saved and counted as the teacher's.
        if name == "next_stage":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def train(self, mode: bool = True) -> Teacher:
        """Stays in evaluation mode: its batch statistics are part of what is taught."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised images to the levels, (B, C_i, h_i, w_i), finest first."""
        levels = self.network.forward_intermediates(
            images, indices=list(self.levels), stop_early=True, intermediates_only=True,
            output_fmt="NCHW",
        )  # fmt: skip
        if self.features == "norm":
            levels = [norm(level) for norm, level in zip(self.norms, levels, strict=True)]
        if self.neighborhood > 1:
            side = self.neighborhood
            levels = [
                F.avg_pool2d(level, side, 1, side // 2, count_include_pad=False) for level in levels
            ]
        if self.features in _MEASURED:
            return [
                (level - self._buffer("center", i)) / self._buffer("scale", i)
                for i, level in enumerate(levels)
            ]
        return list(levels)

    def _buffer(self, name: str, place: int) -> Tensor:
        return getattr(self, f"{name}_{place}")[:, None, None]

    @torch.no_grad()
    def fit_statistics(self, batches: Iterable[Tensor]) -> None:
        """Measure mean and standard deviation of every channel over batches of normalised images.

        Of use for "standardized" and "scaled"; for the others it does nothing.
        """
        if self.features not in _MEASURED:
            return
        wanted, self.features = self.features, "raw"
        sums = [[torch.zeros(c, dtype=torch.float64) for c in self.channels] for _ in range(2)]
        count = [0] * len(self.channels)
        for batch in batches:
            for place, level in enumerate(self(batch)):
                values = level.double().cpu()
                sums[0][place] += values.sum((0, 2, 3))
                sums[1][place] += (values**2).sum((0, 2, 3))
                count[place] += values[:, 0].numel()
        self.features = wanted
        for place, number in enumerate(count):
            mean = sums[0][place] / max(1, number)
            variance = (sums[1][place] / max(1, number) - mean**2).clamp_min(0)
            # A channel that never changes would turn rounding into a signal.
            least = 1e-3 * variance.mean().sqrt().clamp_min(1e-12)
            if wanted == "standardized":
                getattr(self, f"center_{place}").copy_(mean)
            getattr(self, f"scale_{place}").copy_(variance.sqrt().clamp_min(least))


class FeatureStatistics(NamedTuple):
    """What a level's features (B, C, h, w) are like, as far as a cosine is concerned."""

    participation: float
    """(Σ_c e_c)² / (C Σ_c e_c²) with e_c the mean square of channel c, in (0, 1]: the share of
    channels that a cosine listens to; 1 where all are alike strong."""
    mean_cosine: float
    """Mean cosine between features of different random places, in [-1, 1]. Near 1 all places look
    alike to a cosine before anything has been learned."""
    outlier_share: float
    """Share of the energy Σ e_c in the loudest 2 % of channels, at least one, in [0, 1]."""


def feature_statistics(level: Tensor, pairs: int = 4096, seed: int = 0) -> FeatureStatistics:
    """Statistics of a level (B, C, h, w); places are drawn from all images together."""
    rows = level.detach().double().cpu().permute(0, 2, 3, 1).flatten(0, 2)
    energy = (rows**2).mean(0)
    share = energy / energy.sum().clamp_min(1e-300)
    generator = torch.Generator().manual_seed(seed)
    first, second = (torch.randint(len(rows), (pairs,), generator=generator) for _ in range(2))
    apart = first != second
    cosine = torch.cosine_similarity(rows[first[apart]], rows[second[apart]], dim=1)
    loudest = max(1, round(0.02 * len(share)))
    return FeatureStatistics(
        float(1 / (len(share) * (share**2).sum())),
        float(cosine.mean()) if len(cosine) else float("nan"),
        float(share.topk(loudest).values.sum()),
    )


def level_statistics(
    backbone: str, weights: str | None, images: Tensor
) -> dict[tuple[str, int], FeatureStatistics]:
    """`feature_statistics` of a teacher's levels, by (features, stride in pixels).

    `images` (B, 3, H, W) in [0, 1]; what "standardized" and "scaled" need is measured on them, too.
    A kind of features that this backbone does not have is left out.
    """
    found = {}
    state = torch.get_rng_state()  # without weights: the same random ones for every kind
    for kind in FEATURES:
        torch.set_rng_state(state)
        try:
            teacher = Teacher(backbone, weights, kind)
        except ValueError:
            if kind == "norm":
                continue
            raise
        mean, std = (images.new_tensor(v)[:, None, None] for v in (teacher.mean, teacher.std))
        seen = (images - mean) / std
        teacher.fit_statistics([seen])
        for stride, level in zip(teacher.strides, teacher(seen), strict=True):
            found[kind, stride] = feature_statistics(level)
    return found


def _parts(backbone: Backbone, level: int) -> tuple[Any, int]:
    """The list of stages that a level's module stands in, and its place there."""
    module = str(backbone.timm.feature_info[level]["module"])
    if module.startswith("layer"):  # ResNet names them one by one
        names = [f"layer{i}" for i in range(1, 5)]
        return [getattr(backbone.timm, name) for name in names], names.index(module)
    owner, _, place = module.rpartition(".")
    return backbone.timm.get_submodule(owner), int(place)


def _next_norms(backbone: Backbone, levels: list[int]) -> list[nn.Module]:
    norms = []
    for level in levels:
        stages, place = _parts(backbone, level)
        behind = stages[place + 1] if place + 1 < len(stages) else None
        first = getattr(behind, "downsample", None)
        norm = next(iter(first.children()), None) if isinstance(first, nn.Sequential) else None
        if norm is None or "norm" not in type(norm).__name__.lower():
            raise ValueError(
                f"features='norm': the stages of {backbone.name} don't begin with a normalisation; "
                "use 'standardized'"
            )
        norms.append(norm)
    return norms


def _stage_behind(backbone: Backbone, level: int) -> nn.Module | None:
    """The stages that bring this level to the next stride, or `None` where there is none."""
    wanted = backbone.strides[level] * 2
    if wanted not in backbone.strides:
        return None
    end = max(place for place, stride in enumerate(backbone.strides) if stride == wanted)
    stages, first = _parts(backbone, level)
    last = _parts(backbone, end)[1]
    return nn.Sequential(*[stages[place] for place in range(first + 1, last + 1)])
