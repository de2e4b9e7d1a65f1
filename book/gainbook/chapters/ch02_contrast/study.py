"""Chapter 02, classifier or detector: claims B1 and B4, one study per data set and arm of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gainbook.chapters.ch02_contrast import fine_tuned, frozen
from gainbook.chapters.ch02_contrast.criteria import (
    fine_anomalies,
    necessary,
    necessary_beside,
)
from gainbook.chapters.ch02_contrast.crossing import ARMS, BANK
from gainbook.chapters.ch02_contrast.draws import BOARDS, FOLDS, TILES
from gainbook.lab.catalogue import TEXTBOOK
from gainbook.lab.results_file import stored_results
from gainbook.lab.seed_study import Cell, SeedStudy
from gainbook.lab.study import Claim, Headline

NOTEBOOK = "02_classifier_or_detector"
DRAWS = 5
HEADLINE = Headline(
    {"AUROC": ("auroc", None, {}), "recall": ("recall", None, {})},
    varied=("defects", "dropout"),
    only={"defects": (0, 5, 25)},
)


def _about(given: Mapping[str, Any]) -> str:
    return (
        f"{given['normal']} normal training images and {given['val']} of validation at most, "
        f"{given['image_size']} px, {given['backbone']}"
    )


def _study(
    name: str, dataset: str, title: str,
    measure: Callable[[Mapping[str, Any], Cell], dict[str, Any]], *claims: Claim,
) -> SeedStudy:  # fmt: skip
    return SeedStudy(
        name=name,
        notebook=NOTEBOOK,
        title=title,
        axes={"arm": [arm.tag for arm in ARMS], "seed": range(DRAWS)},
        train_and_measure=measure,
        subject=lambda cell: (cell["arm"], {}),
        file=lambda cell: f"{cell['arm']}/draw{cell['seed']}.json",
        settings=frozen.SETTINGS[dataset],
        unbounded=("pixels",),
        dataset=dataset,
        blocks=FOLDS,
        folder=f"runs/contrast/{name[3:]}",
        headline=HEADLINE,
        claims=(Claim("B1", necessary), *claims),
        about=_about,
    )


BOARD_STUDY = _study(
    "02_boards", BOARDS, "Circuit boards, frozen features", frozen.measure_boards,
    Claim("B4", fine_anomalies),
)  # fmt: skip
TILE_STUDY = _study("02_tiles", TILES, "Magnetic tiles, frozen features", frozen.measure_tiles)


def bank_rows(
    study: SeedStudy, cells: Sequence[Cell], contents: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The memory bank's rows of the same draws, from the stored study with frozen features."""
    file = stored_results(BOARD_STUDY.name)
    if file is None:
        return []
    stored = file.rows
    draws, counts = ({cell[axis] for cell in cells} for axis in ("seed", "defects"))
    near = stored[(stored["system"] == BANK.name) & stored["seed"].isin(draws)]
    return [
        row
        for row in near.to_dict("records")
        if set(row["condition"]) == {"defects"} and row["condition"]["defects"] in counts
    ]


FINE_TUNED = SeedStudy(
    name="02_fine_tuned",
    notebook=NOTEBOOK,
    title="Circuit boards, fine-tuned classifiers",
    axes={
        "system": [s.tag for s in fine_tuned.SYSTEMS],
        "defects": fine_tuned.COUNTS,
        "seed": range(fine_tuned.DRAWS),
    },
    train_and_measure=fine_tuned.train_and_measure,
    subject=lambda cell: (
        fine_tuned.BY_TAG[cell["system"]].name,
        {**fine_tuned.BY_TAG[cell["system"]].condition, "defects": cell["defects"]},
    ),
    file=lambda cell: f"{cell['system']}/{cell['defects']}/draw{cell['seed']}.json",
    settings=fine_tuned.SETTINGS,
    dataset=BOARDS,
    blocks=FOLDS,
    systems=fine_tuned.SYSTEMS,
    folder="runs/contrast/fine_tuned",
    headline=HEADLINE,
    claims=(Claim("B1", necessary_beside(TEXTBOOK)),),
    more=bank_rows,
    about=lambda given: f"{_about(given)}, {given['epochs']} epochs",
)
STUDIES = (BOARD_STUDY, TILE_STUDY, FINE_TUNED)
