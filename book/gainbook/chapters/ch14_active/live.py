"""The notebook's own runs: a small comparison in front of the reader, or a round on own images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from gainbook.chapters.ch14_active.loop import (
    Plan,
    Problem,
    candidates,
    first_rows,
    run,
    train,
    unlabelled,
)
from gainbook.chapters.ch14_active.methods import METHODS, WITHOUT_MASKS
from gainbook.chapters.ch14_active.own_labels import Labels, add_batch, read_labels
from gainbook.chapters.ch14_active.own_page import listing, sentences
from gainbook.chapters.ch14_active.own_round import (
    Images,
    Round,
    encode_images,
    find_images,
    play_round,
    views_of,
)
from gainbook.chapters.ch14_active.summary import CURVES
from gainbook.chapters.ch14_active.tasks import (
    SETTINGS,
    Setting,
    Split,
    encode_split,
    feature_folder,
    split_of,
    synthetic,
)
from gainbook.lab.parameters import Parameters, Rule, refuse_together
from gainbook.lab.results_file import row
from gainbook.lab.run_system import find_weights
from gainmtl.backbone import Backbone
from gainmtl.files import atomic_path

UNIT = 5
"""Size of the live pool: 5, 10 and 35 parts of a class."""
LIVE = Setting(first=2, batch=20, rounds=5)
LIVE_METHODS = ("class_balanced", "margin", "activation")
SHOWN, SHOWN_METHODS = 6, ("margin", "activation")
"""Pictures of chosen images per method and round, and their methods."""
SCORED = 3
"""Pictures with the lowest scores, and with the highest."""
OWN_BUDGET, LEAST_IMAGES = 20, 4

RULES: dict[str, Any] = {
    "labels": Rule(str, optional=True),
    "classes": Rule(str, optional=True, many=True),
    "method": list(WITHOUT_MASKS),
    "budget": Rule(int, 1, 100_000),
}
"""The parameters that only this notebook has."""


def check_choices(p: Parameters) -> None:
    """Raise one `ValueError` for parameters that are valid by themselves but not together."""
    problems = []
    if p.dataset not in (*SETTINGS, "folder"):
        problems.append(
            f"dataset: expected synthetic, folder, deep-pcb or magnetic-tile, got {p.dataset!r}"
        )
    if p.dataset == "folder":
        if p.data_root is None:
            problems.append("data_root: the dataset 'folder' needs the folder of your images")
        if p.labels is None:
            problems.append("labels: give the CSV of your labels, -p labels labels.csv; this run "
                            "makes it if it does not exist")  # fmt: skip
    elif p.labels is not None:
        problems.append(
            f"labels: the labels of {p.dataset!r} are known; for your images add -p dataset folder"
        )
    if p.image_size % 32:
        problems.append(f"image_size: expected a multiple of 32, got {p.image_size}")
    refuse_together(p, problems)


class Comparison(NamedTuple):
    """The notebook's small comparison."""

    split: Split
    problem: Problem
    runs: dict[str, list[dict[str, Any]]]
    """Rounds by method, for the first seed."""


def _backbone(p: Parameters) -> Backbone:
    torch.manual_seed(p.seeds[0])  # random weights are drawn
    return Backbone(p.backbone, find_weights(p.weights))


def compare(p: Parameters) -> Comparison:
    """Run `LIVE_METHODS` on a small synthetic set, or on the named set with its own setting."""
    if p.dataset == "synthetic":
        setting, split = LIVE, synthetic(p.image_size, UNIT, p.seeds[0])
    else:
        setting, split = SETTINGS[p.dataset], split_of(p.dataset, p.data_root, p.image_size)
    setting = replace(setting, image_size=p.image_size)
    backbone, out = _backbone(p), Path(p.output_dir)
    folder = feature_folder(out, p.dataset, backbone, p.image_size)
    problem = Problem(split.classes, encode_split(split, backbone, folder), setting)
    runs = {
        name: run(problem, Plan(name), p.seeds[0], out / f"{name}-{p.seeds[0]}.json")
        for name in LIVE_METHODS
    }
    return Comparison(split, problem, runs)


def curve_table(found: Comparison) -> pd.DataFrame:
    """The data of `plots.curves`: macro F1 by method and number of labels."""
    return pd.DataFrame(
        [
            {"series": METHODS[name].label, "x": one["labels"], "value": one["figures"]["macro_f1"]}
            for name, rounds in found.runs.items()
            for one in rounds
        ]
    )


def live_rows(found: Comparison) -> list[dict[str, Any]]:
    """Result rows of the small comparison."""
    return [
        row(found.split.name, name, metric, one["figures"][metric],
            condition={"labels": one["labels"], "live": True})
        for name, rounds in found.runs.items()
        for one in rounds
        for metric in CURVES
    ]  # fmt: skip


