"""Chapter 05, attention: where gates are open, what a temperature does, and claims A3 and A9."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from gainbook.chapters.ch05_attention.gates import GATE_MEASURES, GATES, score_gates
from gainbook.lab.catalogue import (
    ATTENTION_BARE,
    ATTENTION_CBAM,
    ATTENTION_UNGUIDED,
    PLAIN,
    WITH_CBAM,
    WITH_SE,
)
from gainbook.lab.folds import Question, of_each
from gainbook.lab.judge import INTERESTING, Judgement, all_of, gains, verdict
from gainbook.lab.results_file import row, stored_results
from gainbook.lab.run_system import SMALL
from gainbook.lab.study import Claim, Run, Study, on_boards
from gainbook.lab.systems import System
from gainbook.lab.tables import Column, Value, cell, find, series

NAME = "05_attention"
QUICK: dict[str, Any] = SMALL | {
    "image_size": 64, "epochs": 7, "batch_size": 8, "learning_rate": 4e-3
}  # fmt: skip
"""Parameters of the live part."""
TRAINED = (PLAIN, WITH_SE, WITH_CBAM, ATTENTION_BARE, ATTENTION_CBAM)
SYSTEMS = (*TRAINED[:3], ATTENTION_UNGUIDED, *TRAINED[3:])
"""`ATTENTION_UNGUIDED` is trained on real parts only with `-p unguided true`."""
EFFECTS: dict[str, Column] = {
    "AUROC": ("auroc", None, {}),
    "recall at 5 % false alarms": ("recall_at_fpr05", None, {}),
    "PointGame of the evidence": ("point_game", "cam", {}),
    "positive energy of the evidence": ("positive_energy", "cam", {}),
}
"""What a gate may improve: the verdict and the place of its evidence."""
PAIRS = (
    *((system, PLAIN) for system in SYSTEMS[1:]),
    (ATTENTION_CBAM, ATTENTION_BARE),
    (ATTENTION_BARE, ATTENTION_UNGUIDED),
)


def where_open(rows: pd.DataFrame, systems: Sequence[System]) -> pd.DataFrame:
    """The data of `plots.intervals`: the cell AUROC of every gate and of the evidence."""
    entries = []
    for gate, words in GATES.items():
        map_name = "cam" if gate == "cam" else "attention"
        about: dict[str, Any] = {} if gate == "cam" else {"gate": gate}
        entries += [
            (words, system.label, system, "cell_auroc", map_name, about)
            for system in systems
            if cell(rows, system, "cell_auroc", map_name, **about) != "–"
        ]
    return series(rows, entries)


def temperature_rows(
    histories: pd.DataFrame, dataset: str, system: System, seed: int
) -> list[dict[str, Any]]:
    """Rows `temperature` after every epoch (from 1), by fold."""
    return [
        row(
            dataset, system.name, "temperature", float(epoch["temperature"]), split="train",
            condition={**system.condition, "epoch": int(epoch["epoch"]) + 1}, map="attention",
            seed=seed, fold=int(epoch.get("fold", 0)),
        )
        for epoch in histories.to_dict("records")
    ]  # fmt: skip


def _temperatures_of_run(run: Run) -> list[dict[str, Any]]:
    p = run.parameters
    return [
        one
        for system in run.systems
        for seed, pooled in zip(p.seeds, run.pooled[system.tag], strict=True)
        if "temperature" in pooled.histories
        for one in temperature_rows(pooled.histories, p.dataset, system, seed)
    ]


def temperatures(rows: pd.DataFrame, system: System) -> pd.DataFrame:
    """The rows of `temperature_rows` as columns `seed`, `fold`, `epoch`, `temperature`."""
    chosen = rows[(rows["metric"] == "temperature") & (rows["system"] == system.name)]
    lines = []
    for record in chosen.to_dict("records"):
        condition = dict(record["condition"])
        epoch = condition.pop("epoch", None)
        if epoch is not None and condition == system.condition:
            place = int(record["seed"]), int(record["fold"]), int(epoch)
            lines.append((*place, float(record["value"])))
    table = pd.DataFrame(lines, columns=["seed", "fold", "epoch", "temperature"])
    return table.sort_values(["seed", "fold", "epoch"], ignore_index=True)


def final_temperatures(rows: pd.DataFrame, system: System) -> list[float]:
    """The temperature after the last epoch, by seed and fold."""
    by_run = temperatures(rows, system).groupby(["seed", "fold"])["temperature"]
    return [float(value) for value in by_run.last()]


SIZE_MARGIN, TIME_MARGIN = 1.05, 1.10
FALL, SHARPER = 0.95, 0.01


def judge_refinement(cost: Mapping[str, Value], energy: Value, overlap: Value) -> Judgement:
    """A3: is CBAM nearly free, and is the attention after it more accurate?

    `cost`: ratios with to without CBAM of "parameters", "operations" and "seconds" of a prediction,
    the seconds with their interval over turns. `energy`, `overlap`: differences with minus without
    of the attention's positive energy and IoU on the same parts.

    *Nearly free*: parameters and operations at most 1.05 times, seconds at most 1.10 times, by the
    lower end of their interval where they have one, since a busy clock is no cost of CBAM. (The
    interval came after the run: the median of nine turns on a busy machine was off by a fifth.)
    *More accurate*: both differences have intervals above 0.
    """
    seconds = cost["seconds"].value if math.isnan(cost["seconds"].low) else cost["seconds"].low
    free = (
        cost["parameters"].value <= SIZE_MARGIN
        and cost["operations"].value <= SIZE_MARGIN
        and seconds <= TIME_MARGIN
    )
    better = all_of(
        [gains(energy, INTERESTING["positive_energy"]), gains(overlap, INTERESTING["iou"])]
    )
    return Judgement(verdict([free, better]), {"positive energy": energy, "IoU": overlap})


def judge_temperature(ends: Sequence[float], sharper: Value) -> Judgement:
    """A9: does a learnable temperature start wide and sharpen the map by itself?

    `ends`: temperatures at the end of the runs, all of which started at 1. `sharper`: the
    attention's entropy with the temperature learned minus with it held at 1, on the same parts.

    The temperature *falls* if every run ends below 0.95. It *sharpens* if the entropy's interval
    lies below -0.01 bits; an interval above -0.01 excludes that.
    """
    if not ends:
        raise ValueError("judge_temperature: expected the temperature of at least one run")
    below = max(ends) < FALL
    sharpens = True if sharper.high < -SHARPER else False if sharper.low > -SHARPER else None
    highest = Value(max(ends), float("nan"), float("nan"), len(ends))
    figures = {"highest temperature at the end": highest, "entropy": sharper}
    return Judgement(verdict([below, sharpens]), figures)


def _cost_of_cbam(rows: pd.DataFrame) -> dict[str, Value]:
    """Ratios before the guided attention; in the plain network where a file lacks those."""
    network: dict[str, Any] = {"network": "mobilenetv2_100", "image_size": 128}
    for system, against in ((ATTENTION_CBAM, "attention"), (WITH_CBAM, "plain")):
        try:
            return {
                name: find(rows, system, f"{name}_ratio", against=against, **network)
                for name in ("parameters", "operations", "seconds")
            }
        except LookupError:
            continue
    raise LookupError("the cost of CBAM")


def refinement(rows: pd.DataFrame, costs: pd.DataFrame | None = None) -> Judgement:
    """A3 from result rows; see `judge_refinement`. `costs`: rows of the costs, if not `rows`."""
    energy, overlap = (
        find(rows, ATTENTION_CBAM, f"{metric}_difference", "defect_map", **ATTENTION_BARE.as_other)
        for metric in ("positive_energy", "iou")
    )
    return judge_refinement(_cost_of_cbam(rows if costs is None else costs), energy, overlap)


def refinement_on_boards(rows: pd.DataFrame) -> Judgement:
    """A3 on board tiles, see `judge_refinement`; costs are the chapter's, alike for all data."""
    own = stored_results(NAME)
    return refinement(rows, None if own is None else own.rows)


