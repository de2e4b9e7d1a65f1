"""Number, reading time, folded code, appendix and glossary links of a page, by hand."""

from __future__ import annotations

import nbformat
import pytest
from gainbook.render import glossary_links
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


def tagged(cell: nbformat.NotebookNode, *tags: str) -> nbformat.NotebookNode:
    cell.metadata["tags"] = list(tags)
    return cell


def test_code_of_tables_stays_in_the_notebook_and_parameters_on_the_page() -> None:
    code = [tagged(nbformat.v4.new_code_cell("1"), "hide-input") for _ in range(2)]
    code[0].metadata["tags"].insert(0, "parameters")
    frame(notebook(nbformat.v4.new_markdown_cell("# T"), *code), "train_system")
    assert [one.metadata["tags"] for one in code] == [
        ["parameters", "hide-input"],
        ["remove-input"],
    ]


def test_tagged_cells_move_to_the_appendix_and_leave_a_link() -> None:
    text = nbformat.v4.new_markdown_cell
    cells = [
        text("# Title"),
        tagged(text("## Long table\n\nwords"), "appendix"),
        tagged(nbformat.v4.new_code_cell("1"), "appendix", "hide-input"),
        text("## Limits"),
        tagged(text("### Second\n\nmore\n\n#### Deeper"), "appendix"),
    ]
    page = notebook(*cells)
    appendix = frame(page, "train_system")
    assert [cell.source for cell in page.cells[1:]] == [
        "In the [appendix](train_system_appendix.ipynb): Long table.",
        "## Limits",
        "In the [appendix](train_system_appendix.ipynb): Second.",
    ]
    assert appendix is not None
    assert appendix.cells[0].source.startswith("# Appendix to Title\n")
    found = [cell.source for cell in appendix.cells[1:]]
    assert found == [cells[1].source, "1", "## Second\n\nmore\n\n### Deeper"]


def test_an_appendix_begins_with_a_heading() -> None:
    page = notebook(
        nbformat.v4.new_markdown_cell("# Title"),
        tagged(nbformat.v4.new_code_cell("table()"), "appendix"),
    )
    with pytest.raises(ValueError, match=r"expected a heading at the start .* found 'table\(\)'"):
        frame(page, "03_x")


GLOSSARY = """# Glossary

```{glossary}
soft mask
  Words.

mask
  The {term}`soft mask` too.

has mask, is defective
  Two.

agreement
  Of a mark.
```
"""


def test_the_first_use_of_a_term_is_linked_once_and_only_in_prose() -> None:
    known = glossary_links.terms(GLOSSARY)
    assert known == ["soft mask", "mask"]
    cell = nbformat.v4.new_markdown_cell(
        "# A mask\n\n`mask` and $mask$, [a mask](x.md)\n\n| mask |\n\n"
        "Soft masks, then a mask, a mask."
    )
    code = nbformat.v4.new_code_cell("mask = 1")
    assert glossary_links.link([code, cell], known) == ["soft mask", "mask"]
    assert cell.source.endswith(
        "{term}`Soft masks <soft mask>`, then a {term}`mask <mask>`, a mask."
    )
    assert cell.source.startswith("# A mask\n\n`mask` and $mask$, [a mask](x.md)\n\n| mask |")
