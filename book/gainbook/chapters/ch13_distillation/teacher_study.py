"""Four ImageNet teachers by their accuracy: does a better classifier make a better detector?

The four have published top-1 accuracies from 72.9 to 77.5 %; three are of one family.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import pandas as pd

from gainbook.chapters.ch13_distillation.systems import (
    BANK,
    RD,
    RD_RAW,
    DetectorSystem,
    compare_detectors,
    detector_rows,
    on,
    run_detector,
)
from gainbook.lab.judge import Judgement, gains, verdict
from gainbook.lab.parameters import Parameters
from gainbook.lab.protocol import Pooled
from gainbook.lab.study import Claim, Headline, Measured, Study, on_boards
from gainbook.lab.tables import Value, find

DetectorPair = tuple[DetectorSystem, DetectorSystem]


class Teacher(NamedTuple):
    """A network with ImageNet weights."""

    backbone: str
    top1: float
    """Percent, of timm's published table of the chapter on choosing models."""
    weights: str | None
    """`None`: those of the run's parameters."""


TEACHERS = (
    Teacher("mobilenetv2_100", 72.910, None),
    Teacher("tf_efficientnet_lite0", 74.846, "package"),
    Teacher("tf_efficientnet_lite1", 76.674, "package"),
    Teacher("tf_efficientnet_lite2", 77.470, "package"),
)
"""From the least accurate to the most."""


def taught_by(teacher: Teacher, system: DetectorSystem) -> DetectorSystem:
    """A detector on a teacher, in a folder of its own."""
    named = on(system, teacher.backbone, teacher.weights)
    return named._replace(
        tag=f"{system.tag}-{teacher.backbone}", label=f"{system.label}, {teacher.backbone}"
    )


def on_all(system: DetectorSystem) -> tuple[DetectorSystem, ...]:
    """A detector on each of the teachers."""
    return tuple(taught_by(teacher, system) for teacher in TEACHERS)


BANKS, STUDENTS, BOARD_STUDENTS = on_all(BANK), on_all(RD), on_all(RD_RAW)
"""Memory banks on raw features; reverse distillation with the tiles' options, and as published for
boards, which have no grain."""


def pairs_of(
    *groups: Sequence[DetectorSystem],
) -> tuple[tuple[DetectorSystem, DetectorSystem], ...]:
    """Every teacher minus the least accurate one, and minus the smallest of its family."""
    return tuple(
        (better, group[place])
        for group in groups
        for place in (0, 1)
        for better in group[place + 1 :]
    )


def run_teacher(
    parameters: Parameters, system: DetectorSystem, only: tuple[int, ...] | None = None
) -> list[Pooled]:
    """`run_detector` on the system's weights, or else those of the parameters."""
    weights = system.weights or parameters.weights
    return run_detector(parameters, system._replace(weights=weights), only, progress=False)


def better_teacher(students: Sequence[DetectorSystem]) -> Callable[[pd.DataFrame], Judgement]:
    """D1: does a better classifier, as the teacher, make reverse distillation better?

    Image AUROC of reverse distillation on the most accurate of four ImageNet teachers (77.5 %)
    minus that on the least accurate (72.9 %), and minus that on the smallest of its own family
    (74.8 %), on the same images. Each is *shown* with an interval above 0 and excluded with one
    below 0.02. Confirmed if both are shown. The memory bank's differences stand beside them and are
    no part of the claim. Written before the run.
    """

    def criterion(rows: pd.DataFrame) -> Judgement:
        def ahead(group: Sequence[DetectorSystem], place: int) -> Value:
            return find(rows, group[-1], "auroc_difference", **group[place].as_other)

        shown = {
            "most accurate teacher minus least": ahead(students, 0),
            "minus the smallest of its family": ahead(students, 1),
        }
        beside = {
            "the first with a memory bank": ahead(BANKS, 0),
            "the second with a memory bank": ahead(BANKS, 1),
        }
        return Judgement(verdict([gains(value) for value in shown.values()]), shown | beside)

    criterion.__doc__ = better_teacher.__doc__
    return criterion


def _headline(*systems: DetectorSystem) -> Headline:
    measures: dict[str, Measured] = {
        "AUROC": ("auroc", None, {}),
        "recall at 5 % false alarms": ("recall_at_fpr05", None, {}),
        "AUPRO": ("aupro", "defect_map", {}),
    }
    return Headline(measures, systems=systems)


STUDY = Study(
    name="13_teachers",
    notebook="13_reverse_distillation",
    title="Four ImageNet teachers",
    systems=(*STUDENTS, *BANKS),
    pairs=pairs_of(STUDENTS, BANKS),
    run=run_teacher,
    rows=detector_rows,
    compare=compare_detectors,
    profile="teachers",
    made_by="python tools/study.py 13_teachers --data-root path/to/magnetic-tile --workers 2 "
    "--output-dir runs/teachers --results book/results/13_teachers.json",
    headline=_headline(*STUDENTS, *BANKS),
    claims=(Claim("D1", better_teacher(STUDENTS)),),
)
BOARD_STUDY = on_boards(
    STUDY,
    (*BOARD_STUDENTS, *BANKS),
    pairs=pairs_of(BOARD_STUDENTS, BANKS),
    headline=_headline(*BOARD_STUDENTS, *BANKS),
    claims=(Claim("D1", better_teacher(BOARD_STUDENTS)),),
    made_by="python tools/study.py 13_teachers_boards --data-root path/to/deep-pcb --workers 2 "
    "--epochs 20 --batch-size 8 --learning-rate 2e-3 --output-dir runs/teachers_boards "
    "--results book/results/13_teachers_boards.json",
)
"""With the detectors' own recipe."""
