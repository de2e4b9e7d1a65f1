"""Chapter 03, right answer for the wrong reason: three studies, claim A1 and the claim of light."""

from __future__ import annotations

from typing import Any

import pandas as pd

from gainbook.chapters.ch03_reason import boards
from gainbook.chapters.ch03_reason.exposure import shift_rows
from gainbook.chapters.ch03_reason.shortcut import (
    AGREEMENTS,
    EXCESS,
    MAPS,
    PLAIN,
    S5,
    SEEDS,
    SYSTEMS,
    excess_rows,
    minus_plain,
    subject,
    train_and_measure,
    write_maps,
)
from gainbook.lab import catalogue
from gainbook.lab.catalogue import PLAIN_DARK, S1_COARSE, S1_FINE, S5_DARK
from gainbook.lab.judge import (
    INTERESTING,
    RATE_MARGIN,
    UNDECIDED,
    Judgement,
    all_of,
    falls,
    gains,
    keeps,
    verdict,
)
from gainbook.lab.run_system import SMALL
from gainbook.lab.seed_study import SeedStudy, against_systems
from gainbook.lab.study import VERDICTS, Claim, Headline, Study, nothing
from gainbook.lab.systems import System
from gainbook.lab.tables import Value, find

NOTEBOOK = "03_right_answer_wrong_reason"
QUICK: dict[str, Any] = SMALL | {
    "image_size": 96,
    "epochs": 10,
    "batch_size": 16,
    "learning_rate": 3e-3,
}
"""Parameters of the live part."""

REASON = Study(
    name=NOTEBOOK,
    notebook=NOTEBOOK,
    title="Right answer, wrong reason",
    systems=(S1_COARSE, S1_FINE),
    headline=Headline(
        {
            **VERDICTS,
            "PointGame of the evidence": ("point_game", "cam", {}),
            "wrong reason": ("wrong_reason", "cam", {}),
        }
    ),
)

ALL_LIGHT = catalogue.PLAIN._replace(label="S1, all exposures")
"""Trained on all exposures, to show the effect of the brighter photographs without a shift."""

EXPOSURE = Study(
    name="03_exposure_shift",
    notebook=NOTEBOOK,
    title="Another light",
    systems=(PLAIN_DARK, S5_DARK, ALL_LIGHT),
    pairs=((S5_DARK, PLAIN_DARK), (ALL_LIGHT, PLAIN_DARK)),
    keep=nothing,
    extra=shift_rows,
    profile="components",
    options={"real_part": "exposures"},
    headline=Headline(
        {
            "AUROC": ("auroc", None, {}),
            "recall": ("recall", None, {}),
            "PointGame of the evidence": ("point_game", "cam", {}),
        },
        ("light",),
    ),
)


def judge_light(rows: pd.DataFrame) -> Judgement:
    """Does S5 lose less than S1 in another light?

    Criterion, written before the run: of S5 minus S1, both trained on the dark photographs, the
    AUROC in the shifted light is above 0, and so is the difference of the two shifts. The smallest
    interesting difference came after the run.
    """
    against = PLAIN_DARK.as_other
    better = find(rows, S5_DARK, "auroc_difference", **against, light="shifted")
    steadier = find(rows, S5_DARK, "auroc_shift_difference", **against)
    figures = {"AUROC in the shifted light": better, "AUROC's change by the shift": steadier}
    return Judgement(verdict([gains(better)], [gains(steadier)]), figures)


JUDGED = (1.0, 0.9)
"""The agreements at which claim A1 is judged."""


def judge_guidance(rows: pd.DataFrame, system: System = S5) -> Judgement:
    """A1, its causal half: does supervising the map keep the verdict independent of the mark?

    Of the system minus S1, seed by seed, at an agreement of 0.9 and of 1: fewer verdicts change
    with the mark, and AUROC with an unrelated mark is higher, both intervals beyond 0. A network
    that flags fewer parts passes the first condition and fails the second. Besides, at an
    agreement of 1 at most 0.05 more verdicts change with the mark than those of the same system
    trained with an unrelated mark, by the upper end of the interval.

    Without the last condition, or at one agreement only, the claim is refined: guidance reduces
    the dependence and does not remove it. The smallest interesting differences came after the
    study; the rest was written before it.
    """
    figures: dict[str, Value] = {}
    helps = []
    for agreement in JUDGED:
        about = {"agreement": agreement, **PLAIN.as_other}
        change = find(rows, system, "verdict_change_difference", **about)
        auroc = find(rows, system, "auroc_difference", mark="unrelated", **about)
        figures[f"verdicts that change with the mark (agreement {agreement:g})"] = change
        figures[f"AUROC with an unrelated mark (agreement {agreement:g})"] = auroc
        helps.append(all_of([falls(change, RATE_MARGIN), gains(auroc, INTERESTING["auroc"])]))
    excess = find(rows, system, EXCESS, agreement=JUDGED[0])
    figures["verdicts that change with the mark, minus those of the control"] = excess
    value, low, high, n = excess
    is_independent = keeps(Value(-value, -high, -low, n), RATE_MARGIN)
    return Judgement(verdict(helps, [is_independent]), figures)


