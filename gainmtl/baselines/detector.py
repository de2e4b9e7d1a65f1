"""Detection: boxes around defects on a feature pyramid, and a verdict read off the best box.

The head, its losses and the choice among overlapping boxes are torchvision's FCOS; backbone and
first weights are ours.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOS, FCOSHead
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import FeaturePyramidNetwork

from gainmtl.backbone import Backbone
from gainmtl.baselines.boxes import mask_boxes, paint_boxes
from gainmtl.baselines.readout import DETECTION, PlaceInspector
from gainmtl.layers import group_norm
from gainmtl.precision import full, full_batch
from gainmtl.strategies import Strategy
from gainmtl.types import Batch

FINEST_STRIDE = 4
SHOWN_SCORE = 0.05
"""Boxes below this score are not painted. The verdict is read off the best box, whatever it is."""


class _Levels(nn.Module):
    """What torchvision wants to know of a backbone that is run elsewhere."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.out_channels = channels


class Detector(PlaceInspector):
    """Every point of the pyramid says how defective it is, and how far the box reaches from it.

    The score of a box is `sqrt(class x centre-ness)`; the image's is the highest, the defect map
    its boxes painted with their scores.

    Args:
        backbone, weights, create_kwargs: see `Backbone`.
        strategy: the weights of `classification` and `localization`.
        width: channels of pyramid and head.
        convolutions: of each branch of the head.

    Source: Tian et al., "FCOS", ICCV 2019, in torchvision. Deviations: levels of strides 4 to 32
    instead of 8 to 128, for a defect is often smaller than 8 pixels; a narrower and shallower head,
    with our group norm, which a map of one cell does not break.
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
        super().__init__()
        self.strategy = strategy
        if set(strategy.weights.active()) != {"classification", "localization"}:
            raise ValueError(
                "detector: expected a strategy of classification and localization, got "
                f"{', '.join(strategy.weights.active())}"
            )
        if width % 32:  # torchvision's head is built with 32 groups before ours replace them
            raise ValueError(f"detector: width: expected a multiple of 32, got {width}")
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
        # `head` and the methods for losses and boxes; its own backbone and resizing stay unused.
        self.fcos: Any = FCOS(
            _Levels(width),
            num_classes=1,  # one kind of box; no class for the background, each score is its own
            anchor_generator=anchors,
            head=head,
            score_thresh=SHOWN_SCORE,
        )
        self.config = {"backbone": backbone, "width": width, "convolutions": convolutions}

    def _look(self, images: Tensor) -> tuple[dict[str, Tensor], list[Tensor], list[int]]:
        """Head outputs, anchors per image, and how many points each level has."""
        found = self.backbone(images)
        levels = [*found.levels[self.first : -1], found.last]
        fused = self.pyramid(OrderedDict((str(i), level) for i, level in enumerate(levels)))
        maps = list(fused.values())
        size = (images.shape[2], images.shape[3])
        anchors = self.fcos.anchor_generator(ImageList(images, [size] * len(images)), maps)
        said = {name: full(values) for name, values in self.fcos.head(maps).items()}
        return said, anchors, [m.shape[2] * m.shape[3] for m in maps]

    def localize(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The logit of the best box's score as the only reading, and the painted boxes."""
        said, anchors, counts = self._look(images)
        # log of sqrt(class x centre-ness), stable where a sigmoid is not.
        log_score = sum(
            nn.functional.logsigmoid(said[name])[..., 0] / 2
            for name in ("cls_logits", "bbox_ctrness")
        )
        assert isinstance(log_score, Tensor)
        best = log_score.amax(1, keepdim=True).clamp_max(-1e-6)
        reading = best - torch.log(-torch.expm1(best))
        size = (images.shape[2], images.shape[3])
        by_level = {name: list(values.split(counts, dim=1)) for name, values in said.items()}
        placed = [list(one.split(counts)) for one in anchors]
        boxes = self.fcos.postprocess_detections(by_level, placed, [size] * len(images))
        painted = [paint_boxes(found["boxes"], found["scores"], size) for found in boxes]
        return reading, torch.stack(painted)

    def training_step(self, batch: Batch, progress: float = 1.0) -> dict[str, Tensor]:
        """`classification`, and `localization`: the boxes' generalised IoU plus centre-ness.

        Of samples with a mask, which normal ones are; a defective one whose mask came to nothing
        in resizing is left out too, for it would be taught as clean.
        """
        batch = full_batch(batch)
        boxes = [mask_boxes(mask) for mask in batch.mask]
        told = torch.tensor([len(found) > 0 for found in boxes], device=batch.image.device)
        known = batch.has_mask & (told | ~batch.is_defective)
        said, anchors, counts = self._look(self.preprocess(batch.image))
        if not known.any():
            nothing = torch.stack([values.sum() * 0 for values in said.values()]).sum()
            return {"classification": nothing, "localization": nothing}
        targets = [
            {"boxes": found, "labels": torch.zeros(len(found), dtype=torch.long).to(found.device)}
            for found, keep in zip(boxes, known.tolist(), strict=True)
            if keep
        ]
        chosen = {name: values[known] for name, values in said.items()}
        terms = self.fcos.compute_loss(targets, chosen, anchors[: len(targets)], counts)
        return {
            "classification": terms["classification"],
            "localization": terms["bbox_regression"] + terms["bbox_ctrness"],
        }
