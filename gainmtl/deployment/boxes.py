"""The painted boxes of `BoxDetector` in a form with fixed shapes, for a graph of any batch size."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision.ops import clip_boxes_to_image, nms

PAINTED_AT_ONCE = 10
"""Boxes that are painted in one step: each takes S x S numbers per image."""


@torch.library.custom_op("gainmtl::keep_boxes", mutates_args=())
def keep_boxes(boxes: Tensor, scores: Tensor, overlap: float) -> Tensor:
    """Non-maximum suppression: which of `boxes` (B, N, 4) with `scores` (B, N) stay, (B, N) bool.

    A box goes if one with a higher score, which stays, overlaps it by more than `overlap` (IoU).
    An operator of its own, so that the graph gets ONNX's, which takes a batch.
    """
    kept = torch.zeros_like(scores, dtype=torch.bool)
    for row, image_boxes, image_scores in zip(kept, boxes, scores, strict=True):
        row[nms(image_boxes, image_scores, overlap)] = True
    return kept


@keep_boxes.register_fake
def _(boxes: Tensor, scores: Tensor, overlap: float) -> Tensor:
    return torch.empty_like(scores, dtype=torch.bool)


def keep_boxes_in_onnx(boxes: Any, scores: Any, overlap: float) -> Any:
    """`keep_boxes` by ONNX's operators, for the exporter."""
    import onnxscript

    op: Any = onnxscript.opset20  # its type hints have no numbers, which become constants
    highest = 2**63 - 1  # ONNX's operator needs the largest number of boxes that it returns
    found = op.NonMaxSuppression(boxes, op.Unsqueeze(scores, [1]), highest, overlap)
    places = op.Gather(found, [0, 2], axis=1)  # image and box, without the class
    number = op.Gather(op.Shape(places), [0])
    none = op.Expand(op.Constant(value_int=0), op.Shape(scores))
    return op.Cast(op.ScatterND(none, places, op.Expand([1], number)), to=9)  # bool


def painted_boxes(
    fcos: Any, outputs: dict[str, Tensor], anchors: Tensor, counts: list[int], size: tuple[int, int]
) -> Tensor:
    """As `BoxDetector.painted`, with torchvision's `fcos` for the settings and the box decoding.

    Instead of leaving out boxes, their scores become 0, which paints nothing.
    """
    scores = torch.sqrt(outputs["cls_logits"].sigmoid() * outputs["bbox_ctrness"].sigmoid())[..., 0]
    boxes = fcos.box_coder.decode(outputs["bbox_regression"], anchors)
    candidates = [
        _highest(*level, fcos.topk_candidates)
        for level in zip(scores.split(counts, 1), boxes.split(counts, 1), strict=True)
    ]
    scores, boxes = (torch.cat(parts, 1) for parts in zip(*candidates, strict=True))
    scores = torch.where(scores > fcos.score_thresh, scores, 0)
    boxes = clip_boxes_to_image(boxes, size)
    scores = torch.where(keep_boxes(boxes, scores, fcos.nms_thresh), scores, 0)
    scores, boxes = _highest(scores, boxes, fcos.detections_per_img)
    rows = torch.arange(size[0])[:, None] + 0.5
    columns = torch.arange(size[1]) + 0.5
    painted = torch.zeros_like(scores[:, :1, None, None]).expand(-1, -1, *size)
    groups = (values.split(PAINTED_AT_ONCE, 1) for values in (scores, boxes))
    for score, box in zip(*groups, strict=True):
        left, top, right, bottom = box[..., None, None].unbind(2)
        inside = (top <= rows) & (rows < bottom) & (left <= columns) & (columns < right)
        layers = torch.where(inside, score[..., None, None], 0)
        painted = torch.maximum(painted, layers.amax(1, keepdim=True))
    return painted


def _highest(scores: Tensor, boxes: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """The `number` highest of scores (B, N), at most N, with their boxes (B, N, 4)."""
    best = scores.topk(min(number, scores.shape[1]), dim=1)
    return best.values, boxes.gather(1, best.indices[..., None].expand(-1, -1, 4))
