"""The ranking that is left without the defect, of models whose reason is known."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from gainbook.chapters.ch10_ablation.surroundings import MEASURES as SURROUNDINGS
from gainbook.chapters.ch10_ablation.surroundings import METRIC, score_without_defects
from gainbook.lab.catalogue import S1_FINE, S5
from gainbook.lab.measures import measure_rows, paired_rows
from gainbook.lab.results_file import check_rows
from gainbook.lab.tables import find
from torch import Tensor, nn

from gainmtl.types import NORMAL, Sample


class Reader(nn.Module):
    """A model whose defect probability is a known function of the picture."""

    def __init__(self, reason: Any) -> None:
        super().__init__()
        self.reason, self.weight = reason, nn.Parameter(torch.zeros(()))

    def preprocess(self, images: Tensor) -> Tensor:
        return images

    def forward(self, images: Tensor) -> Any:
        assert not self.training
        return SimpleNamespace(defect_probability=self.reason(images) + 0 * self.weight)


def darkest(images: Tensor) -> Tensor:
    return 1 - images.flatten(1).amin(1)


def corner(images: Tensor) -> Tensor:
    return images[:, 0, -1, -1]


def part(index: int, bad: bool, light: float, size: int = 6, has_mask: bool = True) -> Sample:
    """Noise around a light; a defective part has a black square, and a mask on it."""
    generator = torch.Generator().manual_seed(index)
    image = light + 0.02 * torch.rand(1, 32, 32, generator=generator).expand(3, 32, 32)
    mask = torch.zeros(1, 32, 32)
    if bad:
        mask[:, 8 : 8 + size, 8 : 8 + size] = 1
    kind = ("crack", "stain")[index % 2] if bad else NORMAL
    return Sample(image * (1 - mask), bad, mask * has_mask, has_mask, kind, f"g{index}", f"{index}")


def parts(light: float, size: int = 6) -> list[Sample]:
    """Three defective parts in another light than six intact ones."""
    bad = [part(k, True, light, size) for k in range(3)]
    return bad + [part(k, False, 0.5) for k in range(3, 9)]


def rows_of(answers: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(check_rows(measure_rows(answers, SURROUNDINGS, "d", S5, 20)))


def test_a_reason_in_the_defect_goes_and_one_beside_it_stays() -> None:
    models: Any = {"defect": Reader(darkest), "light": Reader(corner).train()}
    scores = score_without_defects(models, parts(0.7))  # type: ignore[arg-type]
    assert scores["defect"]["name"].tolist() == [str(k) for k in range(9)]
    assert models["light"].training
    value = {}
    for name, answers in scores.items():
        rows = rows_of(answers)
        value[name] = find(rows, S5, METRIC).value
        assert find(rows, S5, "auroc", defect_type="crack").value == 1  # as it is
    assert value["light"] == 1
    # The brighter parts stay brighter in their darkest place: below one half, and not above it.
    assert value["defect"] == 0
    same = score_without_defects({"defect": models["defect"]}, parts(0.5))["defect"]  # type: ignore[arg-type]
    assert (same["filled"] < 0.55).all()
    assert (same.loc[same["is_defective"], "as_it_is"] == 1).all()


def test_intact_parts_are_filled_alike_and_never_by_themselves() -> None:
    """The defect leaves no place of that size on the part, so another part's surface is taken."""
    model: Any = Reader(lambda images: images[:, 0, 16, 16])
    answers = score_without_defects({"m": model}, parts(0.5, 23))["m"]  # type: ignore[arg-type]
    intact = answers[~answers["is_defective"]]
    assert (intact["filled"] - intact["as_it_is"]).abs().min() > 1e-6


def test_unmarked_defects_are_left_out() -> None:
    given = [*parts(0.5), part(9, True, 0.5, has_mask=False)]
    answers = score_without_defects({"m": Reader(darkest)}, given)["m"]  # type: ignore
    assert len(answers) == 9
    with pytest.raises(ValueError, match="found 0 and 6"):
        score_without_defects({"m": Reader(darkest)}, given[3:])  # type: ignore
    with pytest.raises(ValueError, match="found 3 and 1"):
        score_without_defects({"m": Reader(darkest)}, given[:4])  # type: ignore


def test_rows_and_differences_by_hand() -> None:
    table = pd.DataFrame(
        {
            "name": list("abcdef"),
            "group": list("123456"),
            "defect_type": ["crack", "stain", "crack", *["normal"] * 3],
            "is_defective": [True] * 3 + [False] * 3,
            "as_it_is": [0.9, 0.8, 0.7, 0.1, 0.2, 0.3],
            "filled": [0.25, 0.9, 0.05, 0.1, 0.2, 0.3],
        }
    )
    rows = rows_of(table)
    assert find(rows, S5, METRIC).value == pytest.approx((2 + 3 + 0) / 9)
    assert find(rows, S5, METRIC, defect_type="crack").value == pytest.approx(2 / 6)
    assert find(rows, S5, METRIC, defect_type="stain").value == 1
    assert find(rows, S5, "auroc", defect_type="stain").n == 4
    assert not ((rows["metric"] == "auroc") & rows["condition"].map(lambda c: len(c) == 1)).any()
    chance = table.assign(filled=0.5)
    paired = paired_rows(table, chance, SURROUNDINGS, "d", S5, S1_FINE, 20)
    (row,) = check_rows(paired)
    assert row["value"] == pytest.approx(5 / 9 - 1 / 2)
    assert (row["metric"], row["condition"]["against"]) == (f"{METRIC}_difference", "S1")
    shuffled = paired_rows(table, chance.iloc[::-1], SURROUNDINGS, "d", S5, S1_FINE, 20)
    assert shuffled == paired
    with pytest.raises(ValueError, match="the same images"):
        paired_rows(table, chance[1:], SURROUNDINGS, "d", S5, S1_FINE, 20)
