"""The network of GAIN-MTL: backbone, attention and heads, from images to `Outputs`."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from gainmtl.attention import REFINEMENTS, GuidedAttention
from gainmtl.backbone import Backbone
from gainmtl.cam import check_pooling, pool_evidence, resize_map
from gainmtl.counterfactual import NormalFeatures
from gainmtl.datasets.checks import number, whole
from gainmtl.fostering import Tally
from gainmtl.heads import FeaturePyramid, HeadOutput, LinearHead, LocalizationHead
from gainmtl.interface import DefectModel
from gainmtl.precision import to_float32
from gainmtl.strategies import TERMS, Strategy, get_strategy
from gainmtl.types import NORMAL, Outputs

FINE_STRIDE = 4
"""Default stride of the evidence grid for strategies that train a map."""


@dataclasses.dataclass(frozen=True, eq=False)
class Encoding:
    """Feature maps of a batch before any head; see `Network.encode`."""

    features: Tensor
    """(B, C, h, w), the input of the heads."""
    levels: list[Tensor]
    """The backbone's maps, finest first."""


class Decision(NamedTuple):
    """Outputs of the classification heads for one feature map; see `Network.classify`."""

    plain: HeadOutput
    attended: HeadOutput | None
    attention_logits: Tensor | None
    """(B, 1, h, w)."""

    @property
    def output(self) -> HeadOutput:
        """Output of the deciding head: the attended one where it exists, else the plain one."""
        return self.plain if self.attended is None else self.attended


