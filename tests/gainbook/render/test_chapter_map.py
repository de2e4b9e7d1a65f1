"""The map of chapters and the verdicts of a first screen."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from gainbook.chapters import studies
from gainbook.render.chapter_map import ANSWER, chapter_map, first_verdicts, question_and_answer

ROOT = Path(__file__).resolve().parents[3]
CHAPTERS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def write(path: Path, source: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(source)]), path)
    return path


def test_a_line_per_chapter_with_the_first_line_of_its_answer(tmp_path: Path) -> None:
    text = f"# Does it?\n\nWords.\n\n{ANSWER}It does, by .5 points. Surely.\nThe second line.\n"
    write(tmp_path / "notebooks/07_x.ipynb", text)
    write(tmp_path / "notebooks/train_system.ipynb", "# No chapter\n")
    last = chapter_map(tmp_path).splitlines()[-1]
    assert "[Does it?](../notebooks/07_x.ipynb)" in last
    assert "It does, by .5 points. Surely." in last
    assert "second" not in last
    assert len(chapter_map(tmp_path).splitlines()) == 3


def test_a_chapter_without_an_answer_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "notebooks/07_x.ipynb", "# Does it?\n\nWords.")
    with pytest.raises(ValueError, match=r"07_x\.ipynb: expected '# <title>' and"):
        question_and_answer(path)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_every_chapter_has_a_question_and_an_answer(path: Path) -> None:
    question, answer = question_and_answer(path)
    assert question
    assert 20 <= len(answer) <= 500


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_the_box_has_every_claim_that_the_chapter_judges(path: Path) -> None:
    box = first_verdicts(path.stem)
    ids = {c.id for s in studies().values() if s.notebook == path.stem for c in s.claims}
    if not ids:
        assert box == ""
    for id in ids:
        assert f"- **{id}, " in box
