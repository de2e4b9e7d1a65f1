"""What the built book makes of an executed notebook: a page of lecture length, and its appendix.

A page gets its number, the time to read it, its verdicts and links to the glossary. Code that
teaches is folded; code that writes tables and figures (`hide-input`) stays in the notebook, except
the parameters. Cells with the tag `appendix`, secondary studies and long tables, go to a page of
their own.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat

from gainbook.render import glossary_links
from gainbook.render.chapter_map import first_verdicts

GLOSSARY = Path(__file__).resolve().parents[2] / "glossary.md"
WORDS_PER_MINUTE = 200
"""A little slower than the 238 of silent reading of non-fiction (Brysbaert, J. Mem. Lang. 2019):
the pages have formulas, tables and figures."""
SHOWN = {"hide-input", "remove-cell", "remove-input"}
"""Tags of cells whose code is folded or absent already."""
APPENDIX = "appendix"
"""Tag of the cells of the second page, and the end of its name."""
_FENCE = re.compile(r"^```.*?^```", re.M | re.S)
_HEADING = re.compile(r"^#{2,3} (.+)$", re.M)
_WORD = re.compile(r"[A-Za-z][\w'-]*")


def frame(notebook: Any, name: str) -> Any | None:
    """Add number, reading time, verdicts and folded code to an executed notebook, in place.

    The number of chapter `15_your_own_data` is 15; a page without one keeps its title.

    Returns:
        The appendix, whose cells leave the notebook; `None` if no cell has the tag.
    """
    number = name.split("_")[0]
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if cell.cell_type == "code" and not SHOWN & set(tags):
            cell.metadata["tags"] = [*tags, "hide-input"]
        elif "hide-input" in tags and "parameters" not in tags:
            cell.metadata["tags"] = [tag if tag != "hide-input" else "remove-input" for tag in tags]
    first = notebook.cells[0]
    title, _, _ = first.source.partition("\n")
    if first.cell_type != "markdown" or not title.startswith("# "):
        raise ValueError(f"{name}: expected a title '# …' in the first cell, found {title!r}")
    if number.isdigit():
        title = f"# {int(number)}. {title.removeprefix('# ')}"
    appendix = _split(notebook, name, title)
    known = glossary_links.terms(GLOSSARY.read_text("utf-8"))
    for page in filter(None, (notebook, appendix)):
        glossary_links.link(page.cells, known)
    rest = first.source.partition("\n")[2]  # with its links
    first.source = f"{title}\n\n*{reading_time(notebook)} to read.*\n{rest}"
    if box := first_verdicts(name):
        notebook.cells.insert(1, nbformat.v4.new_markdown_cell(box))
    return appendix


def has_appendix(notebook: Any) -> bool:
    """Whether a cell has the tag `APPENDIX`."""
    return any(APPENDIX in cell.metadata.get("tags", []) for cell in notebook.cells)


def _split(notebook: Any, name: str, title: str) -> Any | None:
    """Take the tagged cells out of a notebook, into another; each run leaves a link behind.

    Raises:
        ValueError: a run of tagged cells that does not begin with a heading.
    """
    if not has_appendix(notebook):
        return None
    words = title.removeprefix("# ")
    number = name.split("_")[0]
    heading = f"chapter {int(number)}" if number.isdigit() else words
    opening = (
        f"# Appendix to {heading}\n\nStudies and tables to which [{words}]({name}.ipynb) refers."
    )
    kept: list[Any] = []
    moved: list[Any] = [nbformat.v4.new_markdown_cell(opening)]
    runs = itertools.groupby(notebook.cells, lambda cell: APPENDIX in cell.metadata.get("tags", []))
    for is_moved, group in runs:
        cells = list(group)
        if not is_moved:
            kept += cells
            continue
        prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        headings = _HEADING.findall(prose)
        if not (cells[0].cell_type == "markdown" and _HEADING.match(cells[0].source)):
            raise ValueError(
                f"{name}: expected a heading at the start of every run of cells with the tag "
                f"{APPENDIX!r}, found {cells[0].source[:60]!r}; tag its heading, too"
            )
        _promote(cells)
        moved += cells
        link = f"In the [appendix]({name}_{APPENDIX}.ipynb): {'; '.join(headings)}."
        kept.append(nbformat.v4.new_markdown_cell(link))
    notebook.cells = kept
    return nbformat.v4.new_notebook(cells=moved, metadata=notebook.metadata)


def _promote(cells: Sequence[Any]) -> None:
    """Raise the headings of a run by one level if its first one is no section's."""
    if cells[0].source.startswith("### "):
        for cell in cells:
            if cell.cell_type == "markdown":
                cell.source = re.sub(r"^#(#{2,} )", r"\1", cell.source, flags=re.M)


def reading_time(notebook: Any) -> str:
    """The minutes that the prose takes, without code: "11 minutes"."""
    prose = " ".join(
        _FENCE.sub("", cell.source) for cell in notebook.cells if cell.cell_type == "markdown"
    )
    minutes = max(1, round(len(_WORD.findall(prose)) / WORDS_PER_MINUTE))
    return "1 minute" if minutes == 1 else f"{minutes} minutes"
