"""Where gates are open on a test set, what a temperature did, and what that says of the claims."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader, Dataset

from gainbook.chapters.ch05_attention.gates import cell_auroc, cell_entropy, contrast, read_gates
from gainbook.lab.chapter_results import Results, results
from gainbook.lab.judge import Judgement
from gainbook.lab.parameters import Parameters
from gainbook.lab.protocol import Pooled
from gainbook.lab.reference import System, load_fold
from gainbook.lab.results_file import row
from gainbook.lab.tables import Value
from gainmtl.evaluation.stats import bootstrap_interval
from gainmtl.io import load
from gainmtl.model import GAINMTL
from gainmtl.types import Sample, collate


@torch.no_grad()
def score_gates(model: GAINMTL, dataset: Dataset[Sample], batch_size: int = 32) -> pd.DataFrame:
    """One row per image: what the gates do there.

    Columns: `name, group, defect_type, is_defective`; for every map of `gates.GATES` that the model
    has `<map>.cell_auroc` and `<map>.contrast`, NaN where there is no defect or no mask of it; and
    of guided attention `attention.entropy`, with the temperature that was learned, and
    `attention.entropy_at_one`, the same map with the temperature set back to 1.
    """
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    loader: DataLoader[Any] = DataLoader(dataset, batch_size=batch_size, collate_fn=collate)
    tables = []
    for batch in loader:
        features = model.features(model.preprocess(batch.image.to(device)))
        out = model.read(features, (batch.image.shape[2], batch.image.shape[3]))
        marked = (batch.is_defective & batch.has_mask).numpy()
        columns: dict[str, Any] = {
            "name": batch.name,
            "group": batch.group,
            "defect_type": batch.defect_type,
            "is_defective": batch.is_defective.numpy(),
        }
        for name, maps in {**read_gates(model, features), "cam": out.cam}.items():
            for measure, function in (("cell_auroc", cell_auroc), ("contrast", contrast)):
                values = function(maps, batch.mask).numpy()
                columns[f"{name}.{measure}"] = np.where(marked, values, np.nan)
        if model.attention is not None and out.attention_logits is not None:
            logits = out.attention_logits
            columns["attention.entropy"] = cell_entropy(logits).numpy()
            at_one = logits * model.attention.temperature
            columns["attention.entropy_at_one"] = cell_entropy(at_one).numpy()
        tables.append(pd.DataFrame(columns))
    model.train(was_training)
    return pd.concat(tables, ignore_index=True)


def gate_rows(
    table: pd.DataFrame, dataset: str, system: System, resamples: int = 2000
) -> list[dict[str, Any]]:
    """Result rows of `score_gates`: means with bootstrap intervals over groups.

    `map` is "cam" or, for both gates, "attention"; the condition of the latter says which `gate`.
    A column of nothing but NaN has no row.
    """
    rows = []
    for column in table.columns:
        name, dot, metric = column.partition(".")
        keep = table[column].notna() if dot else None
        if keep is None or not keep.any():
            continue
        found = bootstrap_interval(
            np.mean,
            table["group"][keep].to_numpy(),
            table[column][keep].to_numpy(float),
            resamples=resamples,
        )
        one = row(
            dataset,
            system.name,
            metric,
            found.value,
            condition=system.condition | ({} if name == "cam" else {"gate": name}),
            map="cam" if name == "cam" else "attention",
            **found.ends,
        )
        rows.append(one)
    return rows


def temperature_rows(
    histories: pd.DataFrame, dataset: str, system: System, seed: int
) -> list[dict[str, Any]]:
    """Rows `temperature` after every epoch, by fold; the condition says the `epoch`, from 1."""
    return [
        row(
            dataset,
            system.name,
            "temperature",
            float(one["temperature"]),
            split="train",
            condition={**system.condition, "epoch": int(one["epoch"]) + 1},
            map="attention",
            seed=seed,
            fold=int(one.get("fold", 0)),
        )
        for one in histories.to_dict("records")
    ]


def temperatures(rows: pd.DataFrame, system: System) -> pd.DataFrame:
    """What `temperature_rows` stored: columns `seed`, `fold`, `epoch`, `temperature`."""
    chosen = rows[(rows["metric"] == "temperature") & (rows["system"] == system.name)]
    lines = []
    for one in chosen.to_dict("records"):
        about = dict(one["condition"])
        epoch = about.pop("epoch", None)
        if epoch is not None and about == system.condition:
            lines.append((int(one["seed"]), int(one["fold"]), int(epoch), float(one["value"])))
    return pd.DataFrame(lines, columns=["seed", "fold", "epoch", "temperature"]).sort_values(
        ["seed", "fold", "epoch"], ignore_index=True
    )


KEPT = ("auroc",)
"""Whose rows are kept fold by fold; of the others the pooled figure is."""


def gate_results(
    parameters: Parameters,
    systems: Sequence[System],
    pairs: Sequence[tuple[System, System]] = (),
) -> Results:
    """`findings.results` with what the gates do on every fold's test part, and the temperatures.

    Folds that are trained are read, the others are trained first; with `dataset="synthetic"` the
    chapter's reference results are read. `pairs` are compared, first minus second.
    """
    found = results(parameters, systems, pairs)
    if not found.pooled or found.rows is None:
        return found
    p = parameters
    rows: list[dict[str, Any]] = []
    for system in systems:
        runs_of = found.pooled[system.tag]
        table = _score_folds(p, runs_of)
        rows += gate_rows(table, p.dataset, system)
        for seed, one in zip(p.seeds, runs_of, strict=True):
            if "temperature" in one.histories:
                rows += temperature_rows(one.histories, p.dataset, system, seed)
    slim = found.rows[found.rows["fold"].isna() | found.rows["metric"].isin(KEPT)]
    return found._replace(rows=pd.concat([slim, pd.DataFrame(rows)], ignore_index=True))


def _score_folds(parameters: Parameters, pooled: Sequence[Pooled]) -> pd.DataFrame:
    tables = []
    for seed, one in zip(parameters.seeds, pooled, strict=True):
        data_of = load_fold(parameters, seed)
        tables += [
            score_gates(load(path), data_of(fold).test) for fold, path in enumerate(one.model_paths)
        ]
    return pd.concat(tables, ignore_index=True)


SIZE_MARGIN, TIME_MARGIN = 1.05, 1.10
FALL, SHARPER = 0.95, 0.01


def judge_refinement(cost: Mapping[str, Value], energy: Value, overlap: Value) -> Judgement:
    """Is CBAM nearly free, and is the attention after it more accurate?

    Fixed before the reference run, but for the interval of the seconds, which came when the median
    of nine turns on a busy machine was found to be off by a fifth.

    `cost` holds the ratios with to without CBAM of "parameters", "operations" and "seconds" of a
    prediction, the seconds with their interval over turns; `energy` and `overlap` are the
    differences with minus without of the attention's positive energy and IoU on the same parts,
    with 95 % intervals over groups.

    *Nearly free*: parameters and operations at most 1.05 times, seconds at most 1.10 times, by the
    lower end of their interval where they have one: a busy clock is no cost of CBAM.
    *More accurate*: both intervals above 0. *Confirmed* if both hold, *refined* if one does, else
    *refuted*.
    """
    seconds = cost["seconds"].value if math.isnan(cost["seconds"].low) else cost["seconds"].low
    free = (
        cost["parameters"].value <= SIZE_MARGIN
        and cost["operations"].value <= SIZE_MARGIN
        and seconds <= TIME_MARGIN
    )
    better = energy.low > 0 and overlap.low > 0
    verdict = "confirmed" if free and better else "refined" if free or better else "refuted"
    return Judgement(verdict, {"positive energy": energy, "IoU": overlap})


def judge_temperature(ends: Sequence[float], sharper: Value) -> Judgement:
    """Does a learnable temperature start wide and sharpen the map by itself?

    Fixed before the reference run.

    `ends` are the temperatures at the end of the runs, all of which started at 1. `sharper` is the
    attention's entropy with the temperature learned minus with it held at 1, on the same parts,
    with a 95 % interval.

    *Confirmed* if every run ends below 0.95 and the learned temperature's map is sharper, its
    interval below -0.01 bits; *refined* if the temperature falls but the map is as sharp without
    it: the convolutions before it do the sharpening; else *refuted*.
    """
    if not ends:
        raise ValueError("judge_temperature: expected the temperature of at least one run")
    falls = max(ends) < FALL
    verdict = "refuted" if not falls else "confirmed" if sharper.high < -SHARPER else "refined"
    highest = Value(max(ends), float("nan"), float("nan"), len(ends))
    return Judgement(verdict, {"highest temperature at the end": highest, "entropy": sharper})
