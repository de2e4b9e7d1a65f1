"""The claims that the book tests: one table of all verdicts, and a claim's text on a page."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import pandas as pd

from gainbook.chapters import CLAIM_WORDS, studies
from gainbook.lab.judge import MEANING, NOT_RUN, Judgement
from gainbook.lab.results_file import ResultsFile, stored_results
from gainbook.lab.seed_study import SeedStudy
from gainbook.lab.study import BOARDS, Claim, Results, Study, judge, judge_stored
from gainbook.lab.tables import Value, markdown

MOST = 3
"""Figures per cell of the table; a chapter has them all."""


class Judged(NamedTuple):
    """A study's verdict on a claim."""

    study: Study | SeedStudy
    claim: Claim
    judgement: Judgement


def judged(id: str, stored: Mapping[str, ResultsFile]) -> list[Judged]:
    """The verdicts of every study that judges a claim, in order of the chapters."""
    return [
        Judged(study, claim, judge_stored(claim, stored.get(name)))
        for name, study in studies().items()
        for claim in study.claims
        if claim.id == id
    ]


UNSIGNED = ("ratio", "remaining")
"""Words in the names of figures that have an interval and are no differences."""


def figure_text(value: Value, name: str = "") -> str:
    """Differences, which have an interval, with their sign; small figures with a digit more."""
    size = abs(value.value)
    digits = 3 if 0 < size < 0.1 else 2 if size < 100 else 0
    is_difference = not math.isnan(value.low) and not any(word in name for word in UNSIGNED)
    return value.text(digits, is_difference)


def figures_text(judgement: Judgement, most: int | None = None) -> str:
    """The figures that a verdict rests on, separated by semicolons."""
    texts = [
        f"{name} {figure_text(value, name)}"
        for name, value in judgement.figures.items()
        if not math.isnan(value.value)
    ]
    more = []
    if most is not None and len(texts) > most:
        more = [f"{len(texts) - most} more in the chapter"]
    return "; ".join(texts[:most] + more)


def claims_table(stored: Mapping[str, ResultsFile], pages: frozenset[str] = frozenset()) -> str:
    """One line per claim and study: verdict and the figures it rests on.

    `pages` are the notebooks that exist, which are linked.
    """
    lines = []
    for id, words in CLAIM_WORDS.items():
        every = judged(id, stored)
        verdicts = [one for one in every if one.judgement.verdict != NOT_RUN] or every
        if not verdicts:
            lines.append([id, words, "–", NOT_RUN, ""])
        for place, (study, _, judgement) in enumerate(verdicts):
            number = study.notebook[:2]
            link = f"[{number}](../notebooks/{study.notebook}.ipynb)"
            named = [id, words] if not place else ["", ""]
            verdict = judgement.verdict
            lines.append(
                [
                    *named,
                    (link if study.notebook in pages else number) + _parts(study),
                    verdict if verdict == NOT_RUN else f"**{verdict}**",
                    figures_text(judgement, MOST),
                ]
            )
    return markdown(["", "claim", "chapter", "verdict", "figures"], lines, is_text=True)


def meanings() -> str:
    """The verdict words and their meaning, as a list."""
    return "\n".join(f"- *{word}*: {meaning}." for word, meaning in MEANING.items())


def claim_text(
    id: str,
    study: Study | SeedStudy,
    rows: pd.DataFrame | None = None,
    live: pd.DataFrame | None = None,
    most: int | None = None,
) -> str:
    """A claim's verdict on a page, with its figures and the verdicts of the other pages.

    Without `rows` it is judged by the study's stored results, so that the results page and the
    chapter agree and no verdict depends on the clock of a build. With `rows`, of a run on the
    reader's data, it is judged by those and by the `live` rows. `most` figures are written; `None`:
    all.
    """
    claim = study.claim(id)
    if rows is None:
        judgement = judge_stored(claim, stored_results(study.name))
    else:
        judgement = judge(claim, rows, live)
    figures = figures_text(judgement, most)
    text = f"**{id}, {CLAIM_WORDS[id]}: {judgement.verdict}.**" + (
        f" {figures}." if figures else ""
    )
    others = [
        f"{_place(one, study)}: *{verdict.verdict}*"
        for name, one in studies().items()
        if name != study.name
        for other in one.claims
        if other.id == id
        for verdict in [judge_stored(other, stored_results(name))]
        if verdict.verdict != NOT_RUN
    ]
    return text + (f" Also judged in {'; '.join(others)}." if others else "")


def stored_verdicts(study: Study | SeedStudy, where: str) -> str:
    """A paragraph per claim of a study that stands beside a chapter's own, by its stored results.

    Empty where nothing is stored. `where` names its data in words, as "board tiles".
    """
    file, lines = stored_results(study.name), []
    for claim in study.claims:
        judgement = judge_stored(claim, file)
        if judgement.verdict != NOT_RUN:
            figures = figures_text(judgement)
            lines.append(f"On {where} {claim.id} is **{judgement.verdict}**: {figures}.")
    return "\n\n".join(lines)


def _place(one: Study | SeedStudy, shown: Study | SeedStudy) -> str:
    """Where another study judges a claim: a chapter, or a study of the same chapter."""
    if one.notebook == shown.notebook:
        return one.title
    return f"[chapter {int(one.notebook[:2])}]({one.notebook}.ipynb)" + _parts(one)


def _parts(study: Study | SeedStudy) -> str:
    """The parts of a study, in brackets, where they are not the magnetic tiles."""
    if isinstance(study, Study):
        return " (board tiles)" if study.profile == BOARDS else ""
    names = {"synthetic": " (synthetic parts)", "deep-pcb": " (board tiles)"}
    return names.get(study.dataset, "")


def claim_of(id: str, study: Study | SeedStudy, results: Results) -> str:
    """`claim_text` by the rows of a run on the reader's data, or by the stored results."""
    return claim_text(id, study, results.rows if results.pooled else None)
