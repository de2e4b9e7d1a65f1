"""Boxes around defects: computed from masks for training, and painted as a defect map."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor


def mask_boxes(mask: Tensor) -> Tensor:
    """(N, 4) float32 boxes (left, top, right, bottom), one per region of a mask (1, H, W).

    In pixels; right and bottom are exclusive. Regions are 8-connected. N = 0 for an empty mask.
    """
    regions, _ = ndimage.label(mask[0].cpu().numpy() > 0.5, structure=np.ones((3, 3)))
    boxes = [
        (columns.start, rows.start, columns.stop, rows.stop)
        for rows, columns in ndimage.find_objects(regions)
    ]
    return torch.tensor(boxes, dtype=torch.float32, device=mask.device).reshape(-1, 4)


def paint_boxes(boxes: Tensor, scores: Tensor, size: tuple[int, int]) -> Tensor:
    """A map (1, H, W): the highest score of the boxes that cover a pixel's centre, 0 without one.

    `boxes` (N, 4) are (left, top, right, bottom) in pixels, `scores` (N,) in [0, 1].
    """
    if not len(boxes):
        return torch.zeros(1, *size, dtype=scores.dtype, device=scores.device)
    rows = torch.arange(size[0], device=boxes.device) + 0.5
    columns = torch.arange(size[1], device=boxes.device) + 0.5
    left, top, right, bottom = (side[:, None] for side in boxes.unbind(1))
    within_rows = (top <= rows) & (rows < bottom)
    within_columns = (left <= columns) & (columns < right)
    inside = within_rows[:, :, None] & within_columns[:, None, :]
    return torch.where(inside, scores[:, None, None], 0).amax(0, keepdim=True)
