"""What the built book adds to a page: number, time to read, verdicts, folded code."""

from __future__ import annotations

import re
from typing import Any

import nbformat

from gainbook.render.chapter_map import first_verdicts

WORDS_PER_MINUTE = 200
"""A little slower than the 238 of silent reading of non-fiction (Brysbaert, J. Mem. Lang. 2019):
the pages have formulas, tables and figures."""
SHOWN = {"hide-input", "remove-cell", "remove-input"}
"""Tags of cells whose code is folded or absent already."""
_FENCE = re.compile(r"^```.*?^```", re.M | re.S)
_WORD = re.compile(r"[A-Za-z][\w'-]*")


def frame(notebook: Any, name: str) -> None:
    """Add number, reading time, verdicts and folded code to an executed notebook, in place.

    The number of chapter `15_your_own_data` is 15; a page without one keeps its title.
    """
    number = name.split("_")[0]
    for cell in notebook.cells:
        if cell.cell_type == "code" and not SHOWN & set(cell.metadata.get("tags", [])):
            cell.metadata["tags"] = [*cell.metadata.get("tags", []), "hide-input"]
    first = notebook.cells[0]
    title, _, rest = first.source.partition("\n")
    if first.cell_type != "markdown" or not title.startswith("# "):
        raise ValueError(f"{name}: expected a title '# …' in the first cell, found {title!r}")
    if number.isdigit():
        title = f"# {int(number)}. {title.removeprefix('# ')}"
    first.source = f"{title}\n\n*{reading_time(notebook)} to read.*\n{rest}"
    if box := first_verdicts(name):
        notebook.cells.insert(1, nbformat.v4.new_markdown_cell(box))


def reading_time(notebook: Any) -> str:
    """The minutes that the prose takes, without code: "11 minutes"."""
    prose = " ".join(
        _FENCE.sub("", cell.source) for cell in notebook.cells if cell.cell_type == "markdown"
    )
    minutes = max(1, round(len(_WORD.findall(prose)) / WORDS_PER_MINUTE))
    return "1 minute" if minutes == 1 else f"{minutes} minutes"
