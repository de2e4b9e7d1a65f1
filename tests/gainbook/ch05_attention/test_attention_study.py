"""Scores of gates on a test set, their rows, and the borders of the two verdicts."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from gainbook.chapters.ch05_attention.gates import GATE_MEASURES, cell_auroc, score_gates
from gainbook.chapters.ch05_attention.study import (
    STUDY,
    final_temperatures,
    judge_refinement,
    judge_temperature,
    refinement,
    temperature,
    temperature_rows,
    temperatures,
)
from gainbook.lab import catalogue
from gainbook.lab import results_file as runs
from gainbook.lab.judge import CONFIRMED, NOT_RUN, REFINED, REFUTED, UNDECIDED
from gainbook.lab.measures import measure_rows
from gainbook.lab.study import judge
from gainbook.lab.systems import System
from gainbook.lab.tables import Value, find

from gainmtl import datasets
from gainmtl.model import GAINMTL

SYSTEM = catalogue.ATTENTION_CBAM


@pytest.fixture(scope="module")
def parts() -> datasets.Data:
    return datasets.load("synthetic", image_size=32, train=8, val=8, test=12)


@pytest.fixture(scope="module")
def model() -> GAINMTL:
    torch.manual_seed(0)
    return GAINMTL("test_efficientnet", SYSTEM.strategy, output_stride=4).eval()


def test_scores_are_the_measures_of_the_maps(parts: datasets.Data, model: GAINMTL) -> None:
    table = score_gates(model, parts.test, batch_size=5)
    assert len(table) == 12
    whole = [parts.test[i] for i in range(12)]
    images = model.preprocess(torch.stack([sample.image for sample in whole]))
    masks = torch.stack([sample.mask for sample in whole])
    with torch.no_grad():
        out = model(images)
    assert out.attention_logits is not None
    for name, maps in (("attention", out.attention_logits), ("cam", out.cam)):
        np.testing.assert_allclose(
            table[f"{name}.cell_auroc"], cell_auroc(maps, masks).numpy(), atol=0.02
        )
    assert (table["cam.contrast"].notna() == table["is_defective"]).all()
    assert {"spatial.cell_auroc", "spatial.contrast"} <= set(table.columns)
    # at the start T is 1, and setting it to 1 changes nothing
    np.testing.assert_allclose(table["attention.entropy"], table["attention.entropy_at_one"])
    assert table["attention.entropy"].notna().all()


def test_swapped_masks_leave_what_is_read_alone(parts: datasets.Data, model: GAINMTL) -> None:
    class Swapped(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(parts.test)  # type: ignore[arg-type]

        def __getitem__(self, index: int) -> object:
            sample = parts.test[index]
            return sample._replace(mask=1 - sample.mask)

    there = score_gates(model, parts.test)
    swapped = score_gates(model, Swapped())
    assert (there["attention.entropy"] == swapped["attention.entropy"]).all()
    total = there["cam.cell_auroc"] + swapped["cam.cell_auroc"]
    np.testing.assert_allclose(total.dropna(), 1, atol=1e-9)


def test_rows_name_the_gate(parts: datasets.Data, model: GAINMTL) -> None:
    table = score_gates(model, parts.test)
    rows = measure_rows(table, GATE_MEASURES, "set", SYSTEM, resamples=50)
    assert runs.check_rows(rows)
    frame = pd.DataFrame(rows)
    gate = find(frame, SYSTEM, "cell_auroc", "attention", gate="spatial")
    assert gate.value == pytest.approx(table["spatial.cell_auroc"].mean())
    assert gate.n == int(table["is_defective"].sum())
    assert find(frame, SYSTEM, "cell_auroc", "cam").n == gate.n
    assert find(frame, SYSTEM, "entropy", "attention", gate="attention").n == 12
    undefined = table.assign(**{"cam.contrast": math.nan})
    empty = measure_rows(undefined, GATE_MEASURES, "set", SYSTEM, resamples=50)
    assert len(empty) == len(rows) - 1


def test_of_single_folds_only_the_auroc_is_kept() -> None:
    rows = pd.DataFrame({"metric": ["auroc", "recall", "recall"], "fold": [0, 0, None]})
    assert STUDY.keep(rows).tolist() == [True, False, True]


def test_temperatures_are_rows_of_every_run_that_has_one() -> None:
    history = pd.DataFrame({"epoch": [0, 0], "fold": [0, 1], "temperature": [0.9, 0.8]})
    plain = SimpleNamespace(histories=history.drop(columns="temperature"))
    run: Any = SimpleNamespace(
        parameters=SimpleNamespace(dataset="set", seeds=(3,)),
        systems=(catalogue.PLAIN, SYSTEM),
        pooled={SYSTEM.tag: [SimpleNamespace(histories=history)], catalogue.PLAIN.tag: [plain]},
    )
    assert STUDY.extra is not None
    rows = pd.DataFrame(STUDY.extra(run))
    assert set(rows["system"]) == {SYSTEM.name}
    assert temperatures(rows, SYSTEM)["temperature"].tolist() == [0.9, 0.8]
    assert final_temperatures(rows, SYSTEM) == [0.9, 0.8]


def test_temperatures_come_back_as_they_went() -> None:
    history = pd.DataFrame({"epoch": [0, 1, 0, 1], "fold": [0, 0, 1, 1]})
    history["temperature"] = [1.0, 0.9, 1.0, 0.8]
    rows = temperature_rows(history, "set", SYSTEM, seed=3)
    other = temperature_rows(history, "set", catalogue.ATTENTION_BARE, seed=3)
    assert runs.check_rows(rows + other)
    back = temperatures(pd.DataFrame(rows + other), SYSTEM)
    assert back["temperature"].tolist() == [1.0, 0.9, 1.0, 0.8]
    assert back["epoch"].tolist() == [1, 2, 1, 2]
    assert back["fold"].tolist() == [0, 0, 1, 1]
    assert set(back["seed"]) == {3}
    assert temperatures(pd.DataFrame(rows), catalogue.PLAIN).empty


def value(low: float, high: float) -> Value:
    return Value((low + high) / 2, low, high, 10)


ABOVE, ACROSS, BELOW = value(0.01, 0.05), value(-0.01, 0.05), value(-0.05, -0.01)


def exact(figure: float) -> Value:
    return Value(figure, math.nan, math.nan, None)


CHEAP = {"parameters": exact(1.05), "operations": exact(1.01), "seconds": exact(1.10)}


@pytest.mark.parametrize(
    ("cost", "energy", "overlap", "expected"),
    [
        (CHEAP, ABOVE, ABOVE, CONFIRMED),
        (CHEAP, ABOVE, ACROSS, UNDECIDED),
        (CHEAP, ABOVE, BELOW, REFINED),
        (CHEAP, BELOW, BELOW, REFINED),
        (CHEAP | {"seconds": exact(1.11)}, ABOVE, ABOVE, REFINED),
        (CHEAP | {"seconds": Value(1.2, 1.09, 1.4, 9)}, ABOVE, ABOVE, CONFIRMED),  # a busy clock
        (CHEAP | {"seconds": Value(1.2, 1.11, 1.4, 9)}, ABOVE, ABOVE, REFINED),
        (CHEAP | {"parameters": exact(1.06)}, ACROSS, ABOVE, REFUTED),
        (CHEAP | {"operations": exact(1.06)}, BELOW, BELOW, REFUTED),
    ],
)
def test_refinement(cost: dict[str, Value], energy: Value, overlap: Value, expected: str) -> None:
    judgement = judge_refinement(cost, energy, overlap)
    assert judgement.verdict == expected
    assert judgement.figures["IoU"] is overlap


@pytest.mark.parametrize(
    ("ends", "sharper", "expected"),
    [
        ([0.5, 0.94], value(-0.05, -0.02), CONFIRMED),
        ([0.5, 0.94], value(-0.05, -0.005), UNDECIDED),  # perhaps by less than 0.01 bits
        ([0.5, 0.94], value(-0.009, 0.001), REFINED),
        ([0.5, 0.94], ABOVE, REFINED),
        ([0.5, 0.95], value(-0.05, -0.02), REFINED),
        ([1.2], ABOVE, REFUTED),
    ],
)
def test_temperature(ends: list[float], sharper: Value, expected: str) -> None:
    judgement = judge_temperature(ends, sharper)
    assert judgement.verdict == expected
    assert judgement.figures["highest temperature at the end"].value == max(ends)


def test_without_a_run_there_is_no_verdict() -> None:
    with pytest.raises(ValueError, match="at least one run"):
        judge_temperature([], BELOW)
    empty = pd.DataFrame(columns=list(runs.ROW_RULES))
    assert [judge(claim, empty).verdict for claim in STUDY.claims] == [NOT_RUN, NOT_RUN]


def paired(system: System, other: System, metric: str, interval: Value) -> dict[str, Any]:
    return runs.row(
        "set", system.name, f"{metric}_difference", interval.value, map="defect_map",
        condition={**system.condition, **other.as_other}, ci_low=interval.low,
        ci_high=interval.high, n=interval.n,
    )  # fmt: skip


def cost_rows(system: System, against: str, seconds: float) -> list[dict[str, Any]]:
    about = {"network": "mobilenetv2_100", "image_size": 128, "against": against}
    values = {"parameters_ratio": 1.0, "operations_ratio": 1.0, "seconds_ratio": seconds}
    return [
        runs.row("synthetic", system.name, name, value, condition={**system.condition, **about})
        for name, value in values.items()
    ]


def test_claims_are_judged_from_rows() -> None:
    bare = catalogue.ATTENTION_BARE
    rows = [paired(SYSTEM, bare, metric, ABOVE) for metric in ("positive_energy", "iou")]
    plain = cost_rows(catalogue.WITH_CBAM, "plain", 1.05)
    with pytest.raises(LookupError, match="cost of CBAM"):
        refinement(pd.DataFrame(rows))
    assert refinement(pd.DataFrame(rows + plain)).verdict == CONFIRMED
    assert refinement(pd.DataFrame(rows), pd.DataFrame(plain)).verdict == CONFIRMED
    before = cost_rows(SYSTEM, "attention", 1.2)  # counts before the cost in the plain network
    assert refinement(pd.DataFrame(rows + plain + before)).verdict == REFINED
    history = pd.DataFrame({"epoch": [0, 1], "fold": [0, 0], "temperature": [1.0, 0.8]})
    rows = temperature_rows(history, "set", SYSTEM, seed=0)
    with pytest.raises(LookupError, match="lesson"):
        temperature(pd.DataFrame(rows))
    held = {"lesson": "attention", "temperature": "learned", "against": "held at 1"}
    lesson = runs.row(
        "synthetic", "lesson", "entropy_difference", -0.03, condition=held, map="attention",
        ci_low=-0.04, ci_high=-0.02, n=9,
    )  # fmt: skip
    assert temperature(pd.DataFrame([*rows, lesson])).verdict == CONFIRMED
