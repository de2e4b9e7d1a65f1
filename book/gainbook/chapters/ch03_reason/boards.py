"""A confounder that a factory meets: defects are collected on some products, good parts on others.

Board designs take the place of the printed mark. In training a share `agreement` of the defective
tiles is of the designs of one group, and the same share of the normal tiles of the other group; the
test tiles are balanced, and some are of a design that no run trains on.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from gainbook.lab.catalogue import PLAIN, S5, SUPERVISION_ALONE, TEXTBOOK
from gainbook.lab.flips import twin_is_normal
from gainbook.lab.results_file import git_commit, portable, row
from gainbook.lab.run_system import build, find_weights
from gainbook.lab.seed_study import Cell, SeedStudy, difference_by_seed, figure
from gainmtl import datasets, metrics
from gainmtl.datasets import Data
from gainmtl.datasets.data import counts_of
from gainmtl.datasets.subsets import JoinedDataset, SelectedDataset, limit_labels
from gainmtl.evaluation.scoring import MAP_MEASURES, batches, score
from gainmtl.evaluation.stats import student_interval
from gainmtl.training.fitting import fit

NAME = "03_boards"
SYSTEMS = (
    TEXTBOOK,
    PLAIN._replace(label="S1"),
    SUPERVISION_ALONE._replace(label="S2"),
    S5._replace(label="S5"),
)
BY_TAG = {system.tag: system for system in SYSTEMS}
GROUPS = (("00041", "44000", "77000"), ("13000", "50600", "92000"))
"""Designs with about as many pairs, 350 and 359. With an even seed the defective tiles are of the
first group, with an odd one of the second."""
UNSEEN = "20085"
"""The design that no run trains on."""
AGREEMENTS = (0.5, 0.9, 1.0)
CONTROL = AGREEMENTS[0]
AS_IN_TRAINING, BALANCED, REVERSED, NEW = "as in training", "balanced", "reversed", "unseen design"
"""Test sets: defective tiles of the defects' group and normal ones of the other; all tiles of both
groups; the opposite; the unseen design."""
SETTINGS: dict[str, Any] = {
    "data_root": "deep-pcb",
    "image_size": 128,
    "tiles": 300,
    "test_tiles": 250,
    "backbone": "tf_efficientnet_lite0",
    "weights": "package",
    "epochs": 8,
    "batch_size": 16,
}
"""`tiles`: defective ones for training and validation, and as many normal. `test_tiles`: per group
of designs and state, and as many of the unseen design per state."""


def groups_of(seed: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The designs of the defective and of the normal tiles in training."""
    return GROUPS if seed % 2 == 0 else (GROUPS[1], GROUPS[0])


def _of(data: Data, designs: Sequence[str]) -> Data:
    """The tiles of some designs."""

    def part(dataset: Any) -> SelectedDataset:
        return SelectedDataset(dataset, np.flatnonzero(np.isin(dataset.designs, designs)))

    return dataclasses.replace(
        data, train=part(data.train), val=part(data.val), test=part(data.test)
    )


def _budget(data: Data, counts: tuple[int, int], draw: int) -> Data:
    """`limit_labels` to so many normal and defective tiles, 0 or at least 2 of each."""
    normal, defective = (max(count, 2) for count in counts)
    limited = limit_labels(data, defective, normal, draw)

    def part(dataset: Any) -> SelectedDataset:
        kept = np.array(counts)[dataset.labels.astype(int)] > 0
        return SelectedDataset(dataset, np.flatnonzero(kept))

    return dataclasses.replace(limited, train=part(limited.train), val=part(limited.val))


def load_confounded(settings: Mapping[str, Any], agreement: float, seed: int) -> Data:
    """Training and validation by the agreement; as test part the balanced tiles, then the unseen.

    All pairs of the test part are of no other part. Equal seeds have equal test parts.
    """
    whole, unseen = (
        datasets.load(
            "deep-pcb", settings["data_root"], settings["image_size"], split="folds",
            designs=designs, seed=seed,
        )
        for designs in (sum(GROUPS, ()), (UNSEEN,))
    )  # fmt: skip
    few, many = round((1 - agreement) * settings["tiles"]), round(agreement * settings["tiles"])
    halves = [
        _budget(_of(whole, designs), counts, seed)
        for designs, counts in zip(groups_of(seed), ((few, many), (many, few)), strict=True)
    ]
    tests = [_of(whole, designs).test for designs in groups_of(seed)] + [unseen.test]
    size = settings["test_tiles"]
    parts: dict[str, Any] = {
        "train": JoinedDataset(*(half.train for half in halves)),
        "val": JoinedDataset(*(half.val for half in halves)),
        "test": JoinedDataset(*(_even(test, size, seed) for test in tests)),
    }
    rule = f"{unseen.fingerprint}, {agreement:g} {settings['tiles']} {size} {seed}"
    return dataclasses.replace(
        whole,
        **parts,
        fingerprint=f"{whole.fingerprint}, {rule}",
        counts={name: counts_of(part) for name, part in parts.items()},
    )