class Chosen(NamedTuple):
    """What methods chose in a round, for `montage.pictures` and a slider's frame."""

    pictures: list[list[torch.Tensor]]
    names: list[str]
    """The methods, one per line of pictures."""
    notes: list[list[str]]
    """True classes."""
    caption: str
    alt: str
    value: str


def chosen(found: Comparison) -> list[Chosen]:
    """Per round, the first `SHOWN` images of each of the `SHOWN_METHODS`."""
    pool, classes = found.split.pool, found.split.classes
    rounds = []
    for number in range(1, len(next(iter(found.runs.values())))):
        pictures, notes, texts = [], [], []
        for name in SHOWN_METHODS:
            rows = found.runs[name][number]["rows"]
            kinds = [classes[c].replace("_", " ") for c in pool.labels[rows]]
            pictures.append([pool.dataset[int(i)].image for i in pool.rows[rows[:SHOWN]]])
            notes.append(kinds[:SHOWN])
            texts.append(f"{METHODS[name].label}: {len(rows)} images of {len(set(kinds))} classes")
        words = "; ".join(texts)
        rounds.append(
            Chosen(
                pictures, [METHODS[name].label for name in SHOWN_METHODS], notes,
                f"Round {number}. {words}. Shown are the first {SHOWN} of each.",
                f"Images chosen in round {number}, with their classes. {words}.",
                f"round {number}",
            )
        )  # fmt: skip
    return rounds


class Scored(NamedTuple):
    """Pictures of the pool with the lowest and the highest activation scores."""

    pictures: list[list[torch.Tensor]]
    """Per image: the image, and the positive part of its map divided by its maximum."""
    masks: list[list[torch.Tensor | None]]
    notes: list[list[str]]


def scored(found: Comparison, seed: int) -> Scored:
    """The `SCORED` highest and lowest scores without masks, after the first labels."""
    problem = found.problem
    pool = problem.parts["pool"]
    first = first_rows(pool.labels, len(problem.classes), problem.setting.first, seed)
    head = train(problem, Plan("activation"), first, first[:0])
    free = unlabelled(problem, first)
    seen = candidates(problem, head, first, free, np.random.default_rng(seed))
    maps = np.maximum(seen.maps(), 0)
    top = maps.max((1, 2), keepdims=True)
    maps = maps / np.where(top > 0, top, 1)
    order = np.argsort(-seen.risk)
    names = [name.replace("_", " ") for name in found.split.classes]
    lines = Scored([[], []], [[], []], [[], []])
    for i in [*order[-SCORED:][::-1].tolist(), *order[:SCORED].tolist()]:
        sample = found.split.pool.dataset[int(found.split.pool.rows[free[i]])]
        lines.pictures[0].append(sample.image)
        lines.pictures[1].append(torch.from_numpy(maps[i : i + 1]).float())
        lines.masks[0].append(sample.mask)
        lines.masks[1].append(sample.mask)
        lines.notes[0].append(names[pool.labels[free[i]]])
        lines.notes[1].append(
            f"{1 - seen.risk[i]:.2f}; with mask {1 - seen.risk_with_masks[i]:.2f}"
        )
    return lines


class Own(NamedTuple):
    """A round on own images."""

    images: Images
    labels: Labels
    round: Round
    sentences: list[str]


def play_own(p: Parameters) -> Own:
    """One round on the images of `data_root`: the next batch is added to the file of labels.

    Leaves next_batch.html and, once two classes have a label, predictions.csv in `output_dir`.

    Raises:
        ValueError: fewer than `LEAST_IMAGES` images, or as `read_labels` and `find_images`.
    """
    images, file, out = find_images(p.data_root), Path(p.labels), Path(p.output_dir)
    if len(images.names) < LEAST_IMAGES:
        raise ValueError(
            f"data_root: expected at least {LEAST_IMAGES} images, found {len(images.names)}"
        )
    labels = read_labels(file, images.names, p.classes if p.classes != (None,) else None)
    levels = encode_images(images, _backbone(p), p.image_size, out, views_of(p.method))
    found = play_round(images, labels, levels, p.method, p.budget, p.seeds[0])
    _write(out / "next_batch.html", listing(images, labels, found, file.name))
    if found.predictions is not None:
        _write(out / "predictions.csv", found.predictions.to_csv(index=False))
    if found.batch:  # last, so that a run that fails before leaves the labels as they were
        add_batch(file, found.batch)
    return Own(images, labels, found, sentences(images, labels, found, file.name))


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def own_rows(own: Own) -> list[dict[str, Any]]:
    """Result rows of a round: how many labels there are, and the cross-validated figures."""
    count = len(own.labels.known)
    figures: Mapping[str, float] = {"labels": float(count), **own.round.figures()}
    return [
        row("folder", own.round.used, metric, value, split="labelled",
            condition={"labels": count}, n=count)
        for metric, value in figures.items()
    ]  # fmt: skip
