"""The loop with a backbone that is fine-tuned in every round, in place of frozen features.

Each round starts from the same ImageNet weights. The classifier is linear on the means of the same
two levels as the frozen features, so that its class activation map is exact, too.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from gainbook.chapters.ch14_active.features import LEVELS, Levels, encode
from gainbook.chapters.ch14_active.loop import Plan, Problem
from gainbook.chapters.ch14_active.methods import Rows
from gainbook.chapters.ch14_active.tasks import Encoded, Part, Setting, Split
from gainbook.lab.catalogue import TEXTBOOK
from gainbook.lab.head import Head
from gainmtl.backbone import Backbone
from gainmtl.training.optimization import EpochSampler, rate_factor

STEPS, BATCH = 200, 16
"""Training steps of every round, however many labels there are, and images of a step."""
FROZEN = 4
"""Layers up to this stride stay as they are, as in the reference recipe of GAIN-MTL."""
METHODS = ("class_balanced", "entropy", "activation")
"""What is compared: the reference, and the map-based score beside the score of equal cost."""
SETTINGS = {"deep-pcb": Setting(first=10, batch=300, rounds=2)}
RATES = {name: float(dict(TEXTBOOK.changes)[name]) for name in ("learning_rate", "weight_decay")}
"""Those of the textbook fine-tune of the other chapters."""


class Classifier(nn.Module):
    """Logits (B, K) of images (B, 3, H, W) in [0, 1]: `W h + b` on the means h of two levels."""

    def __init__(self, backbone: Backbone, classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.mean, self.std = (
            torch.tensor(x)[:, None, None] for x in (backbone.mean, backbone.std)
        )
        self.linear = nn.Linear(sum(backbone.channels[-LEVELS:]), classes)

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        maps = self.backbone.pyramid((images - self.mean) / self.std)[-LEVELS:]
        logits: Tensor = self.linear(torch.cat([level.mean((2, 3)) for level in maps], 1))
        return logits


def fit_classifier(model: Classifier, images: Tensor, labels: Tensor, seed: int) -> None:
    """Train on images (N, 3, H, W) in [0, 1] and classes (N,): cross-entropy, AdamW, flips."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(
        model.parameters(), RATES["learning_rate"], weight_decay=RATES["weight_decay"]
    )
    order = EpochSampler(len(images), seed)
    batch = min(BATCH, len(images))
    model.backbone.freeze(FROZEN)
    model.train().to(memory_format=torch.channels_last)
    rows: list[int] = []
    for step in range(STEPS):
        if len(rows) < batch:
            rows = list(order)
            order.epoch += 1
        taken, rows = rows[:batch], rows[batch:]
        pictures = images[taken]
        for axis in (2, 3):
            turned = torch.rand(batch, generator=generator) < 0.5
            pictures[turned] = pictures[turned].flip(axis)
        for group in optimizer.param_groups:
            group["lr"] = RATES["learning_rate"] * rate_factor(step, STEPS)
        optimizer.zero_grad()
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        functional.cross_entropy(model(pictures), labels[taken]).backward()
        optimizer.step()


class LazyViews(dict[str, Levels]):
    """The levels of a part's images by view, computed when they are first read."""

    def __init__(self, backbone: Backbone, part: Part) -> None:
        super().__init__()
        self._backbone, self._part = backbone, part

    def __missing__(self, view: str) -> Levels:
        images = (self._part.dataset[int(i)].image for i in self._part.rows)
        self[view] = encode(self._backbone, images, view)
        return self[view]


class FineTuning:
    """A `Learner` of `gainbook.chapters.ch14_active.loop.run`, for one seed.

    It trains on the labelled images as they are: duplicates, exclusion and scores with annotated
    masks are compared on frozen features only.
    """

    def __init__(
        self, split: Split, setting: Setting, backbone: str, weights: str | None, seed: int
    ) -> None:
        self.split, self.seed, self._network = split, seed, (backbone, weights)
        self.parts = {"pool": split.pool, "test": split.test}
        parts = {name: Encoded(part.labels, {}, None) for name, part in self.parts.items()}
        self.problem = Problem(split.classes, parts, setting)
        """The set without features, for `run`."""
        self._start: tuple[Problem, Head] | None = None

    def __call__(self, plan: Plan, first: Rows, new: Rows) -> tuple[Problem, Head]:
        """Fine-tune on the labelled rows. The start, the same for all plans, is trained once."""
        if len(new):
            return self._train(np.concatenate([first, new]))
        self._start = self._start or self._train(first)
        return self._start

    def _train(self, rows: Rows) -> tuple[Problem, Head]:
        """The features of the fine-tuned network, and its head.

        The head acts on standardised features: `W h + b = (W s) (h - m) / s + (b + W m)`.
        """
        torch.manual_seed(self.seed)
        model = Classifier(Backbone(*self._network), len(self.split.classes))
        pool = self.split.pool
        images = torch.stack([pool.dataset[int(i)].image for i in pool.rows[rows]])
        fit_classifier(model, images, torch.from_numpy(pool.labels[rows]), self.seed)
        parts = {name: Encoded(part.labels, LazyViews(model.backbone, part), None)
                 for name, part in self.parts.items()}  # fmt: skip
        problem = Problem(self.split.classes, parts, self.problem.setting)
        weight, bias = (
            x.detach().double().numpy() for x in (model.linear.weight, model.linear.bias)
        )
        centre, scale = problem.standardisation
        return problem, Head(weight * scale, bias + weight @ centre)