def temperature(rows: pd.DataFrame) -> Judgement:
    """A9 from result rows, the entropy from the live lessons; see `judge_temperature`."""
    ends = [
        t for system in (ATTENTION_BARE, ATTENTION_CBAM) for t in final_temperatures(rows, system)
    ]
    if not ends:
        raise LookupError("temperatures")
    held = {"lesson": "attention", "temperature": "learned", "against": "held at 1"}
    chosen = rows[(rows["system"] == "lesson") & (rows["metric"] == "entropy_difference")]
    chosen = chosen[chosen["condition"].map(lambda given: dict(given) == held)]
    if len(chosen) != 1:
        raise LookupError("the lesson's entropy")
    one = chosen.iloc[0]
    sharper = Value(float(one["value"]), float(one["ci_low"]), float(one["ci_high"]), int(one["n"]))
    return judge_temperature(ends, sharper)


def _kept(rows: pd.DataFrame) -> pd.Series:
    """Of single folds the AUROC alone."""
    return rows["fold"].isna() | (rows["metric"] == "auroc")


STUDY = Study(
    name=NAME,
    notebook=NAME,
    title="Attention",
    systems=TRAINED,
    pairs=PAIRS,
    questions=(Question(of_each(score_gates), GATE_MEASURES),),
    keep=_kept,
    extra=_temperatures_of_run,
    profile="components",
    fuller=("-p unguided true", "the attention that no mask teaches"),
    claims=(
        Claim("A3", refinement, ("parameters_ratio", "operations_ratio", "seconds_ratio")),
        Claim("A9", temperature, ("entropy_difference",)),
    ),
)
BOARD_STUDY = on_boards(
    STUDY,
    (ATTENTION_BARE, ATTENTION_CBAM),
    questions=(),
    extra=None,
    claims=(Claim("A3", refinement_on_boards),),
)
STUDIES = (STUDY, BOARD_STUDY)
