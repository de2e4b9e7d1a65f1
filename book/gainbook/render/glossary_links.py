"""Links from the first use of a term on a page to the glossary."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

_ENTRY = re.compile(r"^(?! )(\S.*)$", re.M)
AMBIGUOUS = {"agreement", "conflict", "front", "reading", "gate", "stage", "fold"}
"""Terms that the pages also use in their everyday sense; a page explains them where they matter."""
_KEPT = re.compile(
    r"```.*?^```|`[^`]*`|\$\$.*?\$\$|\$[^$]*\$|!?\[[^\]]*\]\([^)]*\)|\{\w+[^}]*\}`[^`]*`"
    r"|^#[^\n]*|^\|[^\n]*|^:::[^\n]*",
    re.M | re.S,
)
"""Code, formulas, links, roles, headings and tables: text that stays as it is."""


def terms(glossary: str) -> list[str]:
    """The terms of a glossary page, the longest first, so that one inside another comes later.

    Without those that name several things at once, and without `AMBIGUOUS`.
    """
    body = glossary.partition("```{glossary}")[2].partition("\n```")[0]
    found = [one for one in _ENTRY.findall(body) if "," not in one and one not in AMBIGUOUS]
    return sorted(found, key=len, reverse=True)


def link(cells: Sequence[Any], known: Sequence[str]) -> list[str]:
    """Link the first use of every term in the prose of Markdown cells, in place.

    Returns:
        The terms that were linked.
    """
    linked = []
    for term in known:
        pattern = re.compile(rf"(?<![\w-]){re.escape(term)}(?:s|es)?(?![\w-])", re.I)
        for cell in cells:
            if cell.cell_type == "markdown" and (changed := _first(cell.source, pattern, term)):
                cell.source = changed
                linked.append(term)
                break
    return linked


def _first(text: str, pattern: re.Pattern[str], term: str) -> str | None:
    """`text` with the first match outside of `_KEPT` linked; `None` without a match."""
    kept = [match.span() for match in _KEPT.finditer(text)]
    for match in pattern.finditer(text):
        if not any(start < match.end() and match.start() < end for start, end in kept):
            role = f"{{term}}`{match[0]} <{term}>`"
            return text[: match.start()] + role + text[match.end() :]
    return None
