"""Disturbed images, and the student that learns to undo them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from gainmtl.anomaly.disturbance import AREA, disturb, noise_region
from gainmtl.anomaly.reverse_distillation import ReverseDistillation, cosine_distance
from gainmtl.types import Batch


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_regions_are_small_varied_and_anywhere() -> None:
    rng = generator()
    regions = torch.stack([noise_region(64, rng) for _ in range(60)])
    areas = regions.mean((1, 2, 3))
    assert set(regions.unique().tolist()) == {0.0, 1.0}
    assert float(areas.max()) <= AREA + 1e-3
    assert float(areas.std()) > 0.02
    # Every pixel is disturbed at least once, so no position marks disturbed images.
    assert (regions.sum(0) > 0).float().mean() > 0.9


def test_only_the_region_changes_by_the_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    region = torch.zeros(1, 32, 32)
    region[:, 8:20, 4:30] = 1
    monkeypatch.setattr("gainmtl.anomaly.disturbance.noise_region", lambda size, generator: region)
    images = 0.4 + 0.1 * torch.rand(8, 3, 32, 32, generator=generator(1))
    disturbed = disturb(images, 1.0, generator())
    near = torch.zeros(32, 32, dtype=torch.bool)
    near[7:21, 3:31] = True
    assert torch.equal(disturbed[..., ~near], images[..., ~near])
    # Inside, (x' - x) is one opacity times (c - x), and c one of three: the neighbour turned, with
    # an offset; x with a gain; either with grain.
    inside = (slice(None), slice(10, 18), slice(6, 28))
    kinds = []
    for place, image in enumerate(images):
        change = (disturbed[place] - image)[inside]
        flat = change.flatten()
        turned = (images[place - 1].rot90(1, (1, 2)) - image)[inside].flatten()
        ones = torch.ones_like(flat)
        residual = {}
        for kind, columns in {"gain": [image[inside].flatten()], "other": [turned, ones]}.items():
            basis = torch.stack(columns, 1)
            fit = basis @ torch.linalg.lstsq(basis, flat[:, None]).solution
            residual[kind] = float((flat[:, None] - fit).abs().max())
        grey = float(change.std(0).max())  # grain is equal in all channels, content is not
        kinds.append(min(residual, key=residual.__getitem__) if min(residual.values()) < 1e-4
                     else "grain" if grey < 0.1 else "?")  # fmt: skip
    assert set(kinds) == {"gain", "other", "grain"}


def test_a_share_of_the_images_is_disturbed_and_a_seed_repeats_it() -> None:
    images = torch.rand(16, 3, 64, 64, generator=generator(1))
    assert torch.equal(disturb(images, 0.0, generator()), images)
    disturbed = disturb(images, 1.0, generator())
    assert int((disturbed != images).flatten(1).any(1).sum()) >= 14  # a region may be almost empty
    assert 0 <= float(disturbed.min()) <= float(disturbed.max()) <= 1
    assert torch.equal(disturbed, disturb(images, 1.0, generator()))
    half = disturb(images, 0.5, generator(3))
    assert 2 <= int((half != images).flatten(1).any(1).sum()) <= 14
    with pytest.raises(ValueError, match="square"):
        disturb(images[..., :32], 1.0)


def test_the_input_is_disturbed_and_the_target_is_not(
    make_batch: Callable[..., Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = ReverseDistillation("test_efficientnet", denoise=1.0)
    batch = make_batch((0, 0))
    black = torch.zeros_like(batch.image)

    def darkened(images: Tensor, share: float) -> Tensor:
        assert share == 1.0
        return black

    monkeypatch.setattr("gainmtl.anomaly.reverse_distillation.disturb", darkened)
    inputs: list[list[Tensor]] = []
    forward = model.student.forward

    def spy(levels: list[Tensor]) -> list[Tensor]:
        inputs.append(list(levels))
        return forward(levels)

    monkeypatch.setattr(model.student, "forward", spy)
    loss = model.training_step(batch)["distillation"]
    target = model.teacher(model.preprocess(batch.image))
    dark = model.teacher(model.preprocess(black))
    for level, is_dark in zip(inputs[0], dark, strict=True):
        assert torch.allclose(level, is_dark, atol=1e-5)
    reconstructed = forward(inputs[0])
    by_hand = sum(cosine_distance(t, s).mean() for t, s in zip(target, reconstructed, strict=True))
    assert loss.item() == pytest.approx(torch.as_tensor(by_hand).item(), abs=1e-4)
    # On validation and test nothing is disturbed.
    model.eval()
    model.training_step(batch)
    for level, clear in zip(inputs[1], target, strict=True):
        assert torch.equal(level, clear)
