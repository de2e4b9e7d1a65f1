"""GAIN-MTL: a classifier whose class activation map is supervised."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from gainmtl.attention import REFINEMENTS, GuidedAttention
from gainmtl.backbone import Backbone
from gainmtl.baselines.attention_branch import AttentionBranch, Branch, attending, branch_level
from gainmtl.cam import check_pooling, pool_evidence, resize_map
from gainmtl.counterfactual import NormalFeatures, cell_mask, keep_only, remove
from gainmtl.fostering import Tally
from gainmtl.heads import FeaturePyramid, LinearHead, LocalizationHead, Verdict
from gainmtl.interface import Inspector
from gainmtl.objective import training_terms
from gainmtl.precision import full
from gainmtl.strategies import Strategy, get_strategy
from gainmtl.types import Batch, Outputs

FINE_STRIDE = 4


class Decision(NamedTuple):
    """What the heads make of one feature map; see `GAINMTL.decide`."""

    plain: Verdict
    attended: Verdict | None
    attention_logits: Tensor | None

    @property
    def verdict(self) -> Verdict:
        """The deciding head's."""
        return self.plain if self.attended is None else self.attended


class Look(NamedTuple):
    """What the network sees of a batch before any head; see `GAINMTL.look`."""

    features: Tensor
    """(B, C, h, w) that the heads read."""
    levels: list[Tensor]
    """The backbone's maps, finest first."""
    branch: Branch | None
    """Of the attention branch, where there is one."""


class Counterfactual(NamedTuple):
    """Defect probabilities (B,) of the deciding head after an intervention on its features."""

    removed: Tensor
    """With normal features inside the regions."""
    kept: Tensor
    """With normal features everywhere else."""


