"""Four teachers: their accuracies, weights and pairs, and the verdict of claim D1."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from gainbook import ROOT
from gainbook.chapters.ch13_distillation import teacher_study as study
from gainbook.lab.judge import CONFIRMED, NOT_RUN, REFINED, REFUTED, UNDECIDED
from gainbook.lab.parameters import Parameters
from gainbook.lab.results_file import row
from gainbook.lab.study import judge

TABLE = ROOT / "book/gainbook/chapters/ch01_models/tables/timm_models.csv"


def test_accuracies_are_those_of_the_published_table_in_order() -> None:
    published = pd.read_csv(TABLE, comment="#")
    known = dict(zip(published.iloc[:, 0], published.iloc[:, 2], strict=True))
    names = {"mobilenetv2_100": "mobilenetv2_100.ra_in1k"}
    for teacher in study.TEACHERS:
        assert teacher.top1 == known[names.get(teacher.backbone, f"{teacher.backbone}.in1k")]
    accuracies = [teacher.top1 for teacher in study.TEACHERS]
    assert accuracies == sorted(accuracies)


def test_a_pair_is_a_more_accurate_teacher_minus_a_less_accurate_one() -> None:
    order = [teacher.backbone for teacher in study.TEACHERS]
    pairs = study.pairs_of(study.BANKS)
    places = [(order.index(a.backbone), order.index(b.backbone)) for a, b in pairs]
    assert places == [(1, 0), (2, 0), (3, 0), (2, 1), (3, 1)]


def test_folders_differ_by_teacher_and_detector() -> None:
    tags = [s.tag for s in (*study.BANKS, *study.STUDENTS, *study.BOARD_STUDENTS)]
    assert len(set(tags)) == len(tags) == 12


@pytest.mark.parametrize(
    ("place", "weights"), [(0, "given.safetensors"), (1, "package"), (3, "package")]
)
def test_only_the_first_teacher_has_the_weights_of_the_parameters(
    place: int, weights: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    used = []

    def fake(parameters: Any, system: Any, *args: Any, **options: Any) -> list[Any]:
        used.append((system.backbone, system.weights))
        return []

    monkeypatch.setattr(study, "run_detector", fake)
    p = Parameters(weights="given.safetensors", output_dir=str(tmp_path))
    study.run_teacher(p, study.BANKS[place])
    assert used == [(study.TEACHERS[place].backbone, weights)]


@pytest.mark.parametrize(
    ("least", "family", "expected"),
    [
        ((0.03, 0.01, 0.05), (0.02, 0.001, 0.04), CONFIRMED),
        ((0.03, 0.01, 0.05), (-0.02, -0.04, 0.01), REFINED),
        ((0.005, -0.01, 0.019), (-0.02, -0.04, 0.01), REFUTED),
        ((0.03, 0.01, 0.05), (0.01, -0.02, 0.04), UNDECIDED),
    ],
)
def test_verdict(least: Any, family: Any, expected: str) -> None:
    def rows_of(group: Any, values: Any) -> list[dict[str, Any]]:
        best = group[-1]
        return [
            row("deep-pcb", best.name, "auroc_difference", value, ci_low=low, ci_high=high,
                condition={**best.condition, **group[place].as_other})
            for place, (value, low, high) in enumerate(values)
        ]  # fmt: skip

    rows = rows_of(study.BOARD_STUDENTS, (least, family))
    claim = study.BOARD_STUDY.claim("D1")
    assert judge(claim, pd.DataFrame(rows)).verdict == NOT_RUN  # the bank's figures are missing
    rows += rows_of(study.BANKS, ((0.1, 0.0, 0.2),) * 2)
    found = judge(claim, pd.DataFrame(rows))
    assert found.verdict == expected
    assert list(found.figures)[2:] == [
        "the first with a memory bank", "the second with a memory bank",
    ]  # fmt: skip
