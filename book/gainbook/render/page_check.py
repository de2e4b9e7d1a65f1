"""What the build refuses on a page: too long, too much code, no figures, pictures without words."""

from __future__ import annotations

import itertools
import re
from typing import Any, NamedTuple

from gainbook.render.page_frame import APPENDIX

_ROLE = re.compile(r"\{term\}`([^<`]*) <[^>]*>`")
_TAG = re.compile(r"<script.*?</script>|<[^>]*>", re.S)
_INTERVAL = re.compile(r"\d \[-?[\d.,]+, -?[\d.,]+\]")
LONGEST, MOST_CODE = 25_000, 0.2
"""Characters of a chapter's page, and the share of them that may be code."""


class Size(NamedTuple):
    """Characters that a page shows, folded code included."""

    prose: int
    """Markdown, captions and displayed text."""
    code: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.prose + self.code


def size(notebook: Any) -> Size:
    """The size of a page, after `frame`."""
    prose = code = 0
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if cell.cell_type == "markdown":
            prose += len(_ROLE.sub(r"\1", cell.source))
            continue
        if "remove-cell" in tags:
            continue
        code += len(cell.source) if "remove-input" not in tags else 0
        caption = cell.metadata.get("mystnb", {}).get("figure", {}).get("caption", "")
        prose += len(caption) + sum(map(_shown, cell.get("outputs", [])))
    return Size(prose, code)


def _shown(output: Any) -> int:
    """Characters of one output; 0 for a picture, a widget or a warning."""
    if output.output_type == "stream":
        return len(output.text) if output.name == "stdout" else 0
    data = output.get("data", {})
    if any(kind.startswith("image/") or "widget" in kind for kind in data):
        return 0
    if "text/markdown" in data:
        return len(data["text/markdown"])
    if "text/html" in data:
        return len(_TAG.sub("", data["text/html"]))
    return len(data.get("text/plain", ""))


def faults(notebook: Any, name: str) -> list[str]:
    """What the build refuses on an executed, framed page, as sentences; chapters have a number."""
    found = undescribed_pictures(notebook)
    if name[:2].isdigit():
        found += too_long(notebook) + without_headline(notebook)
    return found


def too_long(notebook: Any) -> list[str]:
    """What a framed page has too much of, as sentences."""
    found = size(notebook)
    faults = []
    if found.total > LONGEST:
        faults.append(
            f"the page has {found.total:,} characters, at most {LONGEST:,} are expected; shorten "
            f"it, or give secondary cells the tag {APPENDIX!r}"
        )
    if found.code > MOST_CODE * found.total:
        faults.append(
            f"{found.code:,} of the page's {found.total:,} characters are code, at most "
            f"{MOST_CODE:.0%} are expected; give cells that write tables the tag hide-input"
        )
    return faults


def without_headline(notebook: Any) -> list[str]:
    """A fault if no figure with an interval stands before the first section."""
    opening = itertools.takewhile(
        lambda cell: not re.search(r"^## ", _text(cell), re.M), notebook.cells
    )
    if any(_INTERVAL.search(_text(cell)) for cell in opening):
        return []
    return ["no figure with an interval stands before the first section; answer the question first"]


def undescribed_pictures(notebook: Any) -> list[str]:
    """Cells whose pictures lack an alternative text or a caption."""
    faults = []
    for number, cell in enumerate(notebook.cells):
        kinds = {kind for output in cell.get("outputs", []) for kind in output.get("data", {})}
        about = cell.metadata.get("mystnb", {})
        alt = about.get("image", {}).get("alt", "").strip()
        caption = about.get("figure", {}).get("caption", "").strip()
        if any(kind.startswith("image/") for kind in kinds) and not (alt and caption):
            start = cell.source.strip().split("\n")[0]
            faults.append(
                f"cell {number} ({start!r}) shows a picture without alt text or caption; see "
                "Notebooks in CONTRIBUTING.md"
            )
    return faults


def _text(cell: Any) -> str:
    """The prose of a cell: its Markdown, or the Markdown that it displays."""
    if cell.cell_type == "markdown":
        return str(cell.source)
    outputs = [output.get("data", {}) for output in cell.get("outputs", [])]
    return "\n".join(data.get("text/markdown", "") for data in outputs)