class GAINMTL(Inspector):
    """A timm backbone with the heads of a strategy S1 to S6.

    `out = model(model.preprocess(images))` gives `Outputs`; no mask is ever an input. The verdict
    is a function of the evidence map alone: with K = 2, `model.pool(out.cam) + model.evidence_bias`
    equals `out.logits[:, 1] - out.logits[:, 0]`.

    Args:
        backbone: a timm model name; see `Backbone`.
        strategy: `"S1"` to `"S6"`, a leave-one-out name as `"S5-no-mining"`, or a `Strategy`.
        weights: see `Backbone`.
        num_classes: K >= 2; class 0 is normal. With K > 2 the others are defect types, `classes`.
        pooling: of `gainmtl.cam.pool_evidence`; `None` is `"mean"` on the backbone's last map and
            `"lse"` on a finer grid, where a mean would drown a single cell.
        output_stride: pixels per cell of the evidence grid. `None` is the backbone's last map
            where the label is all that is taught, S1, and 4 where more is, from S2 on. A stride
            finer than the last map is reached by a feature pyramid.
        width: channels of the pyramid.
        dropout: share of feature maps dropped before the class activation map.
        refinement: `"none"`, `"se"` or `"cbam"` before the attention, or before the plain head
            where there is none. `None` is `"cbam"` where there is attention, else `"none"`.
        classes: names of the K classes, `"normal"` first; needed for K > 2.
        create_kwargs: see `Backbone`.

    Raises:
        ValueError: an unknown name, or an output stride that the backbone can't do.
    """

    def __init__(
        self,
        backbone: str,
        strategy: str | Strategy = "S5",
        weights: str | None = None,
        num_classes: int = 2,
        pooling: str | None = None,
        output_stride: int | None = None,
        width: int = 64,
        dropout: float = 0.1,
        refinement: str | None = None,
        classes: tuple[str, ...] | None = None,
        create_kwargs: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if num_classes < 2:
            raise ValueError(
                f"num_classes: expected at least 2 (normal, defective), got {num_classes}"
            )
        if classes is None:
            if num_classes > 2:
                raise ValueError("classes: num_classes > 2 needs the names of the classes")
            classes = ("normal", "defective")
        if refinement not in (None, *REFINEMENTS):
            raise ValueError(
                f"refinement: expected one of {', '.join(REFINEMENTS)}, got {refinement!r}"
            )
        if len(classes) != num_classes:
            raise ValueError(f"classes: expected {num_classes} names, got {len(classes)}")
        self.strategy = get_strategy(strategy)
        self.classes = tuple(classes)
        self.backbone = Backbone(backbone, weights, create_kwargs)
        last = self.backbone.last_stride
        stride = output_stride or (last if self.strategy.is_plain else FINE_STRIDE)
        fine = [i for i, s in enumerate(self.backbone.strides) if s == stride]
        if stride != last and not fine:
            raise ValueError(
                f"output_stride: {backbone} can do {sorted({*self.backbone.strides, last})}, "
                f"got {stride}"
            )
        self.output_stride = stride
        self.pooling = pooling or ("mean" if stride == last else "lse")
        check_pooling(self.pooling)
        self.level = max(fine) if stride != last else None
        self.branch: AttentionBranch | None = None
        if self.strategy.has_branch:
            level = branch_level(self.backbone)
            self.branch = AttentionBranch(self.backbone.channels[level], num_classes)
        self.pyramid: FeaturePyramid | None = None
        channels = self.backbone.last_channels
        if self.level is not None:
            levels = (*self.backbone.channels[self.level : -1], self.backbone.last_channels)
            self.pyramid = FeaturePyramid(levels, width)
            channels = width
        self.config: dict[str, Any] = {
            "backbone": backbone,
            "num_classes": num_classes,
            "pooling": self.pooling,
            "output_stride": stride,
            "width": width,
            "dropout": dropout,
            "classes": list(classes),
        }
        if refinement is not None:
            self.config["refinement"] = refinement
        self.head = LinearHead(channels, num_classes, self.pooling, dropout)
        self.normal_features = NormalFeatures(channels)
        refine = REFINEMENTS[refinement or ("cbam" if self.strategy.has_attention else "none")]
        self.refine = None if refine is None else refine(channels)
        self.attention: GuidedAttention | None = None
        self.attended_head: LinearHead | None = None
        if self.strategy.has_attention:
            self.attention = GuidedAttention(channels)
        if self.strategy.has_attended_head:
            self.attended_head = LinearHead(channels, num_classes, self.pooling, dropout)
        self.localization = LocalizationHead(channels) if self.strategy.has_localization else None
        self.map_scale: nn.Parameter | None = None
        self.map_shift: nn.Parameter | None = None
        if self.strategy.has_calibration:
            self.map_scale = nn.Parameter(torch.tensor(math.log(math.expm1(1.0))))
            self.map_shift = nn.Parameter(torch.tensor(0.0))
        self.fostered_level = self._fostered_level()
        self.fostering_tally = Tally()
        """Of the maps that fostering asked for in training, how many had vanished."""

    def _fostered_level(self) -> int | None:
        """The backbone's level whose map is fostered; `None` for the evidence map, or for none."""
        stride = self.strategy.fostering_layer
        if stride is None or not self.strategy.weights.fostering:
            return None
        if stride not in self.backbone.strides:
            raise ValueError(
                f"fostering_layer: {self.backbone.name} has levels of stride "
                f"{self.backbone.strides}, got {stride}; None is the evidence map"
            )
        return max(i for i, s in enumerate(self.backbone.strides) if s == stride)

    def facts(self, terms: Collection[str]) -> dict[str, float]:
        """The attention's temperature, and how many of the maps to be fostered had vanished."""
        found = {}
        if self.attention is not None:
            found["temperature"] = float(self.attention.temperature.detach())
        if "fostering" in terms:
            found["fostering_vanished"] = self.fostering_tally.take()
        return found

    @property
    def deciding_head(self) -> LinearHead:
        """The attended head where it exists, else the plain one."""
        return self.head if self.attended_head is None else self.attended_head

    @property
    def evidence_bias(self) -> Tensor:
        """The deciding head's `b_1 - b_0`."""
        return self.deciding_head.evidence_bias

    def pool(self, cam: Tensor) -> Tensor:
        """Pool an evidence map (B, 1, h, w) to (B,), as the deciding head does."""
        return pool_evidence(cam, self.pooling)[:, 0]

    def features(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) to the features (B, C, h, w) that the heads read."""
        return self.look(images).features

    def look(self, images: Tensor) -> Look:
        """Normalised images (B, 3, H, W) to everything below the heads."""
        if self.branch is None:
            found, branch = self.backbone(images), None
        else:
            with attending(self.backbone, self.branch) as said:
                found = self.backbone(images)
            (branch,) = said
        if self.pyramid is None:
            return Look(full(found.last), found.levels, branch)
        fused = self.pyramid([*found.levels[self.level : -1], found.last])
        return Look(full(fused), found.levels, branch)

    def decide(self, features: Tensor, fused: tuple[Tensor, Tensor] | None = None) -> Decision:
        """Features (B, C, h, w) to verdicts.

        `fused`, in training only, is S6's masks (B, 1, h, w) and their shares (B, 1, 1, 1).
        """
        refined = features if self.refine is None else self.refine(features)
        if self.attention is None:
            return Decision(self.head(refined), None, None)
        plain = self.head(features)
        attention_logits = self.attention(refined)
        if self.attended_head is None:
            return Decision(plain, None, attention_logits)
        gate = torch.sigmoid(attention_logits)
        if fused is not None:
            gate = torch.lerp(gate, fused[0], fused[1])
        # A residual gate: multiplied by the gate alone, features of a mostly sound surface vanish
        # with it, and with them the gradient of the head that decides.
        return Decision(plain, self.attended_head(refined * (1 + gate)), attention_logits)

    def forward(self, images: Tensor) -> Outputs:
        """(B, 3, H, W) images, normalised by `preprocess`, to `Outputs`."""
        look = self.look(images)
        return self.read(look.features, (images.shape[2], images.shape[3]), look.branch)

    def read(
        self, features: Tensor, size: tuple[int, int], branch: Branch | None = None
    ) -> Outputs:
        """Features (B, C, h, w) of images of `size` pixels to `Outputs`.

        `branch` is what `look` says of an attention branch; it is only passed on.
        """
        decision = self.decide(features)
        verdict = decision.verdict
        cam = self.evidence(verdict)
        localization = None if self.localization is None else self.localization(features, size)
        if localization is not None:
            map_logits = localization
        elif decision.attention_logits is not None:
            map_logits = resize_map(decision.attention_logits, size)
        else:
            map_logits = resize_map(self.calibrate(cam, verdict.logits), size)
        attention = decision.attention_logits
        return Outputs(
            class_logits=decision.plain.logits,
            attended_logits=None if decision.attended is None else decision.attended.logits,
            logits=verdict.logits,
            defect_probability=1 - verdict.logits.softmax(1)[:, 0],
            class_cam=verdict.class_cam,
            cam=cam,
            attention_logits=attention if branch is None else branch.attention_logits,
            localization_logits=localization,
            defect_map=torch.sigmoid(map_logits),
        )

    def evidence(self, verdict: Verdict) -> Tensor:
        """`A_1 - A_0`; with K > 2 of the most probable defect class, per image. (B, 1, h, w)."""
        normal, defects = verdict.class_cam[:, :1], verdict.class_cam[:, 1:]
        if defects.shape[1] == 1:
            return defects - normal
        best = verdict.logits[:, 1:].argmax(1)
        return defects[torch.arange(len(best), device=best.device), best][:, None] - normal

    def calibrate(self, cam: Tensor, logits: Tensor) -> Tensor:
        """Evidence (B, 1, h, w) and the verdict's logits (B, K) to map logits, `a cam + t`, a > 0.

        Where the map is supervised, a and t are learned. Where it is not (S1), a = 1 and t is the
        bias of the class whose evidence it is: a cell's value is then the verdict on a part that
        looks like this cell all over, since every pooling returns a constant map's constant.
        """
        if self.map_scale is None or self.map_shift is None:
            bias = self.deciding_head.bias
            return cam + (bias[1:][logits[:, 1:].argmax(1)] - bias[0])[:, None, None, None]
        return functional.softplus(self.map_scale) * cam + self.map_shift

    def labels(self, batch: Batch) -> Tensor:
        """Class indices (B,): 0 normal, else 1 or, with K > 2, the index of the defect type."""
        if len(self.classes) == 2:
            return batch.is_defective.long()
        pairs = zip(batch.is_defective.tolist(), batch.defect_type, strict=True)
        names = [kind if bad else self.classes[0] for bad, kind in pairs]
        unknown = sorted(set(names) - set(self.classes))
        if unknown:
            raise ValueError(f"classes: the model knows {self.classes}, the data has {unknown}")
        return torch.tensor([self.classes.index(n) for n in names], device=batch.image.device)

    def training_step(self, batch: Batch, progress: float = 1.0) -> dict[str, Tensor]:
        """The named loss terms in force at `progress`; see `training_terms`."""
        return training_terms(self, batch, progress)

    @torch.no_grad()
    def counterfactual(self, features: Tensor, regions: Tensor, margin: int = 1) -> Counterfactual:
        """Ask again with the features inside `regions` (B, 1, H, W) removed, or alone kept.

        `features` (B, C, h, w) as `model.features` gives them. A question about a prediction,
        never part of one.
        """
        cells = cell_mask(regions, (features.shape[2], features.shape[3]), margin)
        mean = self.normal_features.mean
        variants = (remove(features, cells, mean), keep_only(features, cells, mean))
        return Counterfactual(
            *(1 - self.decide(f).verdict.logits.softmax(1)[:, 0] for f in variants)
        )

    def with_weights(self, **weights: float) -> GAINMTL:
        """Change loss weights of existing terms in place, e.g. `localization=0.5`."""
        new = dataclasses.replace(self.strategy.weights, **weights)
        if set(new.active()) != set(self.strategy.weights.active()):
            raise ValueError(
                f"with_weights: expected positive weights of {self.strategy.weights.active()}, "
                f"got {weights}"
            )
        self.strategy = dataclasses.replace(self.strategy, weights=new)
        return self
