"""The study of chapter 15: the verdict by the number of labelled tiles, with and without masks."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch

from gainbook.chapters.ch15_own_data.own_data import epochs_for
from gainbook.lab.catalogue import PLAIN, S5, SUPERVISION_ALONE, TEXTBOOK, UNET
from gainbook.lab.results_file import git_commit, portable
from gainbook.lab.run_system import build, find_weights
from gainbook.lab.seed_study import Cell, SeedStudy, against_systems, first_above, scored_figures
from gainbook.lab.study import Headline
from gainbook.lab.systems import System
from gainbook.lab.tables import Column, cell, find_or_nan, markdown, system_table
from gainmtl import datasets
from gainmtl.interface import DefectModel
from gainmtl.training.fitting import fit

LABELS = (10, 30, 100, 300)
"""Defective tiles with a label, for training and validation together, and as many normal ones."""
SHOWN = 30
"""The number of `LABELS` that the sentences are about."""
SYSTEMS = (
    TEXTBOOK,
    PLAIN._replace(label="S1, labels alone"),
    SUPERVISION_ALONE._replace(label="S2, masks for the map"),
    UNET._replace(label="U-Net, masks"),
    S5._replace(label="S5, masks"),
)
"""The first two learn from labels alone, the others from masks too."""
BY_TAG = {system.tag: system for system in SYSTEMS}
SETTINGS: dict[str, Any] = {
    "data_root": "deep-pcb",
    "image_size": 128,
    "test_tiles": 1000,
    "backbone": "tf_efficientnet_lite0",
    "weights": "package",
    "batch_size": 8,
}
MEASURED = ("auroc", "recall_at_fpr05", "recall", "accuracy", "iou", "point_game", "energy_inside")


def trained(
    settings: Mapping[str, Any], place: Cell, **recipe: Any
) -> tuple[DefectModel, datasets.Data]:
    """One system after chapter 15's default training on one draw of tiles, and the tiles.

    The draws' test tiles are of pairs that no draw trains on. `recipe` changes the training.
    """
    draw, labels = place["seed"], place["labels"]
    system = BY_TAG[place["system"]]
    data = datasets.load(
        "deep-pcb", settings["data_root"], image_size=settings["image_size"], split="folds",
        defective=labels, normal=labels, test_tiles=settings["test_tiles"], draw=draw,
    )  # fmt: skip
    torch.manual_seed(draw)
    model = build(system, settings["backbone"], find_weights(settings["weights"]))
    recipe = {"batch_size": settings["batch_size"], **dict(system.changes), **recipe}
    epochs = epochs_for(2 * labels)
    fit(model, data, epochs, accelerator="cpu", seed=draw, progress=False, **recipe)
    return model, data


def train_and_measure(settings: Mapping[str, Any], place: Cell) -> dict[str, Any]:
    """Train one system on one draw of tiles: the content of its file."""
    started, commit = time.process_time(), git_commit()
    model, data = trained(settings, place)
    return {
        "settings": portable(settings),
        "figures": scored_figures(model, data.test, "deep-pcb", MEASURED),
        "fingerprint": data.fingerprint,
        "commit": commit,
        "seconds": time.process_time() - started,
    }


def by_draw(rows: pd.DataFrame, system: System) -> dict[int, dict[int, float]]:
    """The AUROC of single runs: by draw, by number of labels."""
    single = rows[rows["seed"].notna() & (rows["system"] == system.name)]
    single = single[single["metric"] == "auroc"]
    found: dict[int, dict[int, float]] = {}
    for line in single.to_dict("records"):
        found.setdefault(int(line["seed"]), {})[line["condition"]["labels"]] = line["value"]
    return found


WITHOUT_MASKS = {
    TEXTBOOK: "the textbook fine-tune",
    PLAIN: "S1, with the grid and the recipe of S5 but without masks,",
}
"""In words."""
STEPS = (
    (S5, TEXTBOOK, "S5 minus the textbook fine-tune"),
    (PLAIN, TEXTBOOK, "of it, grid and recipe (S1 minus the textbook fine-tune)"),
    (S5, PLAIN, "of it, masks and the terms that use them (S5 minus S1)"),
    (S5, SUPERVISION_ALONE, "S5 minus S2, which has masks for its map only"),
    (S5, UNET, "S5 minus a U-Net, which has the masks too"),
)
"""Pairs and their words."""


def worth_text(rows: pd.DataFrame) -> str:
    """How many labels the systems without masks need for S5's AUROC at `SHOWN`, a sentence each."""
    masked, texts = by_draw(rows, S5), []
    for system, words in WITHOUT_MASKS.items():
        plain = by_draw(rows, system)
        longest = max(map(len, plain.values()), default=0)
        draws = [draw for draw in sorted(masked) if SHOWN in masked[draw]]
        draws = [draw for draw in draws if len(plain.get(draw, ())) == longest > 0]
        if not draws:
            continue
        needed = [first_above(plain[draw], masked[draw][SHOWN]) for draw in draws]
        least, most = min(map(min, plain.values())), max(map(max, plain.values()))
        short, middle = sum(map(math.isinf, needed)), float(np.median(needed))
        many = f"about {middle:.0f}" if middle > least else f"at most {least}"
        many = f"more than {most}" if math.isinf(middle) else many
        where = f"all {short}" if short == len(draws) else f"{short}"
        draw_words = f"median of {len(draws)} draws, interpolated"
        if short:
            draw_words += f"; in {where} of them {most} are not enough"
        texts.append(f"{words} needs **{many}** defective tiles ({draw_words})")
    if not texts:
        return ""
    return (
        f"To reach the AUROC of S5 with {SHOWN} defective tiles and their masks, "
        f"{'; '.join(texts)}."
    )


