"""Training on parts whose printed mark agrees with their state: one run of the shortcut study."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gainbook.lab.marked_parts import (
    AS_IN_TRAINING,
    agreements_by_test,
    figures,
    marked_parts,
    part_table,
    predict_both,
)
from gainbook.lab.results_file import git_commit, results_file, row
from gainbook.lab.run_system import build, find_weights
from gainbook.lab.seed_study import Cell, SeedStudy, difference_by_seed, train
from gainbook.lab.systems import System
from gainmtl import datasets
from gainmtl.datasets.annotation import coarsen
from gainmtl.datasets.synthetic import make
from gainmtl.files import read_json, write_json
from gainmtl.model import GAINMTL
from gainmtl.strategies import STRATEGIES, Strategy


def guided(weight: float) -> System:
    """S2 with another weight of the map's loss than its own 0.3."""
    weights = dataclasses.replace(STRATEGIES["S2"].weights, cam_guidance=weight)
    name = f"S2-guidance{weight:g}"
    return System(f"{name}-stride4", Strategy(name, weights), 4, f"S2, guidance {weight:g}")


PLAIN = System("S1-stride4", "S1", 4, "S1")
S5 = System("S5-stride4", "S5", 4, "S5")
SYSTEMS = (
    PLAIN,
    System("S2-stride4", "S2", 4, "S2"),
    guided(10.0),
    System("S3-stride4", "S3", 4, "S3"),
    S5,
)
AGREEMENTS = (0.5, 0.7, 0.9, 1.0)
"""Share of training parts on which the mark agrees with the state. At 0.5 the mark carries no
information, at 1 it determines the state; the correlation of the two is `2 a - 1`."""
SEEDS = (0, 1, 2, 3, 4)
CONTROL = AGREEMENTS[0]
"""Verdicts that change with a mark of this agreement change by the disturbance of the picture."""
EXCESS = "verdict_change_excess"
"""`verdict_change` minus the same system's at the control, seed by seed."""
SHOWN_PARTS = 2
"""The maps of the first defective test parts of the first seed are kept for the page."""
MAPS = "maps.json"
SIZES = ("image_size", "train", "val", "test")
"""The settings of the parts."""


def train_and_measure(settings: Mapping[str, Any], cell: Cell) -> dict[str, Any]:
    """The content of a cell's file: a trained model, measured with the mark and without."""
    # The commit of the loaded code: the checkout may change during a long study.
    started, commit = time.process_time(), git_commit()
    seed, agreement = cell["seed"], cell["agreement"]
    sizes = {name: settings[name] for name in SIZES}
    data = {
        name: datasets.load(
            "synthetic", seed=seed, shortcut=agreement, shortcut_test=share, **sizes
        )
        for name, share in agreements_by_test(agreement).items()
    }
    parts = marked_parts({name: one.test for name, one in data.items()})  # type: ignore[misc]
    torch.manual_seed(seed)
    system = {one.tag: one for one in SYSTEMS}[cell["system"]]
    model = build(system, settings["backbone"], find_weights(settings["weights"]))
    assert isinstance(model, GAINMTL)
    train(model, data[AS_IN_TRAINING], seed, settings)
    predictions = predict_both(model, parts)
    shown = predictions.cell_prob[: SHOWN_PARTS if seed == SEEDS[0] else 0, 0]
    return {
        "settings": dict(settings),
        "agreement": agreement,
        "seed": seed,
        "figures": figures(part_table(predictions, parts, model.threshold)),
        "threshold": model.threshold,
        "maps": [[round(float(v), 2) for v in one.flatten()] for one in shown],
        "fingerprint": data[AS_IN_TRAINING].fingerprint,
        "commit": commit,
        "seconds": time.process_time() - started,
    }


def subject(cell: Cell) -> tuple[str, dict[str, Any]]:
    """System name and condition of a cell's rows."""
    system = {one.tag: one for one in SYSTEMS}[cell["system"]]
    return system.name, {**system.condition, "agreement": cell["agreement"]}


def minus_plain(cell: Cell) -> list[tuple[Cell, dict[str, Any]]]:
    """Differences are to `PLAIN` at the same agreement."""
    return [] if cell["system"] == PLAIN.tag else [(cell.at(system=PLAIN.tag), PLAIN.as_other)]


def excess_rows(
    study: SeedStudy, cells: Sequence[Cell], contents: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Rows `EXCESS` of every system at every agreement beyond the control."""
    shares: dict[Cell, dict[int, float]] = {}
    for cell, content in zip(cells, contents, strict=True):
        for one in study.figures(content):
            if one["metric"] == "verdict_change":
                shares.setdefault(cell.at(seed=None), {})[cell["seed"]] = one["value"]
    rows = []
    for cell, by_seed in shares.items():
        control = shares.get(cell.at(agreement=CONTROL), {})
        if cell["agreement"] != CONTROL and control:
            name, condition = study.subject(cell)
            gap = difference_by_seed(by_seed, control)
            rows.append(row("synthetic", name, EXCESS, gap.value, condition=condition, **gap.ends))
    return rows


def write_maps(folder: Path, cells: Sequence[Cell], contents: Sequence[Mapping[str, Any]]) -> None:
    """Write the kept maps to `MAPS` in the study's folder."""
    maps = {
        _key(cell["system"], cell["agreement"]): content["maps"]
        for cell, content in zip(cells, contents, strict=True)
        if content["maps"]
    }
    write_json(folder / MAPS, {"seed": SEEDS[0], "maps": maps})


def shown_parts(settings: Mapping[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures with the mark, masks and boxes around the mark of the parts with stored maps.

    (`SHOWN_PARTS`, 3, H, W) in [0, 1], and twice (`SHOWN_PARTS`, 1, H, W), 0 or 1.
    """
    sizes = {name: settings[name] for name in SIZES}
    test = make(seed=SEEDS[0], shortcut=1.0, shortcut_test=1.0, **sizes)[2]
    shown = np.flatnonzero(test.true_labels)[:SHOWN_PARTS]
    samples = [test[int(i)] for i in shown]
    return (
        torch.stack([sample.image for sample in samples]),
        torch.stack([sample.mask for sample in samples]),
        torch.stack([coarsen(test.mark_mask(int(i)), "box") for i in shown]),
    )


def stored_maps(name: str, agreement: float) -> dict[str, Tensor]:
    """By system tag, the stored cell probabilities (`SHOWN_PARTS`, 1, h, w) at an agreement.

    Empty where the results of the study `name` are not stored.
    """
    try:
        maps = read_json(results_file(f"{name}_{MAPS.removesuffix('.json')}"))["maps"]
    except FileNotFoundError:
        return {}
    keys = {system.tag: _key(system.tag, agreement) for system in SYSTEMS}
    return {tag: _squares(torch.tensor(maps[key])) for tag, key in keys.items() if key in maps}


def _key(tag: str, agreement: float) -> str:
    return f"{tag} {agreement:g}"


def _squares(cells: Tensor) -> Tensor:
    side = math.isqrt(cells.shape[1])
    return cells.reshape(-1, 1, side, side)
