"""The opening page's map of chapters, and the verdicts on a chapter's first screen."""

from __future__ import annotations

from pathlib import Path

import nbformat

from gainbook.chapters import studies
from gainbook.lab.judge import NOT_RUN
from gainbook.lab.results_file import stored_results
from gainbook.lab.study import judge_stored
from gainbook.lab.tables import markdown
from gainbook.render.claims import MOST, claim_text

ANSWER = "**The answer.**\n"
"""Begins the answer in a chapter's first cell."""


def question_and_answer(path: Path) -> tuple[str, str]:
    """A chapter's title, and the first line of its answer.

    Raises:
        ValueError: the first cell has no title or no answer.
    """
    source = nbformat.read(path, as_version=4).cells[0].source
    title = source.partition("\n")[0]
    answer = source.partition(ANSWER)[2].partition("\n")[0]
    if not title.startswith("# ") or not answer:
        raise ValueError(
            f"{path.name}: expected '# <title>' and {ANSWER.strip()!r} in the first cell, found "
            f"{source[:60]!r}"
        )
    return title.removeprefix("# "), answer


def chapter_map(root: Path) -> str:
    """One line per chapter: number, question, the first line of its answer."""
    lines = []
    for path in sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        question, answer = question_and_answer(path)
        lines.append([f"{int(path.stem[:2])}", f"[{question}](../notebooks/{path.name})", answer])
    return markdown(["", "question", "answer"], lines, is_text=True)


def first_verdicts(notebook: str) -> str:
    """The verdicts of a chapter on the claims that it judges, as a box; "" without any.

    Of several studies that judge a claim, the first has its figures; the others are named.
    """
    texts: dict[str, str] = {}
    for study in studies().values():
        if study.notebook != notebook:
            continue
        for claim in study.claims:
            if judge_stored(claim, stored_results(study.name)).verdict != NOT_RUN:
                texts.setdefault(claim.id, claim_text(claim.id, study, most=MOST))
    if not texts:
        return ""
    body = "\n".join(f"- {text}" for text in texts.values())
    return f"```{{admonition}} What the stored runs decide\n:class: note\n{body}\n```"
