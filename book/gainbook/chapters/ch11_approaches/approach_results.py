"""The six approaches on real parts: verdict, place, faithfulness, probability, labels and cost."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch.utils.data import Dataset

from gainbook.chapters.ch11_approaches.marked_area import ask_about_maps
from gainbook.chapters.ch11_approaches.marked_area_rows import (
    marked_area_differences,
    marked_area_rows,
)
from gainbook.lab.chapter_results import Results, merge, results
from gainbook.lab.cost import operations, side_by_side, used_parameters
from gainbook.lab.folds import facts_of, kept_answers, name_of
from gainbook.lab.parameters import Parameters
from gainbook.lab.protocol import Pooled
from gainbook.lab.reference import System, build, load_fold
from gainbook.lab.results_file import row
from gainmtl import metrics
from gainmtl.baselines.boxes import mask_boxes
from gainmtl.baselines.calibration import logits_of, platt
from gainmtl.evaluation.scoring import defect_scores
from gainmtl.evaluation.stats import bootstrap_interval
from gainmtl.interface import Inspector
from gainmtl.io import load_any
from gainmtl.types import Batch, Sample


class Labels(NamedTuple):
    """What somebody had to draw in a training set."""

    images: int
    defective: int
    boxes: int
    """One per connected piece of a mask."""
    outline: float
    """Pixels on the border of the masks, per defective image with a mask."""


def count_labels(dataset: Dataset[Sample]) -> Labels:
    """Labels, boxes and outlines of a training set that has masks."""
    known: Any = dataset
    boxes, outline, marked = 0, 0, 0
    chosen = np.flatnonzero(known.labels & known.has_mask)
    for index in chosen:
        mask = dataset[int(index)].mask
        boxes += len(mask_boxes(mask))
        inner = -torch.nn.functional.max_pool2d(-mask[None], 3, stride=1, padding=1)[0]
        outline += int((mask - inner).sum())
        marked += 1
    return Labels(len(known.labels), int(np.sum(known.labels)), boxes, outline / max(marked, 1))


def cost_rows(
    systems: Sequence[System],
    backbone: str,
    size: int,
    dataset: str,
    repeats: int = 5,
    batch_size: int = 8,
) -> list[dict[str, Any]]:
    """Rows of what systems cost on this machine's processor, whatever their weights are.

    `parameters` that a prediction uses, `gigaflops` of one image, `milliseconds` of one image
    alone, `training_milliseconds` of an image in a step of a batch, heads and all loss terms on.
    """
    models = {
        s.tag: build(s, backbone, None).to(memory_format=torch.channels_last).eval()
        for s in systems
    }
    image = torch.rand(1, 3, size, size).contiguous(memory_format=torch.channels_last)
    mask = torch.zeros(batch_size, 1, size, size)
    mask[: batch_size // 2, :, size // 4 : size // 2, size // 4 : size // 2] = 1
    defective = torch.arange(batch_size) < batch_size // 2
    words = ("synthetic",) * batch_size
    images = image.expand(batch_size, -1, -1, -1).contiguous(memory_format=torch.channels_last)
    known = torch.ones(batch_size, dtype=torch.bool)
    batch = Batch(images, defective, mask, known, words, words, words)

    def predict(model: Inspector) -> None:
        with torch.no_grad():
            model(image)

    def learn(model: Inspector) -> None:
        model.zero_grad()
        torch.stack(list(model.training_step(batch).values())).sum().backward()

    ask = {tag: functools.partial(predict, model) for tag, model in models.items()}
    counts = {tag: used_parameters(model, ask[tag]) for tag, model in models.items()}
    flops = {tag: operations(step) for tag, step in ask.items()}
    alone = side_by_side(ask, repeats)
    for model in models.values():
        model.train()
    teach = {tag: functools.partial(learn, model) for tag, model in models.items()}
    steps = side_by_side(teach, max(2, repeats // 2))
    rows = []
    for system in systems:
        found = {
            "parameters": counts[system.tag],
            "gigaflops": flops[system.tag] / 1e9,
            "milliseconds": 1e3 * float(np.median(alone[system.tag])),
            "training_milliseconds": 1e3 * float(np.median(steps[system.tag])) / batch_size,
        }
        for metric, value in found.items():
            condition = {**system.condition, "backbone": backbone, "image_size": size}
            rows.append(row(dataset, system.name, metric, value, condition=condition))
    return rows


def recalibrated(pooled: Pooled, validation: Mapping[int, tuple[Any, Any]]) -> pd.DataFrame:
    """`pooled`'s images with a column `recalibrated`: Platt's two numbers, from validation.

    `validation` by fold: defect probabilities and labels of that fold's validation part.
    """
    parts = []
    for fold, scores in enumerate(pooled.folds):
        line = platt(logits_of(validation[fold][0]), validation[fold][1])
        own = logits_of(scores.images["defect_probability"])
        parts.append(scores.images.assign(recalibrated=line(own)))
    return pd.concat(parts, ignore_index=True)


def calibration_rows(
    images: pd.DataFrame, dataset: str, system: System, resamples: int = 1000
) -> list[dict[str, Any]]:
    """Rows `ece_platt`: the calibration error after Platt's two numbers, of every system alike.

    `ece` of the result rows is that of the probability as the system gives it, which for a system
    of places has been through them already.
    """
    found = bootstrap_interval(
        metrics.expected_calibration_error,
        images["group"],
        images["recalibrated"].to_numpy(),
        images["is_defective"].to_numpy(bool),
        resamples=resamples,
    )
    about: dict[str, Any] = {"condition": system.condition}
    return [row(dataset, system.name, "ece_platt", found.value, **about, **found.ends)]


def _load_all(paths: Mapping[str, Path]) -> dict[str, Any]:
    return {name: load_any(path) for name, path in paths.items()}


def _validation(model: Inspector, val: Dataset[Sample]) -> pd.DataFrame:
    said, labels = defect_scores(model, val)
    return pd.DataFrame({"defect_probability": said, "is_defective": labels})


def ask_folds(
    parameters: Parameters, pooled: Mapping[str, Sequence[Pooled]], road: int
) -> tuple[dict[str, pd.DataFrame], dict[str, list[pd.DataFrame]]]:
    """Every fold's models asked about their maps and their validation part.

    By system: the answers of `ask_about_maps`, all folds and seeds together; and the images with
    their recalibrated probability, one table per seed.
    """
    p = parameters
    answers: dict[str, list[pd.DataFrame]] = {name: [] for name in pooled}
    images: dict[str, list[pd.DataFrame]] = {name: [] for name in pooled}
    for place, seed in enumerate(p.seeds):
        data_of = load_fold(p, seed)
        validation: dict[str, dict[int, tuple[Any, Any]]] = {name: {} for name in pooled}
        for fold in range(p.folds):
            data = data_of(fold)
            paths = {name: runs[place].model_paths[fold] for name, runs in pooled.items()}
            # Loaded once, and only where an answer is missing.
            models = functools.cache(functools.partial(_load_all, paths))

            def ask(models: Any = models, test: Any = data.test, seed: int = seed) -> Any:
                return ask_about_maps(models(), test, road, seed=seed)

            def ask_validation(models: Any = models, val: Any = data.val) -> Any:
                return {name: _validation(model, val) for name, model in models().items()}

            facts = facts_of(data, fold)
            about = facts | {"question": name_of(ask_about_maps), "road": road, "seed": seed}
            for name, table in kept_answers(p.output_dir, paths, about, ask).items():
                if len(p.seeds) > 1:
                    table["name"] += f", seed {seed}"
                answers[name].append(table)
            about = facts | {"question": name_of(_validation)}
            for name, table in kept_answers(p.output_dir, paths, about, ask_validation).items():
                said = table["defect_probability"].to_numpy(), table["is_defective"].to_numpy()
                validation[name][fold] = said
        for name, runs in pooled.items():
            images[name].append(recalibrated(runs[place], validation[name]))
    return (
        {name: pd.concat(tables, ignore_index=True) for name, tables in answers.items()},
        images,
    )


def approach_results(
    parameters: Parameters,
    systems: Sequence[System],
    standards: Sequence[System],
    road: int = 16,
) -> Results:
    """`findings.results` of the six with all that this chapter measures beside it.

    Every system is compared with every one of `standards`, on the same images. The folds are read,
    or trained where they are not there; with `dataset="synthetic"` the reference results are read.
    """
    p = parameters
    pairs = [(a, b) for b in standards for a in systems if a is not b]
    found = results(p, systems, pairs)
    if not found.pooled or found.rows is None:
        return found
    answers, images = ask_folds(p, found.pooled, road)
    rows = cost_rows(systems, p.backbone, p.image_size, p.dataset)
    for system in systems:
        rows += marked_area_rows(answers[system.tag], p.dataset, system)
        table = pd.concat(images[system.tag], ignore_index=True)
        rows += calibration_rows(table, p.dataset, system)
        total = merge(found.pooled[system.tag], p.seeds).seconds
        rows.append(
            row(p.dataset, system.name, "seconds", total, condition=system.condition, split="train")
        )
    for a, b in pairs:
        rows += marked_area_differences(answers[a.tag], answers[b.tag], p.dataset, a, b)
    labels = count_labels(load_fold(p, p.seeds[0])(0).train)
    for name, value in labels._asdict().items():
        about: dict[str, Any] = {"split": "train", "condition": {"labels": name}}
        rows.append(row(p.dataset, "all", "labels", value, **about))
    table = pd.concat([_kept(found.rows), pd.DataFrame(rows)], ignore_index=True)
    return found._replace(rows=table)


def _kept(rows: pd.DataFrame) -> pd.DataFrame:
    """What the file keeps: of a type a fold tests a handful of images, and nobody reads an oracle
    of less than the whole."""
    typed = rows["condition"].map(lambda condition: "defect_type" in condition)
    oracle = rows["condition"].map(lambda condition: "oracle" in condition)
    return rows[(rows["fold"].isna() | ~(typed | oracle)) & ~(typed & oracle)]
