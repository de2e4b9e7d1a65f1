"""Boxes in fixed shapes: the same map as by torchvision's selection, the same boxes as by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gainmtl.baselines.fcos import BoxDetector
from gainmtl.deployment.boxes import keep_boxes, painted_boxes


def overlap(a: Tensor, b: Tensor) -> float:
    sides = torch.minimum(a[2:], b[2:]) - torch.maximum(a[:2], b[:2])
    common = float(sides.clamp_min(0).prod())
    areas = [float((box[2:] - box[:2]).prod()) for box in (a, b)]
    return common / (sum(areas) - common)


def kept_one_by_one(boxes: Tensor, scores: Tensor, limit: float) -> list[bool]:
    """From the highest score on, each box against those that stay."""
    stay: list[int] = []
    for index in scores.argsort(descending=True).tolist():
        if all(overlap(boxes[index], boxes[other]) <= limit for other in stay):
            stay.append(index)
    return [index in stay for index in range(len(boxes))]


def random_boxes(batch: int, count: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(batch, count, 2, generator=generator) * 40
    sides = 4 + torch.rand(batch, count, 2, generator=generator) * 30
    return torch.cat([corner, corner + sides], 2), torch.rand(batch, count, generator=generator)


def test_kept_boxes_by_hand() -> None:
    boxes = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 9], [0, 5, 10, 15], [20, 20, 30, 30]]])
    # Overlaps with the first: 0.9, 1/3 and 0.
    kept = keep_boxes(boxes, torch.tensor([[0.9, 0.8, 0.7, 0.1]]), 0.5)
    assert kept.tolist() == [[True, False, True, True]]
    # Now the second has the highest score, and the first goes.
    kept = keep_boxes(boxes, torch.tensor([[0.5, 0.8, 0.7, 0.1]]), 0.5)
    assert kept.tolist() == [[False, True, True, True]]


@pytest.mark.parametrize("seed", range(3))
def test_kept_boxes_by_brute_force(seed: int) -> None:
    boxes, scores = random_boxes(3, 40, seed)
    kept = keep_boxes(boxes, scores, 0.4)
    assert 0 < kept.sum() < kept.numel()
    for row in range(3):
        assert kept[row].tolist() == kept_one_by_one(boxes[row], scores[row], 0.4)


@pytest.mark.parametrize("detections", [100, 5])
@pytest.mark.parametrize("seed", range(3))
def test_the_map_is_that_of_torchvisions_selection(seed: int, detections: int) -> None:
    torch.manual_seed(seed)
    model = BoxDetector("test_efficientnet", width=32, convolutions=1).eval()
    model.fcos.detections_per_img = detections
    size = (64, 64)
    with torch.no_grad():
        outputs, anchors, counts = model._head_outputs(torch.randn(2, 3, *size))
        outputs["cls_logits"] = torch.randn_like(outputs["cls_logits"]) - 1
        outputs["bbox_ctrness"] = torch.randn_like(outputs["bbox_ctrness"])
        outputs["bbox_regression"] = torch.rand_like(outputs["bbox_regression"]) * 2
        wanted = model.painted(outputs, anchors, counts, size)
        found = painted_boxes(model.fcos, outputs, anchors, counts, size)
    assert found.shape == (2, 1, *size)
    assert wanted.unique().numel() > 3
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=0)


def test_without_a_box_the_map_is_empty() -> None:
    torch.manual_seed(0)
    model = BoxDetector("test_efficientnet", width=32, convolutions=1).eval()
    with torch.no_grad():
        outputs, anchors, counts = model._head_outputs(torch.randn(2, 3, 64, 64))
        outputs["cls_logits"] -= 20
        found = painted_boxes(model.fcos, outputs, anchors, counts, (64, 64))
    assert found.shape == (2, 1, 64, 64)
    assert not found.any()
