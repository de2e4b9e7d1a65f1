"""The frozen teacher of anomaly detectors, and statistics of its features."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gainmtl.backbone import Backbone

STRIDES = (4, 8, 16)
"""The default levels, in pixels per cell: the first three stages of a ResNet."""
FEATURES = ("raw", "norm", "standardized", "scaled")
"""The transforms of a level; see `Teacher`."""
_MEASURED = ("standardized", "scaled")


class Teacher(nn.Module):
    """A backbone cut after the level of the largest stride: frozen, always in evaluation mode.

    Later stages are removed, so that they take neither memory nor time.

    Args:
        backbone, weights, create_kwargs: as in `Backbone`.
        features: "raw": the output of the stage. "norm": the output normalised by the first layer
            of the next stage, with its trained weights; only for networks whose stages begin with
            a normalisation, such as ConvNeXt. "standardized": minus the channel's mean over the
            training images, divided by its standard deviation, both measured by `fit_statistics`.
            "scaled": only divided by the standard deviation, so that strong channels do not
            dominate a cosine, while the mean, which defines its directions, is kept.
        strides: of the levels; those that the backbone does not have are left out.
        neighborhood: side of the window, in cells, that each level is averaged over; odd, 1 for no
            average. Cells outside the image do not count. As in the memory bank of Roth et al.,
            "Towards Total Recall in Industrial Anomaly Detection", CVPR 2022. The average precedes
            "standardized" and "scaled".

    Raises:
        ValueError: unknown features or features that this backbone does not have, fewer than two
            levels, or an even neighbourhood.
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
                f"backbone {backbone!r} has levels of strides {whole.strides}; expected at least "
                f"two of {strides}. Use other strides or another backbone"
            )
        self.levels = tuple(levels)
        self.channels = tuple(whole.channels[level] for level in levels)
        self.strides = tuple(whole.strides[level] for level in levels)
        self.network: Any = whole.timm
        self.norms = nn.ModuleList(_next_norms(whole, levels) if features == "norm" else [])
        for place, channels in enumerate(self.channels):
            self.register_buffer(f"center_{place}", torch.zeros(channels))
            self.register_buffer(f"scale_{place}", torch.ones(channels))
        self.next_stage = _stage_after(whole, levels[-1])
        """The stage after the last level, which `ReverseDistillation` uses as its embedding with
        `embedding="stage4"`. The teacher does not run it."""
        self.network.prune_intermediate_layers(levels, prune_norm=True, prune_head=True)
        self.requires_grad_(False)
        self.eval()

    def __setattr__(self, name: str, value: Any) -> None:
        # Not registered as a sub-module: it would be saved and counted as part of the teacher.
        if name == "next_stage":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def train(self, mode: bool = True) -> Teacher:
        """Stay in evaluation mode, whatever `mode` is: the teacher's statistics are fixed."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> list[Tensor]:
        """Levels (B, C_i, h_i, w_i), finest first, of normalised images (B, 3, H, W)."""
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

        Only for "standardized" and "scaled"; otherwise it does nothing.
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
            # Lower bound, so that rounding errors of a constant channel are not amplified.
            least = 1e-3 * variance.mean().sqrt().clamp_min(1e-12)
            if wanted == "standardized":
                getattr(self, f"center_{place}").copy_(mean)
            getattr(self, f"scale_{place}").copy_(variance.sqrt().clamp_min(least))


class FeatureStatistics(NamedTuple):
    """Properties of a level's features (B, C, h, w) that affect a cosine distance."""

    participation: float
    """(Σ_c e_c)² / (C Σ_c e_c²) with e_c the mean square of channel c, in (0, 1]: the share of
    channels that contribute to a cosine; 1 if all have equal e_c."""
    mean_cosine: float
    """Mean cosine between features of different random locations, in [-1, 1]. Near 1 all locations
    are alike for a cosine, even before training."""
    outlier_share: float
    """Share of the energy Σ e_c in the strongest 2 % of channels, at least one, in [0, 1]."""


def feature_statistics(level: Tensor, pairs: int = 4096, seed: int = 0) -> FeatureStatistics:
    """Statistics of a level (B, C, h, w); `pairs` of locations are drawn from all images."""
    rows = level.detach().double().cpu().permute(0, 2, 3, 1).flatten(0, 2)
    energy = (rows**2).mean(0)
    share = energy / energy.sum().clamp_min(1e-300)
    generator = torch.Generator().manual_seed(seed)
    first, second = (torch.randint(len(rows), (pairs,), generator=generator) for _ in range(2))
    apart = first != second
    cosine = torch.cosine_similarity(rows[first[apart]], rows[second[apart]], dim=1)
    strongest = max(1, round(0.02 * len(share)))
    return FeatureStatistics(
        float(1 / (len(share) * (share**2).sum())),
        float(cosine.mean()) if len(cosine) else float("nan"),
        float(share.topk(strongest).values.sum()),
    )


def level_statistics(
    backbone: str, weights: str | None, images: Tensor
) -> dict[tuple[str, int], FeatureStatistics]:
    """`feature_statistics` of a teacher's levels, by (features, stride in pixels).

    `images` (B, 3, H, W) in [0, 1]; "standardized" and "scaled" are also measured on them.
    "norm" is left out if this backbone does not have it.
    """
    statistics = {}
    state = torch.get_rng_state()  # with weights=None all teachers get the same random weights
    for features in FEATURES:
        torch.set_rng_state(state)
        try:
            teacher = Teacher(backbone, weights, features)
        except ValueError:
            if features == "norm":
                continue
            raise
        mean, std = (images.new_tensor(v)[:, None, None] for v in (teacher.mean, teacher.std))
        normalised = (images - mean) / std
        teacher.fit_statistics([normalised])
        for stride, level in zip(teacher.strides, teacher(normalised), strict=True):
            statistics[features, stride] = feature_statistics(level)
    return statistics


def _parts(backbone: Backbone, level: int) -> tuple[Any, int]:
    """The list of the backbone's stages, and the index of the level's stage in it.

    The list is empty for a backbone whose stages have names and not numbers.
    """
    module = str(backbone.timm.feature_info[level]["module"])
    if module.startswith("layer"):  # ResNet names them one by one
        names = [f"layer{i}" for i in range(1, 5)]
        return [getattr(backbone.timm, name) for name in names], names.index(module)
    owner, _, place = module.rpartition(".")
    if not place.isdecimal():
        return [], 0
    return backbone.timm.get_submodule(owner), int(place)


def _next_norms(backbone: Backbone, levels: list[int]) -> list[nn.Module]:
    norms = []
    for level in levels:
        stages, place = _parts(backbone, level)
        following = stages[place + 1] if place + 1 < len(stages) else None
        first = getattr(following, "downsample", None)
        norm = next(iter(first.children()), None) if isinstance(first, nn.Sequential) else None
        if norm is None or "norm" not in type(norm).__name__.lower():
            raise ValueError(
                f"features='norm': the stages of {backbone.name} don't begin with a normalisation; "
                "use 'standardized'"
            )
        norms.append(norm)
    return norms


def _stage_after(backbone: Backbone, level: int) -> nn.Module | None:
    """The stages from this level to the next stride, or `None` if it is the last."""
    next_stride = backbone.strides[level] * 2
    if next_stride not in backbone.strides:
        return None
    end = max(place for place, stride in enumerate(backbone.strides) if stride == next_stride)
    stages, first = _parts(backbone, level)
    last = _parts(backbone, end)[1]
    if not len(stages):
        return None
    return nn.Sequential(*[stages[place] for place in range(first + 1, last + 1)])
