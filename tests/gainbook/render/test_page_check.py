"""What the build refuses on a page, by hand."""

from __future__ import annotations

import nbformat
from gainbook.render.page_check import LONGEST, Size, faults, size, too_long, without_headline


def notebook(*cells: nbformat.NotebookNode) -> nbformat.NotebookNode:
    return nbformat.v4.new_notebook(cells=list(cells))


def code(source: str, *tags: str, **data: str) -> nbformat.NotebookNode:
    shown = {kind.replace("_", "/"): value for kind, value in data.items()}
    outputs = [nbformat.v4.new_output("display_data", data=shown)] if shown else []
    return nbformat.v4.new_code_cell(source, outputs=outputs, metadata={"tags": list(tags)})


text = nbformat.v4.new_markdown_cell


def test_size_by_hand() -> None:
    page = notebook(
        text("{term}`12345 <a long term>`"),
        code("1234", "hide-input", text_markdown="123"),
        code("1234", "remove-input", text_html="<b>12</b><script>long()</script>"),
        code("1234", "remove-cell", text_markdown="123"),
        code("12", image_png="base64", text_plain="<Figure>"),
    )
    page.cells[-1].metadata["mystnb"] = {"figure": {"caption": "1"}}
    page.cells[1].outputs.append(nbformat.v4.new_output("stream", name="stdout", text="12"))
    page.cells[1].outputs.append(nbformat.v4.new_output("stream", name="stderr", text="12"))
    assert size(page) == Size(prose=5 + 3 + 2 + 2 + 1, code=4 + 2)
    assert size(page).total == 19


def test_length_and_share_of_code_are_limited() -> None:
    assert too_long(notebook(text("x" * LONGEST))) == []
    assert "25,001 characters" in too_long(notebook(text("x" * (LONGEST + 1))))[0]
    assert too_long(notebook(text("x" * 80), code("x" * 20))) == []
    assert (
        "21 of the page's 100 characters are code"
        in too_long(notebook(text("x" * 79), code("x" * 21)))[0]
    )


def test_a_figure_with_its_interval_stands_before_the_first_section() -> None:
    answered = code("", text_markdown="AUROC 0.91 [0.88, 0.94]")
    assert without_headline(notebook(text("# T"), answered, text("## Data"))) == []
    assert without_headline(notebook(text("# T\n\n0.3 [-0.1, 0.4]\n"))) == []
    assert without_headline(notebook(text("# T"), text("## Data"), answered)) != []


def test_only_chapters_are_limited() -> None:
    page = notebook(text("x" * (LONGEST + 1)))
    assert faults(page, "train_system") == []
    assert len(faults(page, "03_right_answer_wrong_reason")) == 2
