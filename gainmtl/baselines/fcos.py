"""Object detection: boxes around defects by FCOS, with an image score read out of the best box.

The head, its losses and the non-maximum suppression are torchvision's FCOS; the backbone and its
first weights are ours.
"""

from __future__ import annotations

from collections import OrderedDict
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from gainmtl.backbone import Backbone
from gainmtl.baselines.boxes import mask_boxes, paint_boxes
from gainmtl.baselines.readout import DETECTION, LocalizationModel
from gainmtl.heads import group_norm
from gainmtl.precision import batch_to_float32, to_float32
from gainmtl.strategies import Strategy
from gainmtl.types import Batch

FINEST_STRIDE = 4
"""Levels with smaller strides are not used."""
SHOWN_SCORE = 0.05
"""Boxes below this score are not painted. The image score is that of the best box in any case."""


class BoxDetector(LocalizationModel):
    """FCOS: every point of the feature pyramid predicts a class score and the sides of its box.

    The score of a box is `sqrt(class x centre-ness)`. The image score is the highest box score, and
    the defect map shows the boxes, painted with their scores.

    Args:
        backbone, weights, create_kwargs: see `Backbone`.
        strategy: with the weights of `classification` and `localization`.
        width: channels of pyramid and head, a multiple of 32.
        convolutions: per branch of the head.

    Raises:
        ValueError: a strategy with other terms, or a width that is not a multiple of 32.

    Source: Tian et al., "FCOS", ICCV 2019, in torchvision's implementation. Deviations: levels of
    strides 4 to 32 instead of 8 to 128, because defects are often smaller than 8 pixels; a
    narrower and shallower head, with our group norm, which also works on a map of one cell.
    """

    kind = "detector"

    def __init__(
        self,
        backbone: str,
        strategy: Strategy = DETECTION,
        weights: str | None = None,
        create_kwargs: dict[str, Any] | None = None,
        width: int = 64,
        convolutions: int = 2,
    ) -> None:
        # On demand: it takes a second.
        from torchvision.models.detection.anchor_utils import AnchorGenerator
        from torchvision.models.detection.fcos import FCOS, FCOSHead
        from torchvision.ops import FeaturePyramidNetwork

        super().__init__()
        self.strategy = strategy
        if set(strategy.weights.active()) != {"classification", "localization"}:
            raise ValueError(
                "FCOS: expected a strategy of classification and localization, got "
                f"{', '.join(strategy.weights.active())}"
            )
        if width % 32:  # torchvision's head is built with norms of 32 groups, replaced below
            raise ValueError(f"FCOS: width: expected a multiple of 32, got {width}")
        self.backbone = Backbone(backbone, weights, create_kwargs)
        strides = self.backbone.strides
        self.first = next((i for i, s in enumerate(strides) if s >= FINEST_STRIDE), 0)
        channels = [*self.backbone.channels[self.first : -1], self.backbone.last_channels]
        self.pyramid: Any = FeaturePyramidNetwork(channels, width)
        steps = [*strides[self.first : -1], self.backbone.last_stride]
        anchors = AnchorGenerator(tuple((s,) for s in steps), ((1.0,),) * len(steps))
        head: Any = FCOSHead(width, 1, 1, convolutions)
        for branch in (head.classification_head.conv, head.regression_head.conv):
            for index, layer in enumerate(branch):
                if isinstance(layer, nn.GroupNorm):
                    branch[index] = group_norm(width)
        # Only its head, losses and box decoding are used; its backbone and resizing are not.
        self.fcos: Any = FCOS(
            SimpleNamespace(out_channels=width),  # all that it reads of a backbone here
            num_classes=1,  # defect; FCOS has independent class scores and no background class
            anchor_generator=anchors,
            head=head,
            score_thresh=SHOWN_SCORE,
        )
        self.config = {"backbone": backbone, "width": width, "convolutions": convolutions}

    def _head_outputs(self, images: Tensor) -> tuple[dict[str, Tensor], Tensor, list[int]]:
        """Head outputs (B, P, ...), anchors (P, 4) of an image, and numbers of points per level."""
        from torchvision.models.detection.image_list import ImageList

        features = self.backbone(images)
        levels = [*features.levels[self.first : -1], features.last]
        fused = self.pyramid(OrderedDict((str(i), level) for i, level in enumerate(levels)))
        maps = list(fused.values())
        size = (images.shape[2], images.shape[3])
        (anchors,) = self.fcos.anchor_generator(ImageList(images[:1], [size]), maps)
        outputs = {name: to_float32(values) for name, values in self.fcos.head(maps).items()}
        return outputs, anchors, [m.shape[2] * m.shape[3] for m in maps]

    def localize(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The logit of the best box's score (B, 1) as the only readout, and the painted boxes."""
        outputs, anchors, counts = self._head_outputs(images)
        # log sqrt(class x centre-ness), numerically stable for small scores.
        log_score = sum(
            nn.functional.logsigmoid(outputs[name])[..., 0] / 2
            for name in ("cls_logits", "bbox_ctrness")
        )
        assert isinstance(log_score, Tensor)
        best = log_score.amax(1, keepdim=True).clamp_max(-1e-6)
        readout = best - torch.log(-torch.expm1(best))
        size = (images.shape[2], images.shape[3])
        return readout, self.painted(outputs, anchors, counts, size)

    def painted(
        self, outputs: dict[str, Tensor], anchors: Tensor, counts: list[int], size: tuple[int, int]
    ) -> Tensor:
        """The boxes of `_head_outputs` after non-maximum suppression, painted: (B, 1, *size)."""
        by_level = {name: list(values.split(counts, dim=1)) for name, values in outputs.items()}
        number = len(outputs["cls_logits"])
        detections = self.fcos.postprocess_detections(
            by_level, [list(anchors.split(counts))] * number, [size] * number
        )
        return torch.stack([paint_boxes(d["boxes"], d["scores"], size) for d in detections])

    def training_step(self, batch: Batch, progress: float = 1.0) -> dict[str, Tensor]:
        """`classification`, and `localization`: the boxes' generalised IoU loss plus centre-ness.

        Of samples with a mask, normal ones included. A defective sample whose mask is empty after
        resizing is left out, because it would be a target without a defect.
        """
        batch = batch_to_float32(batch)
        boxes = [mask_boxes(mask) for mask in batch.mask]
        has_boxes = torch.tensor([len(b) > 0 for b in boxes], device=batch.image.device)
        used = batch.has_mask & (has_boxes | ~batch.is_defective)
        outputs, anchors, counts = self._head_outputs(self.preprocess(batch.image))
        if not used.any():
            zero = torch.stack([values.sum() * 0 for values in outputs.values()]).sum()
            return {"classification": zero, "localization": zero}
        targets = [
            {"boxes": b, "labels": torch.zeros(len(b), dtype=torch.long).to(b.device)}
            for b, keep in zip(boxes, used.tolist(), strict=True)
            if keep
        ]
        selected = {name: values[used] for name, values in outputs.items()}
        terms = self.fcos.compute_loss(targets, selected, [anchors] * len(targets), counts)
        return {
            "classification": terms["classification"],
            "localization": terms["bbox_regression"] + terms["bbox_ctrness"],
        }
