"""Chapter 02, classifier or detector: claims B1 and B4, one study per data set and arm of it."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from gainbook.chapters.ch02_contrast import fine_tuned, frozen
from gainbook.chapters.ch02_contrast.criteria import (
    fine_anomalies,
    necessary,
    necessary_beside,
    necessary_for_new_types,
)
from gainbook.chapters.ch02_contrast.crossing import ARMS, BANK, EQUAL, TUNED
from gainbook.chapters.ch02_contrast.draws import BOARDS, FOLDS, TILES
from gainbook.chapters.ch02_contrast.figures import FALSE_ALARMS
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
OF_TYPES = Headline(
    {
        f"recall at {FALSE_ALARMS:.0%} false alarms, {words}": (EQUAL, None, {"types": types})
        for words, types in (("types of training", "seen"), ("type left out", "unseen"))
    },
    varied=HEADLINE.varied,
)


def _about(given: Mapping[str, Any]) -> str:
    return (
        f"{given['normal']} normal training images and {given['val']} of validation at most, "
        f"{given['image_size']} px, {given['backbone']}"
    )


def _study(name: str, dataset: str, title: str, *claims: Claim) -> SeedStudy:
    return SeedStudy(
        name=name,
        notebook=NOTEBOOK,
        title=title,
        axes={"arm": [arm.tag for arm in ARMS], "seed": range(DRAWS)},
        train_and_measure=functools.partial(frozen.measure, dataset),
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
    "02_boards", BOARDS, "Circuit boards, frozen features", Claim("B4", fine_anomalies)
)
TILE_STUDY = _study("02_tiles", TILES, "Magnetic tiles, frozen features")


def bank_rows(
    study: SeedStudy, cells: Sequence[Cell], contents: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The memory bank's rows of the same draws, from the stored study with frozen features."""
    file = stored_results(FROZEN[study.dataset].name)
    if file is None:
        return []
    stored, draws = file.rows, {cell["seed"] for cell in cells}
    near = stored[(stored["system"] == BANK.name) & stored["seed"].isin(draws)]
    if "defects" in study.axes:
        wanted: list[dict[str, Any]] = [{"defects": cell["defects"]} for cell in cells]
    else:
        wanted = [{"defects": frozen.TAUGHT, "types": "unseen"}]
    return [row for row in near.to_dict("records") if row["condition"] in wanted]


def _tuned(dataset: str, title: str, types: bool) -> SeedStudy:
    """The study of fine-tuned classifiers on a set: by number of defective parts, or by type."""
    of_tag, counts = fine_tuned.BY_TAG, {} if types else {"defects": fine_tuned.COUNTS[dataset]}
    name = "fine_tuned" + ("_tiles" if dataset == TILES else "") + ("_types" if types else "")
    figures_of = fine_tuned.at_types if types else fine_tuned.at_count
    criterion = necessary_for_new_types if types else necessary_beside
    return SeedStudy(
        name=f"02_{name}",
        notebook=NOTEBOOK,
        title=title,
        axes={"system": list(of_tag), **counts, "seed": range(fine_tuned.DRAWS)},
        train_and_measure=functools.partial(fine_tuned.measure, dataset, figures_of),
        subject=lambda cell: (
            of_tag[cell["system"]].name,
            {**of_tag[cell["system"]].condition, **{axis: cell[axis] for axis in counts}},
        ),
        file=lambda cell: "/".join(
            [cell["system"], *(str(cell[axis]) for axis in counts), f"draw{cell['seed']}.json"]
        ),
        settings=fine_tuned.SETTINGS[dataset],
        dataset=dataset,
        blocks=FOLDS,
        systems=TUNED,
        folder=f"runs/contrast/{name}",
        headline=OF_TYPES if types else HEADLINE,
        claims=(Claim("B1", criterion(TEXTBOOK)),),
        more=bank_rows,
        about=lambda given: f"{_about(given)}, {given['epochs']} epochs",
    )


FROZEN = {BOARDS: BOARD_STUDY, TILES: TILE_STUDY}
FINE_TUNED = _tuned(BOARDS, "Circuit boards, fine-tuned classifiers", types=False)
STUDIES = (
    *FROZEN.values(),
    FINE_TUNED,
    _tuned(TILES, "Magnetic tiles, fine-tuned classifiers", types=False),
    _tuned(BOARDS, "Circuit boards, fine-tuned without a type", types=True),
    _tuned(TILES, "Magnetic tiles, fine-tuned without a type", types=True),
)
