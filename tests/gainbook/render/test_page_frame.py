"""Number, reading time and folded code of a page, by hand."""

from __future__ import annotations

import nbformat
import pytest
from gainbook.render.page_frame import frame, reading_time


def notebook(*cells: nbformat.NotebookNode) -> nbformat.NotebookNode:
    return nbformat.v4.new_notebook(cells=list(cells))


def test_number_time_and_folded_code() -> None:
    title = nbformat.v4.new_markdown_cell("# Does it look?\n\nIt may not.")
    codes = [nbformat.v4.new_code_cell("1 + 1") for _ in range(3)]
    codes[1].metadata["tags"] = ["remove-cell"]
    codes[2].metadata["tags"] = ["remove-stdout"]
    page = notebook(title, *codes)
    frame(page, "07_localization")
    assert title.source == "# 7. Does it look?\n\n*1 minute to read.*\n\nIt may not."
    tags = [code.metadata["tags"] for code in codes]
    assert tags == [["hide-input"], ["remove-cell"], ["remove-stdout", "hide-input"]]


def test_a_page_without_a_number_keeps_its_title() -> None:
    page = notebook(nbformat.v4.new_markdown_cell("# Train one system"))
    frame(page, "train_system")
    assert page.cells[0].source.startswith("# Train one system\n")


def test_prose_is_counted_and_code_is_not() -> None:
    code = "```bash\n" + "word " * 900 + "\n```\n"
    page = notebook(
        nbformat.v4.new_markdown_cell("word " * 300 + "\n\n" + code + "word " * 300),
        nbformat.v4.new_code_cell("word = 1\n" * 900),
    )
    assert reading_time(page) == "3 minutes"


def test_a_notebook_without_a_title_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a title '# …' in the first cell, found 'text'"):
        frame(notebook(nbformat.v4.new_markdown_cell("text")), "03_x")