class Network(DefectModel):
    """Backbone, feature pyramid, attention and heads of a strategy; `GAINMTL` adds the training.

    Images (B, 3, H, W) -> `encode` -> features F (B, C, h, w) -> `heads` -> `Outputs`, with

        plain = head(F)
        M = attention(refine(F))                              guided attention, (B, 1, h, w) logits
        attended = attended_head(refine(F) * (1 + sigmoid(M)))
        localization = localization(F), resized to (B, 1, H, W)

    A part exists if the strategy has a term that trains it. Arguments and errors: see
    `gainmtl.model.GAINMTL`.
    """

    terms: ClassVar[frozenset[str]] = frozenset(TERMS) - {"attention_branch"}
    """The loss terms that the class can compute."""

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
        num_classes = whole("num_classes", num_classes, 2, 10_000)
        width = whole("width", width, 1, 10_000)
        dropout = number("dropout", dropout, 0, 1)
        if classes is None:
            if num_classes > 2:
                raise ValueError("classes: num_classes > 2 needs the names of the classes")
            classes = (NORMAL, "defective")
        if refinement not in (None, *REFINEMENTS):
            raise ValueError(
                f"refinement: expected one of {', '.join(REFINEMENTS)}, got {refinement!r}"
            )
        if len(classes) != num_classes:
            raise ValueError(f"classes: expected {num_classes} names, got {len(classes)}")
        # Class 0 is trained on normal images, whatever its name is.
        named = all(isinstance(name, str) and name.strip() for name in classes)
        if not named or classes[0] != NORMAL or len(set(classes)) < num_classes:
            raise ValueError(
                f"classes: expected {NORMAL!r} first, then a different name for each defect type, "
                f"got {list(classes)}; data.types() returns them in this order"
            )
        self.strategy = get_strategy(strategy)
        if unknown := sorted(set(self.strategy.weights.active()) - self.terms):
            raise ValueError(
                f"strategy {self.strategy.name}: {type(self).__name__} can't compute the terms "
                f"{', '.join(unknown)}; attention_branch needs "
                "gainmtl.baselines.attention_branch.AttentionBranchNetwork"
            )
        self.classes = tuple(classes)
        self.backbone = Backbone(backbone, weights, create_kwargs)
        last = self.backbone.last_stride
        stride = output_stride or (last if self.strategy.is_plain else FINE_STRIDE)
        fine = [i for i, s in enumerate(self.backbone.strides) if s == stride]
        if stride != last and not fine:
            raise ValueError(
                f"output_stride: expected one of {sorted({*self.backbone.strides, last})}, the "
                f"strides of {backbone}, got {stride}"
            )
        self.output_stride = stride
        self.pooling = pooling or ("mean" if stride == last else "lse")
        check_pooling(self.pooling)
        self.level = max(fine) if stride != last else None
        self.pyramid: FeaturePyramid | None = None
        channels = self._build_encoder(width)
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
            # softplus(map_scale) = 1 at the start
            self.map_scale = nn.Parameter(torch.tensor(math.log(math.expm1(1.0))))
            self.map_shift = nn.Parameter(torch.tensor(0.0))
        self.fostered_level = self._fostered_level()
        self.fostering_tally = Tally()
        """Counts the fostered maps of training without a positive cell."""

    def _build_encoder(self, width: int) -> int:
        """Build what `encode` runs besides the backbone; return the channels C of its features."""
        if self.level is None:
            return self.backbone.last_channels
        levels = (*self.backbone.channels[self.level : -1], self.backbone.last_channels)
        self.pyramid = FeaturePyramid(levels, width)
        return width

    def _fostered_level(self) -> int | None:
        """Index of the backbone's level whose map is fostered; `None` for the evidence map."""
        stride = self.strategy.fostering_layer
        if stride is None or not self.strategy.weights.fostering:
            return None
        if stride not in self.backbone.strides:
            raise ValueError(
                f"fostering_layer: {self.backbone.name} has levels of stride "
                f"{self.backbone.strides}, got {stride}; None is the evidence map"
            )
        return max(i for i, s in enumerate(self.backbone.strides) if s == stride)

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
        """Normalised images (B, 3, H, W) to the features (B, C, h, w), the input of the heads."""
        return self.encode(images).features

    def encode(self, images: Tensor) -> Encoding:
        """Normalised images (B, 3, H, W) to everything below the heads."""
        maps = self.backbone(images)
        features = maps.last
        if self.pyramid is not None:
            features = self.pyramid([*maps.levels[self.level : -1], maps.last])
        return Encoding(to_float32(features), maps.levels)

    def classify(self, features: Tensor, fused: tuple[Tensor, Tensor] | None = None) -> Decision:
        """Features F (B, C, h, w) to the outputs of the classification heads.

        `fused`, in training only, holds the masks m (B, 1, h, w) of S6 and their shares s
        (B, 1, 1, 1); the gate is then `(1 - s) sigmoid(M) + s m`.
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
        # 1 + gate, not the gate alone: on a mostly intact surface the gate is near 0, and with it
        # the features and the gradient of the deciding head would vanish.
        return Decision(plain, self.attended_head(refined * (1 + gate)), attention_logits)

    def forward(self, images: Tensor) -> Outputs:
        """(B, 3, H, W) images, normalised by `preprocess`, to `Outputs`."""
        return self.heads(self.encode(images), (images.shape[2], images.shape[3]))

    def heads(self, encoding: Encoding, size: tuple[int, int]) -> Outputs:
        """The encoding of images of `size` = (H, W) pixels to `Outputs`.

        The defect map is the localization if there is a localization head, else the attention, else
        the calibrated evidence map, as probabilities.
        """
        features = encoding.features
        decision = self.classify(features)
        output = decision.output
        cam = self.evidence(output)
        localization = None if self.localization is None else self.localization(features, size)
        if localization is not None:
            map_logits = localization
        elif decision.attention_logits is not None:
            map_logits = resize_map(decision.attention_logits, size)
        else:
            map_logits = resize_map(self.calibrate(cam, output.logits), size)
        return Outputs(
            class_logits=decision.plain.logits,
            attended_logits=None if decision.attended is None else decision.attended.logits,
            logits=output.logits,
            defect_probability=1 - output.logits.softmax(1)[:, 0],
            class_cam=output.class_cam,
            cam=cam,
            attention_logits=decision.attention_logits,
            localization_logits=localization,
            defect_map=torch.sigmoid(map_logits),
        )

    def evidence(self, output: HeadOutput) -> Tensor:
        """`A_c - A_0` of the most probable defect class c, (B, 1, h, w); c = 1 for K = 2."""
        normal, defects = output.class_cam[:, :1], output.class_cam[:, 1:]
        if defects.shape[1] == 1:
            return defects - normal
        best = output.logits[:, 1:].argmax(1)
        # `defects[torch.arange(B), best]` would fix B in an exported graph.
        return defects.gather(1, best[:, None, None, None].expand_as(normal)) - normal

    def calibrate(self, cam: Tensor, logits: Tensor) -> Tensor:
        """Logits of the map, `a cam + t` with a > 0: (B, 1, h, w) to the same shape.

        If the map is supervised, a and t are learned. If not (S1), a = 1 and t = b_c - b_0 for the
        class c of the evidence, the most probable defect class by the deciding head's `logits`
        (B, K). Then the logit of a cell is the logit difference of an image that looks like this
        cell everywhere, because every pooling maps a constant map to its constant.
        """
        if self.map_scale is None or self.map_shift is None:
            bias = self.deciding_head.bias
            return cam + (bias[1:][logits[:, 1:].argmax(1)] - bias[0])[:, None, None, None]
        return functional.softplus(self.map_scale) * cam + self.map_shift
