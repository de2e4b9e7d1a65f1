"""Counterfactual training images: what is exchanged and what stays."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gainmtl import fit
from gainmtl.datasets import Data, load
from gainmtl.io import strategy_from_dict, strategy_to_dict
from gainmtl.model import GAINMTL
from gainmtl.strategies import Strategy, get_strategy, with_copy_paste
from gainmtl.training.copy_paste import copy_paste
from gainmtl.types import NORMAL, Batch


def flat(levels: list[float], spot: tuple[int, int] = (10, 12), mark: float = 0.5) -> Batch:
    """Uniform images; the second half has a defect, a square of half the brightness."""
    n, half = len(levels), len(levels) // 2
    image = torch.tensor(levels)[:, None, None, None].expand(n, 3, 64, 64).clone()
    mask = torch.zeros(n, 1, 64, 64)
    row, column = spot
    mask[half:, :, row : row + 6, column : column + 6] = 1
    image *= 1 - (1 - mark) * mask
    bad = torch.arange(n) >= half
    types = tuple("chip" if b else NORMAL for b in bad.tolist())
    names = tuple(map(str, range(n)))
    return Batch(image, bad, mask, torch.ones(n, dtype=torch.bool), types, names, names)


def collate_more_normal(batch: Batch, more: int) -> Batch:
    """The batch and copies of its first sample, which is normal."""
    ids = [*range(len(batch.image)), *[0] * more]
    columns = [c[ids] if torch.is_tensor(c) else tuple(c[i] for i in ids) for c in batch[:-1]]
    return Batch(*columns)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_with_share_1_all_labels_change_and_the_brightness_is_the_hosts() -> None:
    batch = flat([0.2, 0.4, 0.8, 0.4])
    found = copy_paste(batch, 1.0, generator())
    assert found.is_defective.tolist() == [True, True, False, False]
    assert found.defect_type == ("chip", "chip", NORMAL, NORMAL)
    assert found.mask[:2].sum((1, 2, 3)).tolist() == [36, 36]
    assert not found.mask[2:].any()
    for image, mask, level in zip(found.image[:2], found.mask[:2], (0.2, 0.4), strict=True):
        # Half as bright as its new surroundings, whatever the donor's light was.
        assert torch.allclose(image[:, mask[0] > 0], torch.tensor(level / 2), atol=0.01)
        assert torch.allclose(image[:, mask[0] == 0], torch.tensor(level), atol=0.01)
    assert torch.allclose(found.image[2], torch.tensor(0.8), atol=1e-3)
    assert found.group == batch.group
    assert found.name == batch.name


def test_places_are_random_except_at_the_border() -> None:
    middle = [copy_paste(flat([0.5, 0.5]), 1.0, generator(k)).mask[0] for k in range(8)]
    assert len({tuple(mask.nonzero()[0].tolist()) for mask in middle}) > 4
    corner = flat([0.5, 0.5], spot=(0, 12))
    for k in range(4):
        assert torch.equal(copy_paste(corner, 1.0, generator(k)).mask[0], corner.mask[1])


def test_other_samples_stay_bit_for_bit() -> None:
    batch = flat([0.2, 0.4, 0.8, 0.4, 0.3, 0.7, 0.5, 0.6])
    found = copy_paste(batch, 0.4, generator(1))
    kept = found.is_defective == batch.is_defective
    assert 0 < int(kept.sum()) < len(kept)
    assert torch.equal(found.image[kept], batch.image[kept])
    assert torch.equal(found.mask[kept], batch.mask[kept])
    assert copy_paste(batch, 0.0, generator()).image is batch.image


def test_an_edited_image_is_as_often_defective_as_normal() -> None:
    """With twelve normal and four defective parts: the shares of the labels stay."""
    batch = flat([0.3, 0.4, 0.5, 0.6, 0.5, 0.4, 0.3, 0.4])
    batch = collate_more_normal(batch, 8)
    pasted = cleared = 0
    for seed in range(60):
        found = copy_paste(batch, 0.5, generator(seed))
        pasted += int((found.is_defective & ~batch.is_defective).sum())
        cleared += int((~found.is_defective & batch.is_defective).sum())
    # A standard deviation of such a count is 8 to 10.
    assert pasted == pytest.approx(60 * 2, abs=40)
    assert cleared == pytest.approx(60 * 2, abs=40)


def test_the_type_follows_the_defect() -> None:
    batch = flat([0.2, 0.4, 0.8, 0.4])._replace(defect_type=(NORMAL, NORMAL, "chip", "stain"))
    seen = set()
    for seed in range(10):
        found = copy_paste(batch, 1.0, generator(seed))
        for kind, mask, level in zip(
            found.defect_type, found.mask, found.is_defective, strict=True
        ):
            assert (kind == NORMAL) is not bool(level)
            assert bool(mask.any()) is bool(level)
            seen.add(kind)
    assert seen == {NORMAL, "chip", "stain"}


def test_only_one_kind_is_drawn() -> None:
    """With few draws, a batch often changes samples of one kind only."""
    batch, seen = flat([0.2, 0.4]), set()
    for seed in range(30):
        found = copy_paste(batch, 0.5, generator(seed))
        seen.add(tuple((found.is_defective != batch.is_defective).tolist()))
    assert seen == {(False, False), (True, False), (False, True), (True, True)}


@pytest.mark.parametrize("case", ["unknown mask", "too large", "no defect", "no normal"])
def test_nothing_to_exchange(case: str) -> None:
    batch = flat([0.2, 0.4])
    if case == "unknown mask":
        batch = batch._replace(has_mask=torch.tensor([True, False]), mask=batch.mask * 0)
    elif case == "too large":
        batch.mask[1, :, :15, :15] = 1  # 225 of 4096 pixels
    else:
        flag = case == "no normal"
        batch = batch._replace(is_defective=torch.tensor([flag, flag]))
    assert copy_paste(batch, 1.0, generator()) is batch


def test_a_defect_without_a_mask_does_not_change() -> None:
    batch = flat([0.2, 0.4, 0.8, 0.4])
    batch = batch._replace(has_mask=torch.tensor([True, True, False, True]))
    batch.mask[2] = 0
    found = copy_paste(batch, 1.0, generator())
    assert found.is_defective[2:].tolist() == [True, False]
    assert not found.has_mask[2]
    assert torch.equal(found.image[2], batch.image[2])


def test_the_strategy_has_the_share() -> None:
    strategy = with_copy_paste("S5", 0.5)
    assert strategy.name == "S5-copy-paste"
    assert get_strategy("S5-copy-paste") == with_copy_paste("S5")
    assert get_strategy("S5-no-mining-copy-paste").weights == get_strategy("S5-no-mining").weights
    assert strategy_from_dict(strategy_to_dict(strategy)) == strategy
    assert "copy_paste" not in strategy_to_dict(get_strategy("S5"))
    for share in (-0.1, 1.5):
        with pytest.raises(ValueError, match="copy_paste"):
            with_copy_paste("S1", share)
        with pytest.raises(ValueError, match="copy_paste"):
            copy_paste(flat([0.2, 0.4]), share, generator())


def test_the_network_does_not_depend_on_the_share() -> None:
    plain, pasted = (GAINMTL("test_efficientnet", name) for name in ("S1", "S1-copy-paste"))
    assert (pasted.output_stride, pasted.pooling) == (plain.output_stride, plain.pooling)


def trained(strategy: str | Strategy, data: Data, folder: Path) -> torch.Tensor:
    torch.manual_seed(0)
    model = GAINMTL("test_efficientnet", strategy, output_stride=4)
    fit(model, data, 2, folder, batch_size=8, progress=False, accelerator="cpu")
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_a_run_trains_on_them_and_resumes_equally(
    tmp_path: Path, interrupted: Callable[[Data, int], Data]
) -> None:
    """The images depend on seed and step alone, so a resumed run has the same ones."""
    data = load("synthetic", image_size=64, train=24, val=8, test=8)
    strategy = with_copy_paste("S1", 0.5)
    whole = trained(strategy, data, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        trained(strategy, interrupted(data, 30), tmp_path / "cut")
    assert torch.equal(trained(strategy, data, tmp_path / "cut"), whole)
    assert not torch.equal(trained("S1", data, tmp_path / "plain"), whole)
