"""The textbook fine-tune as a rung of the ladder: tiles, and boards with thousands of defects.

`tools/training_matrix.py` trains these runs and writes their rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import pandas as pd

from gainbook.lab import tables
from gainbook.lab.catalogue import S1_COARSE, S5, TEXTBOOK
from gainbook.lab.results_file import ResultsFile, stored_results
from gainbook.lab.study import VERDICTS, Headline, Study
from gainbook.lab.tables import Column

TILES, BOARDS, SECOND = "10_tiles", "10_boards", "10_tiles_mobilenetv2"
SETS = {
    TILES: "magnetic tiles",
    BOARDS: "board tiles",
    SECOND: "magnetic tiles, another backbone",
}
"""Results files, and what they are about."""
SYSTEMS = (TEXTBOOK, S1_COARSE, S5)
ARGUMENTS = {
    TILES: (
        "--data magnetic-tile --backbones tf_efficientnet_lite0 --folds 5 --epochs 10 "
        "--image-size 192"
    ),
    BOARDS: (
        "--data deep-pcb --backbones tf_efficientnet_lite0 --seeds 0 1 2 --tiles 500 "
        "--test-tiles 2000 --epochs 8"
    ),
    SECOND: "--data magnetic-tile --backbones mobilenetv2_100 --folds 5 --epochs 10",
}
PAIRS = ((S5, TEXTBOOK), (S5, S1_COARSE), (S1_COARSE, TEXTBOOK))
FIGURES: dict[str, Column] = {
    **VERDICTS,
    "IoU of the defect map": ("iou", "defect_map", {}),
    "PointGame": ("point_game", "defect_map", {}),
    "Energy-Inside": ("energy_inside", "defect_map", {}),
}


class Curve(NamedTuple):
    """The validation AUROC after each epoch."""

    best: float
    epoch: int
    """Of the best."""
    last: float
    epochs: int


def stored() -> dict[str, ResultsFile]:
    """The committed results by name; without those that were not run."""
    found = {name: stored_results(name) for name in SETS}
    return {name: file for name, file in found.items() if file is not None}


def table(file: ResultsFile) -> str:
    """Verdict and map of the systems, and their paired differences."""
    each = tables.system_table(file.rows, SYSTEMS, FIGURES, digits=3)
    return f"{each}\n\n{tables.pair_table(file.rows, PAIRS, FIGURES, digits=3)}"


def curve(rows: pd.DataFrame, system: str) -> Curve:
    """The curve of a system, the mean over its folds and seeds; the first of equal bests."""
    own = rows[(rows["metric"] == "validation_auroc") & (rows["system"] == system)]
    values = {condition["epoch"]: value for condition, value in own[["condition", "value"]].values}
    best = max(values, key=lambda epoch: (values[epoch], -epoch))
    return Curve(values[best], best, values[max(values)], max(values))


def decay_text(file: ResultsFile) -> str:
    """How far the last epoch is from the best one, in a sentence."""
    words = []
    for system in SYSTEMS:
        found = curve(file.rows, system.name)
        words.append(
            f"{system.label} {found.last:.3f} after the last of {found.epochs} epochs, "
            f"{found.best:.3f} at its best (epoch {found.epoch})"
        )
    return f"Validation AUROC, the mean over runs: {'; '.join(words)}."


def about(file: ResultsFile) -> str:
    """Size of the runs, in words."""
    p = file.parameters
    tiles = f"{p['tiles']} defective and as many normal training tiles, " if p["tiles"] else ""
    folds = f"{p['folds']} folds" if p["folds"] > 1 else f"{len(p['seeds'])} seeds"
    return f"{tiles}{folds}, {p['image_size']} px, {p['epochs']} epochs, {p['backbone']}"


def gap_text(file: ResultsFile) -> str:
    """S5 beside the textbook fine-tune, in a sentence."""
    rows, words = file.rows, []
    for name, (metric, _, _) in VERDICTS.items():
        own, other = (tables.find(rows, system, metric) for system in (S5, TEXTBOOK))
        gap = tables.find(rows, S5, f"{metric}_difference", **TEXTBOOK.as_other)
        words.append(
            f"{name} {own.text(3)} against {other.text(3)}, difference {gap.text(3, True)}"
        )
    return f"S5 against the textbook fine-tune: {'; '.join(words)}."


def end_text(file: ResultsFile) -> str:
    """How far S5's last epoch is from its best one, in a sentence."""
    found = curve(file.rows, S5.name)
    return (
        f"S5's validation AUROC ends at {found.last:.3f}; its best epoch, {found.epoch} of "
        f"{found.epochs}, has {found.best:.3f}."
    )


def answer(files: Mapping[str, ResultsFile]) -> str:
    """`gap_text` and `end_text` of the main backbone's runs on both sets, as a list."""
    main = {name: files[name] for name in (TILES, BOARDS) if name in files}
    if not main:
        return "These runs have not been made yet; *Reproduce everything* has their commands."
    lines = [
        f"- **{SETS[name]}** ({about(file)}): {gap_text(file)} {end_text(file)}"
        for name, file in main.items()
    ]
    return "\n".join(lines)


STUDIES = tuple(
    Study(
        name=name,
        notebook="10_ablation",
        title=f"Beside a textbook fine-tune: {words}",
        systems=SYSTEMS,
        made_by=(
            "python tools/training_matrix.py --data-root path/to/data --weights path/to/weights "
            f"{ARGUMENTS[name]} --systems textbook S1 S5 --results book/results/{name}.json"
        ),
        headline=Headline(FIGURES, systems=SYSTEMS),
    )
    for name, words in SETS.items()
)
