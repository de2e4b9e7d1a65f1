"""Map measures: by hand, at their limits, and on real defects seen through a coarse grid."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchmetrics.functional.classification import binary_f1_score, binary_jaccard_index

from gainmtl import metrics

MEASURES = {
    "map_iou": metrics.map_iou,
    "fixed_iou": metrics.fixed_iou,
    "dice": metrics.dice,
    "point_game": metrics.point_game,
    "energy_inside": metrics.energy_inside,
    "positive_energy": metrics.positive_energy,
    "pixel_ap": metrics.pixel_ap,
}


def image(rows: list[list[float]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32)[None, None]


def draw(seed: int = 0, count: int = 6, size: int = 24, grid: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(count, 1, grid, grid, generator=generator)
    masks = (torch.rand(count, 1, size, size, generator=generator) < 0.2).float()
    return maps, masks


MASK = image([[1, 1, 0, 0], [0, 0, 0, 0]])
MAP = image([[3, 1, 2, -1], [0, 0, -1, -1]])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("map_iou", 1 / 3),  # scaled: 1 .5 .75 0 / .25 .25 0 0; > .5 are the first and the third
        ("fixed_iou", 2 / 3),  # > .5: 3, 1, 2
        ("dice", 4 / 5),
        ("point_game", 1.0),
        ("energy_inside", 1.5 / 2.75),
        ("positive_energy", 4 / 6),
        ("pixel_ap", (1 + 2 / 3) / 2),
    ],
)
def test_by_hand(name: str, expected: float) -> None:
    assert MEASURES[name](MAP, MASK).tolist() == pytest.approx([expected])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("map_iou", 0.0),
        ("point_game", 0.25),
        ("energy_inside", 0.25),
        ("positive_energy", 0.25),
        ("pixel_ap", 0.25),
    ],
)
@pytest.mark.parametrize("grid", [(2, 4), (3, 7), (1, 1)])
def test_a_constant_map_scores_its_chance_level(
    name: str, expected: float, grid: tuple[int, int]
) -> None:
    # 0.1 has no exact float32: resizing must not turn its rounding into evidence.
    masks = torch.nn.functional.interpolate(MASK, (20, 44))
    assert MEASURES[name](torch.full((1, 1, *grid), 0.1), masks).tolist() == pytest.approx(
        [expected]
    )


@pytest.mark.parametrize("name", MEASURES)
def test_an_empty_mask_is_nan_and_leaves_its_neighbours_alone(name: str) -> None:
    maps, masks = draw()
    whole = MEASURES[name](maps, masks)
    masks[2] = 0
    partly = MEASURES[name](maps, masks)
    assert partly.isnan().tolist() == [False, False, True, False, False, False]
    keep = [0, 1, 3, 4, 5]
    assert torch.equal(partly[keep], whole[keep])
    assert whole.shape == (6,)
    assert bool(((whole >= 0) & (whole <= 1)).all())


@pytest.mark.parametrize("name", ["map_iou", "point_game", "energy_inside", "pixel_ap"])
def test_level_and_scale_do_not_matter(name: str) -> None:
    maps, masks = draw(1)
    torch.testing.assert_close(
        MEASURES[name](5 * maps - 3, masks), MEASURES[name](maps, masks), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("name", ["fixed_iou", "dice", "positive_energy"])
def test_level_matters(name: str) -> None:
    maps, masks = draw(1)
    assert not torch.allclose(MEASURES[name](maps - 1, masks), MEASURES[name](maps, masks))


@pytest.mark.parametrize("name", MEASURES)
def test_the_mask_itself_is_perfect(name: str) -> None:
    _, masks = draw(2)
    assert MEASURES[name](masks, masks).tolist() == pytest.approx([1.0] * 6)
    low = 0.0 if name != "pixel_ap" else 0.5
    assert bool((MEASURES[name](-masks, masks) <= low).all())


@pytest.mark.parametrize("seed", range(3))
def test_overlap_against_torchmetrics(seed: int) -> None:
    maps, masks = draw(seed)
    large = torch.nn.functional.interpolate(maps.sigmoid(), (24, 24), mode="bilinear")
    ious, dices = (
        torch.tensor([float(witness(m, t)) for m, t in zip(large, masks.long(), strict=True)])
        for witness in (binary_jaccard_index, binary_f1_score)
    )
    torch.testing.assert_close(metrics.fixed_iou(maps.sigmoid(), masks).float(), ious)
    torch.testing.assert_close(metrics.dice(maps.sigmoid(), masks).float(), dices)


def test_point_game_shares_a_tie_and_forgives_within_the_tolerance() -> None:
    mask = image([[1, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]])
    tied = image([[2, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 2]])
    assert metrics.point_game(tied, mask).item() == 0.5
    diagonal = image([[0, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 0, 0, 0]])
    assert metrics.point_game(diagonal, mask, tolerance=1).item() == 0.0
    assert metrics.point_game(diagonal, mask.roll(1, 3), tolerance=1).item() == 1.0
    assert metrics.point_game(diagonal, mask, tolerance=1.5).item() == 1.0
    assert metrics.point_game(diagonal, torch.zeros_like(mask), tolerance=9).isnan().all()


def test_no_positive_evidence_is_a_miss() -> None:
    assert metrics.positive_energy(-torch.ones(1, 1, 2, 4), MASK).item() == 0.0


def test_false_activation() -> None:
    maps = torch.cat([MAP, torch.zeros_like(MAP), torch.ones_like(MAP)])
    assert metrics.false_activation(maps).tolist() == [3 / 8, 0, 1]
    assert metrics.false_activation(maps, threshold=1.5).tolist() == [2 / 8, 0, 0]


def test_oracle_is_the_share_of_each_cell() -> None:
    mask = image([[1, 1, 0, 0], [1, 0, 0, 1]])
    assert metrics.oracle_map(mask, (1, 2)).tolist() == [[[[0.75, 0.25]]]]
    _, masks = draw()
    assert torch.equal(metrics.oracle_map(masks, (24, 24)), masks)
    torch.testing.assert_close(
        metrics.oracle_map(masks, (6, 4)).mean((1, 2, 3)), masks.mean((1, 2, 3))
    )


def test_bad_input_names_what_was_found() -> None:
    with pytest.raises(ValueError, match=r"maps must be \(B, 1, h, w\), found \(2, 4\)"):
        metrics.map_iou(MAP[0, 0], MASK)
    with pytest.raises(ValueError, match=r"masks must be \(1, 1, H, W\).*found \(2, 1, 2, 4\)"):
        metrics.map_iou(MAP, MASK.repeat(2, 1, 1, 1))
    with pytest.raises(ValueError, match="finite"):
        metrics.dice(MAP / 0, MASK)


def tile_masks(root: Path, size: int) -> Tensor:
    """Every non-empty mask, squashed to size x size."""
    masks = []
    for path in sorted(root.glob("MT_*/Imgs/*.png")):
        if path.parts[-3] == "MT_Free":
            continue
        with Image.open(path) as opened:
            mask = np.asarray(opened.resize((size, size), Image.Resampling.NEAREST)) > 127
        if mask.any():
            masks.append(torch.from_numpy(mask))
    return torch.stack(masks)[:, None]


@pytest.mark.real_data
@pytest.mark.skipif("GAINMTL_DATA" not in os.environ, reason="needs GAINMTL_DATA")
def test_what_a_coarse_grid_can_reach_on_magnetic_tiles() -> None:
    masks = tile_masks(Path(os.environ["GAINMTL_DATA"]) / "magnetic-tile", 256)
    # Reached by another implementation on all 388 masks of the full data set.
    expected = {
        16: (0.56, 0.64, 0.48),
        32: (0.71, 0.87, 0.62),
    }
    for grid, figures in expected.items():
        oracle = metrics.oracle_map(masks, (grid, grid))
        reached = [
            float(measure(oracle, masks).mean())
            for measure in (metrics.map_iou, metrics.point_game, metrics.energy_inside)
        ]
        assert reached == pytest.approx(figures, abs=0.02), grid


def test_arrays_are_named() -> None:
    maps = torch.rand(1, 1, 4, 4)
    for wrong in ((maps.numpy(), maps), (maps, maps.numpy())):
        with pytest.raises(TypeError, match="must be a torch tensor, found ndarray"):
            metrics.map_iou(*wrong)
