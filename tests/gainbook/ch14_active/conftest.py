"""A small set with features that separate its classes, and a small backbone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gainbook.chapters.ch14_active.features import VIEWS, Levels
from gainbook.chapters.ch14_active.loop import Problem
from gainbook.chapters.ch14_active.tasks import Encoded, Setting

from gainmtl.backbone import Backbone


def part(counts: list[int], seed: int, views: tuple[str, ...]) -> Encoded:
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    fine = rng.normal(size=(len(labels), 3, 4, 4))
    coarse = rng.normal(size=(len(labels), 4, 2, 2))
    coarse[np.arange(len(labels)), labels] += 1.2  # channel k is large for class k
    levels = {}
    for view in views:
        flip = np.s_[:, :, :, :: -1 if view == "flipped" else 1]
        levels[view] = Levels(fine[flip].astype(np.float16), coarse[flip].astype(np.float16))
    masks = rng.random((len(labels), 4, 4)) < 0.3
    masks[labels == 0] = False
    return Encoded(labels, levels, masks if len(views) > 1 else None)


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    torch.manual_seed(0)
    return Backbone("test_efficientnet")


@pytest.fixture
def problem() -> Problem:
    parts = {
        "pool": part([60, 20, 12], 0, VIEWS),
        "val": part([10, 10, 10], 1, VIEWS[:1]),
        "test": part([20, 20, 20], 2, VIEWS[:1]),
    }
    return Problem(("a", "b", "c"), parts, Setting(first=3, batch=6, rounds=4))
