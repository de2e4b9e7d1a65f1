"""How a counterfactual cheats: a branch with a classifier of its own, ever only told "normal".

Shown as a warning and built into no strategy. Our own term asks the head that decides; see
`GAINMTL.counterfactual`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class PrivateCounterfactual(nn.Module):
    """Learned suppression, learned replacement and a private classifier.

    `s = sigmoid(conv(m))`, `F' = F (1 - s) + r(F) s`, logits = linear(mean F'). Its loss is the
    cross-entropy towards class 0 for every sample, so the classifier never meets class 1: the
    bias alone can bring the loss to 0, whatever s and r do, and the head that decides is never
    asked. With bias `b` for normal against defective and all else 0 the loss is
    `log(1 + exp(-b))`.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.suppression = nn.Conv2d(1, 1, 3, padding=1)
        self.replacement = nn.Conv2d(channels, channels, 3, padding=1)
        self.classifier = nn.Linear(channels, 2)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, features: Tensor, cells: Tensor) -> Tensor:
        """Features (B, C, h, w) and cells (B, 1, h, w) in [0, 1] to logits (B, 2)."""
        suppressed = torch.sigmoid(self.suppression(cells))
        mixed = torch.lerp(features, self.replacement(features), suppressed.expand_as(features))
        return self.classifier(mixed.mean((2, 3)))

    def loss(self, features: Tensor, cells: Tensor) -> Tensor:
        """Cross-entropy towards "normal" over all samples; a scalar."""
        logits = self(features, cells)
        return functional.cross_entropy(logits, torch.zeros_like(logits[:, 0], dtype=torch.long))