def gain_text(rows: pd.DataFrame) -> str:
    """S5 with masks at `SHOWN` labels in a sentence, and the `STEPS` to it as a list."""
    metrics = {"AUROC": "auroc", "recall at 5 % false alarms": "recall_at_fpr05"}
    own = [
        f"{words} **{find_or_nan(rows, S5, metric, labels=SHOWN).text(3)}**"
        for words, metric in metrics.items()
    ]
    lines = []
    for one, other, words in STEPS:
        gaps = [
            find_or_nan(rows, one, f"{metric}_difference", labels=SHOWN, **other.as_other)
            for metric in metrics.values()
        ]
        if not any(math.isnan(gap.value) for gap in gaps):
            lines.append(f"- {words}: {' and '.join(gap.text(3, True) for gap in gaps)}")
    if not lines or any("undefined" in words for words in own):
        return ""
    return (
        f"With {SHOWN} defective and {SHOWN} normal tiles, S5 with masks reaches "
        f"{' and '.join(own)}. Differences in AUROC and in recall:\n\n" + "\n".join(lines) + "\n"
    )


def budget_table(rows: pd.DataFrame) -> str:
    """The AUROC by system and number of labels, the mean over the draws; only what was run."""
    frame = budget_frame(rows)
    labels = [n for n in LABELS if n in set(frame["x"])]
    lines = [
        [system.label, *(cell(rows, system, "auroc", None, 3, labels=n) for n in labels)]
        for system in SYSTEMS
        if system.label in set(frame["series"])
    ]
    return markdown(["defective tiles", *map(str, labels)], lines)


PLACES: dict[str, Column] = {
    "recall at 5 % false alarms": ("recall_at_fpr05", None, {}),
    "IoU of the defect map": ("iou", "defect_map", {}),
    "PointGame": ("point_game", "defect_map", {}),
}
"""Columns of `places_text`."""


def places_text(rows: pd.DataFrame) -> str:
    """Recall and place of the map at `SHOWN` labels, and what the masks change, in a sentence."""
    found = {
        words: find_or_nan(rows, S5, f"{metric}_difference", map, labels=SHOWN, **PLAIN.as_other)
        for words, (metric, map, _) in PLACES.items()
    }
    if any(math.isnan(value.value) for value in found.values()):
        return ""
    table = system_table(rows, SYSTEMS, PLACES, f"{SHOWN} defective tiles", labels=SHOWN)
    by_system = {
        system: [curve[SHOWN] for curve in by_draw(rows, system).values() if SHOWN in curve]
        for system in (PLAIN, S5)
    }
    (least, most), (own_least, own_most) = ((min(v), max(v)) for v in by_system.values())
    gaps = "; ".join(f"{words} {value.text(2, True)}" for words, value in found.items())
    return (
        f"{table}\n\nWhat to notice: over the draws S1's AUROC is between {least:.3f} and "
        f"{most:.3f}, S5's between {own_least:.3f} and {own_most:.3f}. S5 minus S1: {gaps}."
    )


def budget_frame(rows: pd.DataFrame) -> pd.DataFrame:
    """The same for `plots.curves`: columns `series`, `x`, `value`, `ci_low`, `ci_high`."""
    lines = []
    for system in SYSTEMS:
        for labels in LABELS:
            value = find_or_nan(rows, system, "auroc", labels=labels)
            if not math.isnan(value.value):
                lines.append((system.label, labels, value.value, value.low, value.high))
    return pd.DataFrame(lines, columns=["series", "x", "value", "ci_low", "ci_high"])


def _subject(place: Cell) -> tuple[str, dict[str, Any]]:
    system = BY_TAG[place["system"]]
    return system.name, {**system.condition, "labels": place["labels"]}


STUDY = SeedStudy(
    name="15_label_budget",
    notebook="15_your_own_data",
    title="What a mask is worth in labels",
    axes={"system": [s.tag for s in SYSTEMS], "labels": LABELS, "seed": range(5)},
    train_and_measure=train_and_measure,
    subject=_subject,
    file=lambda place: f"{place['system']}/{place['labels']}/draw{place['seed']}.json",
    settings=SETTINGS,
    against=against_systems(SYSTEMS),
    dataset="deep-pcb",
    systems=SYSTEMS,
    folder="runs/budget",
    headline=Headline(
        {
            "AUROC": ("auroc", None, {}),
            "recall at 5 % false alarms": ("recall_at_fpr05", None, {}),
            "IoU of the defect map": ("iou", "defect_map", {}),
        },
        varied=("labels", "dropout"),
    ),
    about=lambda given: (
        f"{given['test_tiles']} test tiles of {given['image_size']} px for each, "
        f"{given['backbone']}, epochs by chapter 15's rule"
    ),
)  # fmt: skip