SHORTCUT = SeedStudy(
    name="03_shortcut_study",
    notebook=NOTEBOOK,
    title="A printed mark that agrees with the label",
    axes={
        "system": tuple(system.tag for system in SYSTEMS),
        "agreement": AGREEMENTS,
        "seed": SEEDS,
    },
    train_and_measure=train_and_measure,
    subject=subject,
    file=lambda cell: f"{cell['system']}/agreement{cell['agreement']:g}/seed{cell['seed']}.json",
    against=minus_plain,
    more=excess_rows,
    unbounded=("mark_effect",),
    of_parts=("region_area",),
    systems=SYSTEMS,
    folder="runs/shortcut",
    also_written=(MAPS,),
    write_more=write_maps,
    headline=Headline(
        {
            "verdicts that change with the mark": ("verdict_change", None, {}),
            "AUROC with an unrelated mark": ("auroc", None, {"mark": "unrelated"}),
        },
        ("agreement",),
        {"agreement": (0.5, 1.0)},
    ),
    claims=(Claim("A1", judge_guidance),),
)


def judge_boards(rows: pd.DataFrame) -> Judgement:
    """A1 on boards: does supervising the map keep the verdict independent of the board's design?

    Criterion, written before the run, at an agreement of 1: S5 keeps at least half of the AUROC on
    balanced tiles that S1 loses against the control, and its AUROC there is above S1's; both
    intervals beyond 0. After the runs came: without a loss of S1, interval above 0, the claim is
    open; and the first part is excluded by an interval below 0, because the smallest interesting
    difference of AUROC is as large as the whole loss of S1.
    """
    at: dict[str, Any] = {"agreement": 1.0}
    kept = find(rows, boards.S5, boards.KEPT, **at)
    against = {**at, **boards.PLAIN.as_other}
    better = find(rows, boards.S5, "auroc_difference", boards=boards.BALANCED, **against)
    figures = {
        "Half of S1's loss of AUROC, minus S5's loss": kept,
        "AUROC on balanced tiles, S5 minus S1": better,
    }
    least = INTERESTING["auroc"]
    lost = find(rows, boards.PLAIN, boards.LOSS, **at)
    if not lost.low > 0:
        return Judgement(UNDECIDED, figures)
    return Judgement(verdict([gains(kept, 0.0), gains(better, least)]), figures)


BOARDS = SeedStudy(
    name=boards.NAME,
    notebook=NOTEBOOK,
    title="Defects of some board designs, good boards of others",
    axes={
        "system": tuple(system.tag for system in boards.SYSTEMS),
        "agreement": boards.AGREEMENTS,
        "seed": SEEDS,
    },
    train_and_measure=boards.train_and_measure,
    subject=boards.subject,
    file=lambda cell: f"{cell['system']}/agreement{cell['agreement']:g}/seed{cell['seed']}.json",
    settings=boards.SETTINGS,
    against=against_systems(boards.SYSTEMS),
    more=boards.loss_rows,
    dataset="deep-pcb",
    systems=boards.SYSTEMS,
    folder="runs/confounder",
    about=lambda given: (
        f"{given['tiles']} defective and as many normal board tiles of {given['image_size']} px, "
        f"{given['backbone']}, {given['epochs']} epochs"
    ),
    headline=Headline(
        {
            f"AUROC, {words}": ("auroc", None, {"boards": test})
            for words, test in (
                ("agreeing tiles", boards.AS_IN_TRAINING),
                ("balanced tiles", boards.BALANCED),
                ("unseen design", boards.NEW),
            )
        },
        ("agreement",),
        {"agreement": (0.5, 1.0)},
    ),
    claims=(Claim("A1", judge_boards),),
)  # fmt: skip
STUDIES = (REASON, EXPOSURE, SHORTCUT, BOARDS)
