"""A counterfactual that cheats: a branch with a classifier of its own, trained towards "normal".

Shown as a warning and part of no strategy. Our own term uses the head that decides; see
`gainmtl.objective`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gainmtl.counterfactual import cell_mask
from gainmtl.model import GAINMTL
from gainmtl.types import collate


class PrivateCounterfactual(nn.Module):
    """Learned suppression, learned replacement and a private classifier.

    `s = sigmoid(conv(m))`, `F' = F (1 - s) + r(F) s`, logits = linear(mean F'). Its loss is the
    cross-entropy towards class 0 for every sample. The classifier has no sample of class 1, so the
    bias alone can bring the loss to 0, whatever s and r do, and the head that decides takes no
    part. With bias `b` for normal against defective and all else 0 the loss is
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


def train_with_branch(
    model: GAINMTL, branch: PrivateCounterfactual, train: Any, steps: int = 24, batch_size: int = 16
) -> list[float]:
    """Train a model with a private branch beside its own terms; the branch's loss of every step."""
    rates: list[dict[str, Any]] = [
        {"params": model.parameters(), "lr": 1e-4}, {"params": branch.parameters(), "lr": 3e-3},
    ]  # fmt: skip
    optimizer, curve = torch.optim.Adam(rates), []
    weights = model.strategy.weights_at(1.0)
    for _ in range(steps):
        batch = collate([train[int(i)] for i in torch.randint(len(train), (batch_size,))])
        features = model.features(model.preprocess(batch.image))
        cells = cell_mask(batch.mask, (features.shape[2], features.shape[3]))
        loss = branch.loss(features, cells)
        terms = model.training_step(batch)
        optimizer.zero_grad()
        (loss + sum(getattr(weights, name) * term for name, term in terms.items())).backward()
        optimizer.step()
        curve.append(loss.item())
    return curve