def _even(test: Any, count: int, draw: int) -> SelectedDataset:
    """`count` normal and `count` defective tiles, at random.

    Raises:
        ValueError: there are fewer.
    """
    rng = np.random.default_rng(draw)
    rows = [rng.permutation(np.flatnonzero(test.labels == kind)) for kind in (False, True)]
    if min(map(len, rows)) < count:
        raise ValueError(
            f"test_tiles: expected at most {min(map(len, rows))}, the test tiles of one state of "
            f"{', '.join(sorted(set(test.designs)))}; got {count}"
        )
    return SelectedDataset(test, np.sort(np.concatenate([kept[:count] for kept in rows])))


def tests_of(images: pd.DataFrame, seed: int) -> dict[str, NDArray[np.bool_]]:
    """By test set, the rows of the table of scores that belong to it."""
    design = images["group"].str.partition("/")[0]
    bad = images["is_defective"].to_numpy(bool)
    of_defects, of_normals = (design.isin(group).to_numpy() for group in groups_of(seed))
    return {
        AS_IN_TRAINING: np.where(bad, of_defects, of_normals),
        BALANCED: of_defects | of_normals,
        REVERSED: np.where(bad, of_normals, of_defects),
        NEW: (design == UNSEEN).to_numpy(),
    }


def figures_of(images: pd.DataFrame, seed: int) -> Iterator[dict[str, Any]]:
    """Figures of one run from its scores with a column `twin_is_normal`.

    By test set `auroc`, `recall_at_fpr05`, `false_alarm_rate` at the stored threshold, `flip_rate`
    (of the defects found, the share whose verdict becomes normal with the twin) and the measures of
    every map, means over defective tiles.
    """
    bad, flagged = (images[name].to_numpy(bool) for name in ("is_defective", "is_flagged"))
    score_ = images["defect_probability"].to_numpy(float)
    normal = images["twin_is_normal"].to_numpy(float)
    of_maps = [name for name in images if name.partition(".")[2] in MAP_MEASURES]
    for test, kept in tests_of(images, seed).items():
        hits = kept & bad & flagged
        yield figure("auroc", metrics.auroc(score_[kept], bad[kept]), boards=test)
        recall = metrics.recall_at_fpr(score_[kept], bad[kept], 0.05)
        yield figure("recall_at_fpr05", recall, boards=test)
        yield figure("false_alarm_rate", flagged[kept & ~bad].mean(), boards=test)
        share = normal[hits].mean() if hits.any() else np.nan
        yield figure("flip_rate", share, n=int(hits.sum()), boards=test)
        for name in of_maps if test in (BALANCED, NEW) else ():
            place, _, measure = name.partition(".")
            if place != "oracle":
                yield figure(measure, images.loc[kept & bad, name].mean(), place, boards=test)


def train_and_measure(settings: Mapping[str, Any], cell: Cell) -> dict[str, Any]:
    """The content of a cell's file: one system, trained at one agreement."""
    started, commit = time.process_time(), git_commit()
    seed, system = cell["seed"], BY_TAG[cell["system"]]
    data = load_confounded(settings, cell["agreement"], seed)
    torch.manual_seed(seed)
    model = build(system, settings["backbone"], find_weights(settings["weights"]))
    recipe = {"batch_size": settings["batch_size"], **dict(system.changes)}
    fit(model, data, settings["epochs"], accelerator="cpu", seed=seed, progress=False, **recipe)
    images = score(model, data.test).images
    images["twin_is_normal"] = twin_is_normal(model, batches(data.test, 32))
    return {
        "settings": portable(settings),
        "figures": list(figures_of(images, seed)),
        "fingerprint": data.fingerprint,
        "commit": commit,
        "seconds": time.process_time() - started,
    }


LOSS = "auroc_loss"
"""AUROC on the balanced tiles at the control minus that at another agreement, seed by seed."""
KEPT = "half_kept"
"""Half of `PLAIN`'s `LOSS` minus a system's own, seed by seed: above 0 if it keeps at least half of
what `PLAIN` loses."""


def loss_rows(
    study: SeedStudy, cells: Sequence[Cell], contents: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Rows `LOSS` of every system and `KEPT` of all but `PLAIN`, on the balanced tiles."""
    found: dict[tuple[str, float], dict[int, float]] = {}
    for cell, content in zip(cells, contents, strict=True):
        for one in study.figures(content):
            if one["metric"] == "auroc" and one["condition"]["boards"] == BALANCED:
                place = cell["system"], cell["agreement"]
                found.setdefault(place, {})[cell["seed"]] = one["value"]

    def lost(tag: str, agreement: float) -> dict[int, float]:
        control, values = (found.get((tag, at), {}) for at in (CONTROL, agreement))
        return {seed: control[seed] - values[seed] for seed in sorted({*control} & {*values})}

    rows = []
    for tag, agreement in found:
        own, plain = lost(tag, agreement), lost(PLAIN.tag, agreement)
        half = {seed: value / 2 for seed, value in plain.items()}
        name, condition = study.subject(Cell((("system", tag), ("agreement", agreement))))
        gaps = {LOSS: student_interval(list(own.values()))}
        if tag != PLAIN.tag:
            gaps[KEPT] = difference_by_seed(half, own)
        rows += [
            row(study.dataset, name, metric, gap.value, condition=condition, **gap.ends)
            for metric, gap in gaps.items()
            if agreement != CONTROL and gap.n
        ]
    return rows


def subject(cell: Cell) -> tuple[str, dict[str, Any]]:
    """System name and condition of a cell's rows."""
    system = BY_TAG[cell["system"]]
    return system.name, {**system.condition, "agreement": cell["agreement"]}
